"""songplays: every play once, matched to at most one song."""

import hashlib
from itertools import pairwise

import pytest

import etl
from etl import (
    PLAY_CONTENT,
    dedupe_plays,
    match_plays,
    one_song_per_recording,
    songplays_table,
    stage_events,
    stage_plays,
)
from tests.helpers import SONG_RECORDS, play, rows_of

RIVER = """
    song_id | title | artist_id | artist_name | duration
    SO1     | River | AR1       | Foxes       | 200.5
"""


@pytest.fixture
def songplays(frame, json_lines):
    """The table that these events make beside these song records."""

    def build(*events, records=RIVER):
        plays = stage_plays(stage_events(json_lines(*events)))
        return songplays_table(dedupe_plays(match_plays(plays, frame(SONG_RECORDS, records))))

    return build


@pytest.fixture
def copies(json_lines):
    """The copies of plays, with what becomes of each."""
    return lambda *events: dedupe_plays(stage_plays(stage_events(json_lines(*events))))


def test_a_play_of_a_known_song_has_its_song_and_artist(songplays):
    [row] = rows_of(songplays(play()))
    assert row == (
        hashlib.md5(b"8|7|1|1541106106796").hexdigest(),
        "2018-11-01 21:01:46.796",
        8,
        "free",
        "SO1",
        "AR1",
        7,
        "Oakland, CA",
        "Safari",
        2018,
        11,
    )


@pytest.mark.parametrize(
    "other",
    [
        {"song": "river"},
        {"artist": "Fox"},
        {"length": 200.50001},
        {"song": None},
        {"length": None},
    ],
)
def test_a_play_that_differs_in_title_artist_or_duration_stays_unmatched(songplays, other):
    assert rows_of(songplays(play(**other)), "song_id", "artist_id") == [(None, None)]


def test_the_smallest_song_id_and_artist_id_wins_and_no_play_is_multiplied(songplays):
    records = """
        song_id | title | artist_id | artist_name | duration
        SO2     | River | AR1       | Foxes       | 200.5
        SO1     | River | AR9       | Foxes       | 200.5
        SO1     | River | AR8       | Foxes       | 200.5
    """
    assert rows_of(songplays(play(), records=records), "song_id", "artist_id") == [("SO1", "AR8")]


def test_several_records_of_one_song_leave_no_choice_and_two_songs_do(frame):
    records = """
        song_id | title | artist_id | artist_name | duration
        SO1     | River | AR8       | Foxes       | 200.5
        SO1     | River | AR9       | Foxes       | 200.5
        SO2     | Stone | AR8       | Foxes       | 200.5
        SO3     | Stone | AR8       | Foxes       | 200.5
    """
    found = one_song_per_recording(frame(SONG_RECORDS, records))
    assert rows_of(found, "title", "song_id", "candidates") == [
        ("River", "SO1", 1),
        ("Stone", "SO2", 2),
    ]


def test_what_the_tables_do_not_use_makes_no_other_play(songplays):
    events = [
        play(),
        play(status=307, registration=1.0),
        play(),
    ]
    assert songplays(*events).count() == 1


def test_the_copies_of_a_play_are_one_songplay_conflicts_once_each_and_duplicates(copies):
    found = copies(
        play(location=None),
        play(location="Zürich"),
        play(location="Oakland, CA"),
        play(location="Zürich"),
        play(location="Oakland, CA"),
        play(sessionId=9),
    )
    assert rows_of(found, "outcome", "session_id", "location") == [
        ("duplicate", 7, "Oakland, CA"),
        ("duplicate", 7, "Zürich"),
        ("key_conflict", 7, "Zürich"),
        ("key_conflict", 7, None),
        ("songplays", 7, "Oakland, CA"),
        ("songplays", 9, "Oakland, CA"),
    ]


# in the order in which contents are compared
CONTENT = "artist firstName gender lastName length level location song userAgent".split()
LOWEST = {**dict.fromkeys(CONTENT, "A"), "length": 1.5}


def test_contents_are_ordered_by_one_field_after_the_other(copies):
    """Of each two neighbours, the copy that is lower in the first is kept."""
    names = list(LOWEST)
    events = []
    for item, pair in enumerate(pairwise(names)):
        events += [play(itemInSession=item, **{name: LOWEST[name]}) for name in pair]
    found = {}
    for row in copies(*events).where("outcome = 'songplays'").collect():
        item = row["item_in_session"]
        found[item] = row[PLAY_CONTENT[item]]
    assert found == dict(enumerate([*LOWEST.values()][:-1]))


@pytest.mark.parametrize(
    "part",
    [
        {"userId": "9"},
        {"sessionId": 9},
        {"itemInSession": 9},
        {"ts": 1541106106797},
    ],
)
def test_each_part_of_the_natural_key_makes_another_play(songplays, part):
    assert songplays(play(), play(**part)).select("songplay_id").distinct().count() == 2


def test_level_is_as_of_the_play(songplays):
    events = [play(level="free"), play(level="paid", ts=1541106106797)]
    assert rows_of(songplays(*events), "level") == [("free",), ("paid",)]


def test_plays_are_counted_while_they_are_written(frame, json_lines, monkeypatch):
    records = RIVER + "SO2     | River | AR1       | Foxes       | 200.5"
    events = [
        play(),
        play(),
        play(location="Zürich"),
        play(song="Stone", sessionId=9),
    ]
    monkeypatch.setattr(etl, "stage_table", lambda run, name, table, folders: table.collect())
    monkeypatch.setattr(etl, "quarantine", lambda *_: None)
    plays = stage_plays(stage_events(json_lines(*events)))
    assert etl.process_plays(None, plays, frame(SONG_RECORDS, records)) == {
        "songplays": 2,
        "duplicate": 1,
        "key_conflict": 1,
        "matched": 1,
        "ambiguous": 1,
    }
