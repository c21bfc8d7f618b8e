"""Each line ends in exactly one class: every malformed and invalid kind, by name."""

import pytest
from helpers import play, rows_of, song
from lines import LOG_LINES, SONG_LINES, P

from etl import EVENT, SONG, stage_events, stage_songs


def classes(stage, json_lines, cases):
    """Class by case name, all in one frame: a query for each would take minutes."""
    found = (
        stage(json_lines(*(line for line, _ in cases.values())).coalesce(1))
        .select("class")
        .collect()
    )
    return {name: row[0] for name, row in zip(cases, found)}


@pytest.fixture(scope="module")
def found_classes():
    return {}


@pytest.mark.parametrize("name", LOG_LINES)
def test_log_line(name, json_lines, found_classes):
    if "log" not in found_classes:
        found_classes["log"] = classes(stage_events, json_lines, LOG_LINES)
    assert found_classes["log"][name] == LOG_LINES[name][1]


@pytest.mark.parametrize("name", SONG_LINES)
def test_song_record(name, json_lines, found_classes):
    if "song" not in found_classes:
        found_classes["song"] = classes(stage_songs, json_lines, SONG_LINES)
    assert found_classes["song"][name] == SONG_LINES[name][1]


def test_text_is_kept_as_written_and_empty_text_is_null(json_lines):
    staged = stage_events(
        json_lines(
            play(song=" R\u00c3\u00ado\t", level="", artist=7, location=True, userAgent={"a": 1})
        )
    )
    assert rows_of(staged, "title", "level", "artist_name", "location", "user_agent") == [
        (" R\u00c3\u00ado\t", None, "7", "true", '{"a":1}')
    ]


def test_a_rejected_line_has_its_reason_and_others_have_none(json_lines):
    staged = stage_events(json_lines(b"", P, P + P, b"\xff", P.replace(b"200.5", b'""'), b"{}"))
    assert [tuple(row) for row in staged.select("class", "reason").collect()] == [
        ("blank", None),
        ("play", None),
        ("malformed", "not exactly one JSON object"),
        ("malformed", "not UTF-8"),
        ("malformed", "a number field is not a JSON number that fits its type"),
        ("invalid", "no page"),
    ]


SOURCES = {
    "song": (stage_songs, song(), SONG),
    "event": (stage_events, play(), EVENT),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_field_of_the_source_schema_is_used(json_lines, source):
    """A record that lacks one field is staged differently from one that has it."""
    stage, record, schema = SOURCES[source]
    names = [line.split()[0] for line in schema.strip().splitlines()]
    lines = [record]
    for name in names:
        lines.append({**record, name: None})
    whole, *lacking = stage(json_lines(*lines)).drop("line").collect()
    for name, row in zip(names, lacking):
        assert row != whole, name


def test_a_lone_surrogate_becomes_a_replacement_character(json_lines):
    line = P[:-1] + b',"level":"\\ud800"}'
    [[level]] = rows_of(stage_events(json_lines(line)), "level")
    assert level in ("?", "\ufffd")
