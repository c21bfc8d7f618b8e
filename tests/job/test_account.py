"""The account balances, what is rejected is kept, and too much of it stops the run."""

import base64
import json
import os

import pytest
from helpers import files_below, play, song, write_input

import etl

BAD_UTF8 = b'{"page":"caf\xe9"}'
CLASSES = ("blank", "malformed", "invalid", "out_of_scope", "duplicate", "key_conflict")


def plays(count):
    return [play(itemInSession=item) for item in range(count)]


def table_files(output):
    found = files_below(output)
    return {name: file for name, file in found.items() if not name.startswith("_etl")}


def test_every_rejected_line_is_kept_with_its_file_and_reason(job, tmp_path):
    conflict = play(itemInSession=0, location="Zürich")
    songs = [song(), b"[]", song(duration=0)]
    events = [[*plays(9), BAD_UTF8, b"{}", b""], [b"x\r", conflict]]
    write_input(tmp_path / "in", songs, events)
    result = job(tmp_path / "in", "--max-rejected", "1")
    assert result.code == 0, result.err
    first, second = "log_data/2018/00-events.json", "log_data/2018/01-events.json"
    kept = []
    for row in result.quarantine():
        kept.append((row["file"], row["reason"], row.get("raw"), row.get("raw_base64")))
    conflicts = [row for row in kept if row[1].startswith("another play with the same userId")]
    assert sorted(row for row in kept if row not in conflicts) == [
        (first, "no page", "{}", None),
        (first, "not UTF-8", None, base64.b64encode(BAD_UTF8).decode()),
        (second, "not exactly one JSON object", "x", None),
        ("song_data/A/TR00001.json", "not exactly one JSON object", "[]", None),
        ("song_data/A/TR00002.json", "duration not positive", json.dumps(song(duration=0)), None),
    ]
    account = result.report["events"]
    assert [account[name] for name in CLASSES] == [0, 2, 1, 0, 0, 1]
    assert account["songplays"] == 9
    assert account["lines"] == 13


def test_a_key_conflict_is_kept_as_the_fields_that_the_job_uses(job, tmp_path):
    unused = {"auth", "method", "registration", "status"}
    write_input(tmp_path / "in", [song()], [[play(level=None), play(), play()]])
    result = job(tmp_path / "in", "--max-rejected", "0")
    assert result.code == 0, result.err
    [kept] = result.quarantine()
    assert kept["file"] == "log_data/2018/00-events.json"
    expected = {name: value for name, value in play().items() if name not in unused}
    del expected["level"]
    assert json.loads(kept["raw"]) == expected
    assert f"/_etl/quarantine/{result.report['run']}" in result.out


@pytest.mark.parametrize("side", ["song_data", "log_data"])
def test_two_percent_malformed_is_refused_and_the_tables_stay(job, tmp_path, side):
    write_input(tmp_path / "in", [song()], [plays(5)])
    before = table_files(job(tmp_path / "in").output)
    if side == "log_data":
        write_input(tmp_path / "in", [song()], [[*plays(49), b"x"]])
    else:
        songs = [song(song_id=f"SO{number}") for number in range(49)]
        write_input(tmp_path / "in", [*songs, b"x"], [plays(5)])
    second = job(tmp_path / "in")
    assert (second.code, len(second.err.splitlines())) == (3, 1)
    assert f"/in/{side}: 1 of 50 lines are malformed or invalid, more than" in second.err
    assert "MAX_REJECTED = 0.01" in second.err
    assert "the published tables are untouched" in second.err
    assert [row["raw"] for row in second.quarantine()] == ["x"]
    assert second.report["exit"] == 3
    assert table_files(second.output) == before


def test_a_share_is_compared_exactly(job, tmp_path):
    """29 of 100 is not more than 0.29, though 0.29 * 100 is less than 29."""
    write_input(tmp_path / "in", [song()], [[*plays(71), *[b"x"] * 29]])
    assert job(tmp_path / "in", "--max-rejected", "0.29").code == 0
    assert job(tmp_path / "in", "--max-rejected", "0.2899").code == 3


@pytest.mark.parametrize(
    ("songs", "events"),
    [
        ([song(title="")], [play()]),
        ([song()], [play(page="Home")]),
    ],
)
def test_no_valid_song_or_no_play_at_all_is_refused(job, tmp_path, songs, events):
    write_input(tmp_path / "in", songs, [events])
    assert job(tmp_path / "in", "--max-rejected", "1").code == 3


CHANGES = {
    "a song changes": ("song_data/A/TR00000.json", "{}"),
    "a log file grows": ("log_data/2018/00-events.json", "{}\n{}"),
    "a log file goes": ("log_data/2018/00-events.json", None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_object_that_changes_while_it_is_read_stops_the_run(quick, monkeypatch, change):
    """Also one that has the same size as before; new objects wait for the next run."""
    key, text = CHANGES[change]
    build = etl.build

    def meddle(run):
        build(run)
        path = f"{run.source.path}/{key}"
        os.remove(path)
        if text:
            run.source.write(key, text.encode())
        run.source.write("log_data/new.json", b"{}")

    monkeypatch.setattr(etl, "build", meddle)
    write_input(quick.source, [{"version": 1}], [[b"{}"]])
    result = quick()
    assert result.code == 1
    assert f"input changed while it was read: {key}; run again" in result.err
    assert "nothing is published" in result.err
    assert table_files(result.output) == {}


def test_what_is_no_input_is_ignored_and_counted(job, tmp_path):
    """Also if names of INPUT begin with what hides a file, and Java writes them percent-encoded."""
    source = tmp_path / "a b" / "_é %41 [x]"
    write_input(source, [song()], [plays(3)])
    ignored = (
        "_x.json",
        ".x.json",
        "x.JSON",
        "x.txt",
        "_d/x.json",
        "_a=b/x.json",
        ".d/y/x.json",
    )
    for name in ignored:
        path = source / "log_data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not JSON")
    for side in ("song_data", "log_data"):
        (source / side / "broken.json").symlink_to("nowhere.json")
        os.mkfifo(source / side / "pipe.json")
    result = job(source)
    assert result.code == 0, result.err
    assert result.report["events"]["lines"] == 3
    assert "song_data: 1 files to read, 2 others ignored" in result.out
    assert "log_data: 1 files to read, 9 others ignored" in result.out


def test_names_with_odd_characters_are_read_and_quarantined_under_their_name(job, tmp_path):
    odd = "log_data/a #1 100%2F+é=[x]{y}*.json"
    write_input(tmp_path / "in [1]", [song()], [plays(3)])
    (tmp_path / "in [1]" / odd).write_text("x")
    result = job(tmp_path / "in [1]", "--max-rejected", "0.5", output=tmp_path / "out #1 %41")
    assert result.code == 0, result.err
    assert [row["file"] for row in result.quarantine()] == [odd]
