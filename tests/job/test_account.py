"""The account balances, what is rejected is kept, and too much of it stops the run before any table changes."""

import base64

import pytest
from helpers import files_below, play, song, write_input

BAD_UTF8 = b'{"page":"caf\xe9"}'


def plays(count):
    return [play(itemInSession=item) for item in range(count)]


def test_every_rejected_line_is_kept_with_its_file_and_reason(job, tmp_path):
    conflict = play(itemInSession=0, location="Zürich")
    write_input(
        tmp_path / "in",
        [song(), b"[]", song(duration=0)],
        [[*plays(9), BAD_UTF8, b"{}", b""], [b"x\r", conflict]],
    )
    result = job(tmp_path / "in", "--max-rejected", "1")
    assert result.code == 0, result.err
    kept = {
        (row["file"], row["reason"], row.get("raw"), row.get("raw_base64"))
        for row in result.quarantine()
    }
    conflicts = {row for row in kept if row[1].startswith("another content of the play")}
    assert [(row[0], "Z\\u00fcrich" in row[2]) for row in conflicts] == [
        ("log_data/2018/01-events.json", True)
    ]
    assert {(*row[:2], row[2] and row[2][:2], row[3]) for row in kept - conflicts} == {
        ("log_data/2018/00-events.json", "not UTF-8", None, base64.b64encode(BAD_UTF8).decode()),
        ("log_data/2018/00-events.json", "no page", "{}", None),
        ("log_data/2018/01-events.json", "not exactly one JSON object", "x", None),
        ("song_data/A/TR00001.json", "not exactly one JSON object", "[]", None),
        ("song_data/A/TR00002.json", "duration not positive", '{"', None),
    }
    account = result.report["events"]
    classes = (
        "blank",
        "malformed",
        "invalid",
        "out_of_scope",
        "duplicate",
        "key_conflict",
        "songplays",
    )
    assert [account[name] for name in classes] == [0, 2, 1, 0, 0, 1, 9]
    assert account["lines"] == sum(account[name] for name in classes)


@pytest.mark.parametrize("side", ["songs", "logs"])
def test_two_percent_malformed_is_refused_and_the_tables_stay(job, tmp_path, side):
    write_input(tmp_path / "in", [song()], [plays(5)])
    first = job(tmp_path / "in")
    before = {
        name: file
        for name, file in files_below(first.output).items()
        if not name.startswith("_etl")
    }
    if side == "logs":
        write_input(tmp_path / "in", [song()], [[*plays(49), b"x"]])
    else:
        write_input(
            tmp_path / "in", [*(song(song_id=f"SO{n}") for n in range(49)), b"x"], [plays(5)]
        )
    second = job(tmp_path / "in")
    assert (second.code, len(second.err.splitlines())) == (3, 1)
    assert (
        "1 of 50 lines are malformed or invalid, more than MAX_REJECTED = 0.01 allows" in second.err
    )
    assert [row["raw"] for row in second.quarantine()] == ["x"]
    assert {
        name: file
        for name, file in files_below(first.output).items()
        if not name.startswith("_etl")
    } == before


@pytest.mark.parametrize(
    ("songs", "events"), [([song(title="")], [play()]), ([song()], [play(page="Home")])]
)
def test_no_valid_song_or_no_play_at_all_is_refused(job, tmp_path, songs, events):
    write_input(tmp_path / "in", songs, [events])
    assert job(tmp_path / "in", "--max-rejected", "1").code == 3


def test_an_object_that_changes_while_it_is_read_stops_the_run(job, tmp_path, monkeypatch):
    import etl

    write_input(tmp_path / "in", [song()], [plays(3)])
    audit = etl.audit

    def meddle(run, tables):
        (tmp_path / "in" / "song_data" / "A" / "TR00000.json").write_text("{}")
        return audit(run, tables)

    monkeypatch.setattr(etl, "audit", meddle)
    result = job(tmp_path / "in")
    assert result.code == 1
    assert "input changed while it was read: song_data/A/TR00000.json; run again" in result.err
    assert not list(result.output.glob("*/*.parquet"))


def test_what_is_no_input_is_ignored(job, tmp_path):
    write_input(tmp_path / "in", [song()], [plays(3)])
    for name in (
        "_x.json",
        ".x.json",
        "x.JSON",
        "x.txt",
        "_d/x.json",
        "_a=b/x.json",
        ".d/y/x.json",
    ):
        path = tmp_path / "in" / "log_data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not JSON")
    result = job(tmp_path / "in")
    assert (result.code, result.report["events"]["lines"]) == (0, 3), result.err
    assert "7 others ignored" in result.out


def test_names_with_odd_characters_are_read_and_quarantined_under_their_name(job, tmp_path):
    odd = "log_data/a #1 100%2F+é=[x]{y}*.json"
    write_input(tmp_path / "in [1]", [song()], [plays(3)])
    (tmp_path / "in [1]" / odd).write_text("x")
    result = job(tmp_path / "in [1]", "--max-rejected", "0.5", output=tmp_path / "out #1 %41")
    assert result.code == 0, result.err
    assert [row["file"] for row in result.quarantine()] == [odd]
