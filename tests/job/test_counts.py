"""Every line is counted, what is rejected is kept, and too much of it stops the run."""

import base64
import json
import os

import pytest

import etl
from tests.helpers import files_below, play, song, write_input

BAD_UTF8 = b'{"page":"caf\xe9"}'
SKIPPED = "skipped 2, such as log_data/2018/b.csv; names must end in .json, .jsonl, .ndjson"


def plays(count):
    return [play(itemInSession=item) for item in range(count)]


def table_files(output):
    found = files_below(output)
    return {name: file for name, file in found.items() if not name.startswith("_etl")}


def test_every_rejected_line_is_kept_with_its_file_and_reason(job, tmp_path):
    """The most frequent reasons are on the last screen, with a file each."""
    conflict = play(itemInSession=0, location="Zürich")
    songs = [song(), b"[]", song(duration=0)]
    events = [[*plays(9), BAD_UTF8, b"{}", b"{}", b""], [b"x\r", conflict]]
    write_input(tmp_path / "in", songs, events)
    result = job(tmp_path / "in", "--max-rejected", "1")
    assert result.code == 0, result.err
    first, second = "log_data/2018/00-events.json", "log_data/2018/01-events.json"
    lines, conflicts = [], []
    for row in result.quarantine():
        kept = (row["file"], row["reason"], row.get("raw"), row.get("raw_base64"))
        (conflicts if "another play" in row["reason"] else lines).append(kept)
    array = "a JSON array, not one object per line"
    assert sorted(lines) == [
        (first, "not UTF-8", None, base64.b64encode(BAD_UTF8).decode()),
        (first, "page is missing", "{}", None),
        (first, "page is missing", "{}", None),
        (second, "not a JSON object", "x", None),
        ("song_data/A/TR00001.json", array, "[]", None),
        ("song_data/A/TR00002.json", "duration is not positive", json.dumps(songs[2]), None),
    ]
    # a key conflict is kept as the fields that the job uses
    [(file, _, raw, _)] = conflicts
    unused = {"auth", "method", "registration", "status"}
    assert file in (first, second)
    assert json.loads(raw) == {name: conflict[name] for name in conflict.keys() - unused}
    assert f"log_data: rejected 2 × page is missing, first in {first}" in result.err
    assert f"/_etl/quarantine/{result.summary['run']}" in result.out


@pytest.mark.parametrize("dataset", ["song_data", "log_data"])
def test_two_percent_malformed_is_refused_and_the_tables_stay(job, tmp_path, dataset):
    write_input(tmp_path / "in", [song()], [plays(5)])
    before = table_files(job(tmp_path / "in").output)
    if dataset == "log_data":
        # blank lines take no part
        write_input(tmp_path / "in", [song()], [[*plays(49), b"x", *[b""] * 50]])
    else:
        songs = [song(song_id=f"SO{number}") for number in range(49)]
        write_input(tmp_path / "in", [*songs, b"x"], [plays(5)])
    result = job(tmp_path / "in")
    assert result.code == 3
    assert f"/in/{dataset}: rejected 2.0% of the lines" in result.error
    assert "MAX_REJECTED = 0.01 allows less; the published tables are unchanged" in result.error
    assert f"{dataset}: rejected 1 × not a JSON object, first in " in result.err
    assert [row["raw"] for row in result.quarantine()] == ["x"]
    assert result.summary["exit"] == 3
    assert table_files(result.output) == before


def test_a_day_of_events_on_one_line_counts_as_a_day(job, tmp_path):
    """One of 201 lines, but a twentieth of the bytes; the file is named."""
    day = b"".join(json.dumps(event).encode() for event in plays(10))
    write_input(tmp_path / "in", [song()], [plays(200), [day]])
    result = job(tmp_path / "in")
    assert result.code == 3
    assert "0.5% of the lines and 4.7% of the bytes" in result.error
    assert "text after the JSON object, first in log_data/2018/01-events.json" in result.err


def test_a_share_is_compared_exactly(job, tmp_path):
    """29 of 100 is not more than 0.29, though 0.29 * 100 is less than 29."""
    write_input(tmp_path / "in", [song()], [[*plays(71), *[b"x"] * 29]])
    assert job(tmp_path / "in", "--max-rejected", "0.29").code == 0


def test_without_a_valid_song_the_run_is_refused(job, tmp_path):
    write_input(tmp_path / "in", [song(title="")], [[play()]])
    result = job(tmp_path / "in", "--max-rejected", "1")
    assert (result.code, "/in/song_data: no valid song" in result.err) == (3, True)


def test_without_a_play_the_run_is_refused_and_says_which_pages_there_are(job, tmp_path):
    write_input(tmp_path / "in", [song()], [[play(page="Home"), play(page="next_song")]])
    result = job(tmp_path / "in")
    assert result.code == 3
    assert "pages found: Home (1), next_song (1)" in result.error
    assert "quarantine" not in result.out


def test_skipped_objects_and_used_fields_without_a_value_are_warnings_at_the_end(job, tmp_path):
    event = {name: value for name, value in play().items() if name not in ("length", "location")}
    folder = write_input(tmp_path / "in", [song()], [[event]]) / "log_data" / "2018"
    (folder / "b.csv").write_text("page")
    (folder / "c").write_text("page")
    result = job(tmp_path / "in")
    assert result.code == 0
    skipped, missing = result.err.splitlines()
    assert f"log_data: {SKIPPED}" in skipped
    assert "log_data: no accepted line has a value for location, length" in missing
    first = {"objects": 2, "first": "log_data/2018/b.csv"}
    assert result.summary["skipped"] == {"log_data": first}


@pytest.mark.parametrize("found", ["no such folder", SKIPPED])
@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_a_dataset_without_a_readable_object_is_an_error_that_says_what_is_there(
    quick, found, flags
):
    folder = quick.source / "log_data" / "2018"
    for path in folder.iterdir():
        path.unlink()
    if found is SKIPPED:
        (folder / "b.csv").write_text("page")
        (folder / "c").write_text("page")
    (folder / "empty.json").touch()
    result = quick(*flags)
    assert result.code == 2
    assert f"/in/log_data: no file to read: {found}" in result.error


CHANGES = {
    "a song changes": ("song_data/A/TR00000.json", b"Version 1"),
    "a log object grows": ("log_data/2018/00-events.json", b"{}\n{}"),
    "a log object is deleted": ("log_data/2018/00-events.json", None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_object_that_changes_during_the_run_stops_it(quick, monkeypatch, change):
    """Also one that has the same size as before; new objects wait for the next run."""
    key, data = CHANGES[change]

    # once songs and logs are read
    def meddle(spark, run):
        os.remove(quick.source / key)
        if data:
            (quick.source / key).write_bytes(data)
        (quick.source / "log_data" / "new.json").write_text("{}")

    monkeypatch.setattr(etl, "audit", meddle)
    result = quick()
    assert result.code == 1
    assert f"INPUT changed during the run: {key}; run again; nothing is published" in result.error
    assert table_files(result.output) == {}


def test_a_song_that_is_deleted_before_it_is_read_stops_the_run(quick, monkeypatch):
    key = "song_data/A/TR00000.json"
    list_input = etl.list_input

    def meddle(run):
        manifest = list_input(run)
        os.remove(quick.source / key)
        return manifest

    monkeypatch.setattr(etl, "list_input", meddle)
    result = quick()
    assert result.code == 1
    assert f"INPUT changed during the run: {key}; run again; nothing is published" in result.error


def test_a_log_object_that_appears_during_the_run_waits_for_the_next(job, tmp_path, monkeypatch):
    write_input(tmp_path / "in", [song()], [plays(3)])
    process_log_data = etl.process_log_data

    def meddle(spark, run):
        (tmp_path / "in" / "log_data" / "new.json").write_text(json.dumps(play(sessionId=9)))
        return process_log_data(spark, run)

    monkeypatch.setattr(etl, "process_log_data", meddle)
    result = job(tmp_path / "in")
    assert (result.code, result.summary["events"]["songplays"]) == (0, 3)


def test_names_with_odd_characters_are_read_and_quarantined_under_their_name(job, tmp_path):
    odd = "log_data/_k=v/a #1 100%2F+é=[x]{y}*.json"
    read = "log_data/a #1 100%2F+é=[x]{y}*.json"
    source = write_input(tmp_path / "_in [1]", [song()], [plays(3)])
    for name in (odd, read):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text("x")
    result = job(source, "--max-rejected", "0.5", output=tmp_path / "out 1%41")
    assert result.code == 0, result.err
    assert [row["file"] for row in result.quarantine()] == [read]
    assert f"not a JSON object, first in {read}" in result.err


@pytest.mark.parametrize("name", ["song_data/A/TR00000.json.gz", "log_data/a.json.gz"])
def test_an_object_that_cannot_be_read_to_its_end_fails_the_run_and_is_named(job, tmp_path, name):
    source = write_input(tmp_path / "in", [song()], [plays(3)])
    (source / name).write_bytes(b"{}")
    result = job(source)
    assert (result.code, name in result.error) == (1, True), result.err
    assert table_files(result.output) == {}
