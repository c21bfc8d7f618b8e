"""songplays: every play once, matched to at most one song."""

import hashlib

from helpers import CATALOG, play, rows_of

from etl import (
    PLAY_CONTENT,
    match_plays,
    one_song_per_recording,
    settle_copies,
    songplays_table,
    stage_events,
    stage_plays,
)

CATALOG_ROWS = """
    song_id | title | artist_id | artist_name | duration
    SO1     | River | AR1       | Foxes       | 200.5
"""


def songplays(frame, json_lines, *events, catalog=CATALOG_ROWS):
    plays = stage_plays(stage_events(json_lines(*events)))
    return songplays_table(settle_copies(match_plays(plays, frame(CATALOG, catalog))))


def test_a_play_of_a_catalogue_song_has_its_song_and_artist(frame, json_lines):
    assert rows_of(songplays(frame, json_lines, play())) == [
        (
            hashlib.md5(b"8|7|1|1541106106796").hexdigest(),
            *(
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
            ),
        )
    ]


def test_a_play_that_differs_in_title_artist_or_duration_stays_unmatched(frame, json_lines):
    others = (
        {"song": "river"},
        {"artist": "Fox"},
        {"length": 200.50001},
        {"song": None},
        {"length": None},
    )
    events = [play(itemInSession=item, **change) for item, change in enumerate(others)]
    assert rows_of(songplays(frame, json_lines, *events), "song_id", "artist_id") == [
        (None, None)
    ] * len(others)


def test_the_smallest_song_id_and_artist_id_wins_and_no_play_is_multiplied(frame, json_lines):
    catalog = """
        song_id | title | artist_id | artist_name | duration
        SO2     | River | AR1       | Foxes       | 200.5
        SO1     | River | AR9       | Foxes       | 200.5
        SO1     | River | AR8       | Foxes       | 200.5
    """
    assert rows_of(
        songplays(frame, json_lines, play(), catalog=catalog), "song_id", "artist_id"
    ) == [("SO1", "AR8")]


def test_several_records_of_one_song_leave_no_choice_and_two_songs_do(frame):
    catalog = """
        song_id | title | artist_id | artist_name | duration
        SO1     | River | AR8       | Foxes       | 200.5
        SO1     | River | AR9       | Foxes       | 200.5
        SO2     | Stone | AR8       | Foxes       | 200.5
        SO3     | Stone | AR8       | Foxes       | 200.5
    """
    found = one_song_per_recording(frame(CATALOG, catalog))
    assert rows_of(found, "title", "song_id", "candidates") == [
        ("River", "SO1", 1),
        ("Stone", "SO2", 2),
    ]


def test_replayed_lines_are_one_play(frame, json_lines):
    events = [
        play(),
        play(status=307, registration=1.0),
        play(),
    ]  # what the tables do not use makes no difference
    assert len(rows_of(songplays(frame, json_lines, *events))) == 1


def test_of_several_contents_the_smallest_is_kept_null_last(frame, json_lines):
    events = [
        play(location=None),
        play(location="Zürich"),
        play(location="Oakland, CA"),
        play(location="Zürich"),
    ]
    assert rows_of(songplays(frame, json_lines, *events), "location") == [("Oakland, CA",)]


def test_the_copies_of_a_play_are_one_songplay_conflicts_once_each_and_duplicates(json_lines):
    places = (None, "Zürich", "Oakland, CA", "Zürich", "Oakland, CA")
    plays = stage_plays(
        stage_events(json_lines(*(play(location=place) for place in places), play(sessionId=8)))
    )
    assert rows_of(settle_copies(plays), "outcome", "session_id", "location") == [
        ("duplicate", 7, "Oakland, CA"),
        ("duplicate", 7, "Zürich"),
        ("key_conflict", 7, "Zürich"),
        ("key_conflict", 7, None),
        ("songplays", 7, "Oakland, CA"),
        ("songplays", 8, "Oakland, CA"),
    ]


LOWEST = {
    "artist": "A",
    "firstName": "A",
    "gender": "A",
    "lastName": "A",
    "length": 1.5,
    "level": "A",
    "location": "A",
    "song": "A",
    "userAgent": "A",
}


def test_a_copy_that_differs_in_one_field_of_its_content_is_a_conflict(json_lines):
    copies = [
        play(itemInSession=item, **{name: low}) for item, (name, low) in enumerate(LOWEST.items())
    ]
    plays = stage_plays(
        stage_events(
            json_lines(*copies, *(play(itemInSession=item) for item in range(len(copies))))
        )
    )
    assert rows_of(settle_copies(plays), "item_in_session", "outcome") == [
        (item, outcome) for item in range(len(copies)) for outcome in ("key_conflict", "songplays")
    ]


def test_contents_are_ordered_by_one_field_after_the_other(json_lines):
    copies = [  # of each two neighbours, either may be the lowest
        play(itemInSession=item, **{name: LOWEST[name]})
        for item, pair in enumerate(zip([*LOWEST], [*LOWEST][1:]))
        for name in pair
    ]
    kept = settle_copies(stage_plays(stage_events(json_lines(*copies)))).where(
        "outcome = 'songplays'"
    )
    found = {
        row["item_in_session"]: row[PLAY_CONTENT[row["item_in_session"]]] for row in kept.collect()
    }
    assert found == dict(enumerate([*LOWEST.values()][:-1]))


def test_each_part_of_the_natural_key_makes_another_play(frame, json_lines):
    events = [
        play(),
        play(userId="9"),
        play(sessionId=9),
        play(itemInSession=9),
        play(ts=1541106106797),
    ]
    assert len(rows_of(songplays(frame, json_lines, *events))) == len(events)


def test_level_is_as_of_the_play(frame, json_lines):
    events = [play(level="free"), play(level="paid", ts=1541106106797)]
    assert rows_of(songplays(frame, json_lines, *events), "level") == [("free",), ("paid",)]
