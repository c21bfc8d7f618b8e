"""Each line ends in exactly one class: every malformed and invalid kind, by name."""

import pytest

from etl import EVENT, SONG, stage_events, stage_songs
from tests.helpers import play, rows_of, song, write_input
from tests.lines import LOG_LINES, SONG_LINES, P


@pytest.mark.parametrize(
    ("stage", "cases"),
    [
        (stage_events, LOG_LINES),
        (stage_songs, SONG_LINES),
    ],
)
def test_each_line_ends_in_its_class(json_lines, stage, cases):
    """All in one frame: a query for each would take minutes."""
    staged = stage(json_lines(*(line for line, _ in cases.values())))
    found = dict(zip(cases, [row["class"] for row in staged.collect()]))
    assert found == {name: kind for name, (_, kind) in cases.items()}


def test_text_is_kept_as_written_and_empty_text_is_null(json_lines):
    line = play(song=" R\u00c3\u00ado\t", level="", artist=7, location=True, userAgent={"a": 1})
    staged = stage_events(json_lines(line))
    names = ("title", "level", "artist_name", "location", "user_agent")
    assert rows_of(staged, *names) == [(" R\u00c3\u00ado\t", None, "7", "true", '{"a":1}')]


def test_a_lone_surrogate_becomes_a_replacement_character(json_lines):
    line = P[:-1] + b',"level":"\\ud800"}'
    [[level]] = rows_of(stage_events(json_lines(line)), "level")
    assert level in ("?", "\ufffd")


EVENT_REASONS = {
    "not UTF-8": b'{"page":"caf\xe9"}',
    "a JSON array, not one object per line": b"[" + P + b"]",
    "not a JSON object": b"503 Service Unavailable",
    "not valid JSON, or cut off": P[:-5],
    "text after the JSON object": P + P,
    "ts is not a whole number": P.replace(b"796", b"796.0"),
    "sessionId is not a whole number": P.replace(b":7,", b':"7",'),
    "itemInSession is not a whole number": P.replace(b":1,", b":true,"),
    "length is not a number": P.replace(b"200.5", b'"200.5"'),
    "length is NaN": P.replace(b"200.5", b"NaN"),
    "length is Infinity": P.replace(b"200.5", b"1e400"),
    "page is missing": b"{}",
    "ts is missing": b'{"page":"Home"}',
    "ts is outside the years 2000 to 2099 in milliseconds": P.replace(b"796", b""),
    "userId is not a number": P.replace(b'"8"', b"15.0"),
    "userId of a play is missing": P.replace(b'"8"', b'""'),
    "sessionId of a play is missing": P.replace(b":7,", b":null,"),
}
SONG_REASONS = {
    "title is missing": song(title=""),
    "duration is missing": song(duration=None),
    "duration is not positive": song(duration=0),
    "artist_id cannot name a folder": song(artist_id="AR\0001"),
    "year is not a whole number": song(year=1999.5),
    "artist_latitude is not a number": song(artist_latitude="37.8"),
    "artist_longitude is Infinity": song(artist_longitude=float("inf")),
}


def test_the_reason_names_the_field_and_what_is_wrong_with_it(job, tmp_path):
    songs = [song(), *SONG_REASONS.values()]
    write_input(tmp_path / "in", songs, [[play(), *EVENT_REASONS.values()]])
    result = job(tmp_path / "in", "--max-rejected", "1")
    found = [row["reason"] for row in result.quarantine()]
    assert sorted(found) == sorted([*EVENT_REASONS, *SONG_REASONS])


@pytest.mark.parametrize(
    ("stage", "record", "schema"),
    [
        (stage_songs, song(), SONG),
        (stage_events, play(), EVENT),
    ],
)
def test_every_field_of_the_source_schema_is_used(json_lines, stage, record, schema):
    """A record that lacks one field is staged differently from one that has it."""
    names = [line.split()[0] for line in schema.strip().splitlines()]
    lines = [record, *({**record, name: None} for name in names)]
    whole, *lacking = stage(json_lines(*lines)).drop("line", "bytes").collect()
    for name, row in zip(names, lacking):
        assert row != whole, name
