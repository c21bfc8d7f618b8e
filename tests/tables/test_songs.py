"""songs: one row per song_id; of its distinct records a total order keeps one."""

import pytest

from etl import distinct_records, one_song_per_recording, songs_table, stage_songs
from tests.helpers import SONG_RECORDS, rows_of, song


def test_a_known_year_wins_over_an_unknown_one_and_then_the_earliest(frame):
    records = frame(SONG_RECORDS, """
        song_id | title | artist_id | duration | year
        SO1     | A     | AR1       | 100      | 0
        SO1     | B     | AR1       | 100      | 2001
        SO1     | C     | AR1       | 100      | 1999
    """)  # fmt: skip
    assert rows_of(songs_table(records)) == [("SO1", "C", "AR1", 100.0, 1999)]


def test_records_of_one_year_are_ordered_by_title_in_byte_order(frame):
    records = frame(SONG_RECORDS, """
        song_id | title | artist_id | duration | year
        SO1     | a     | AR1       | 100      | 1999
        SO1     | Z     | AR2       | 100      | 1999
        SO1     | É     | AR0       | 100      | 1999
    """)  # fmt: skip
    assert rows_of(songs_table(records), "title") == [("Z",)]


def test_records_of_one_title_are_ordered_by_artist_id_then_duration(frame):
    records = frame(SONG_RECORDS, """
        song_id | title | artist_id | artist_name | duration | year | location
        SO1     | A     | AR2       | Foxes       | 100      | 1999 | -
        SO1     | A     | AR1       | Foxes       | 300      | 1999 | -
        SO1     | A     | AR1       | Foxes       | 200      | 1999 | -
        SO1     | A     | AR1       | Foxes       | 200      | 1999 | Oakland
    """)  # fmt: skip
    assert rows_of(songs_table(records), "artist_id", "duration") == [("AR1", 200.0)]


def test_every_variant_still_names_a_recording(frame):
    records = frame(SONG_RECORDS, """
        song_id | title | artist_id | artist_name | duration
        SO1     | A     | AR1       | Foxes       | 100
        SO1     | A     | AR1       | Foxes       | 130
        SO0     | A     | AR2       | Foxes       | 130
    """)  # fmt: skip
    assert rows_of(
        one_song_per_recording(records), "duration", "song_id", "artist_id", "candidates"
    ) == [
        (100.0, "SO1", "AR1", 1),
        (130.0, "SO0", "AR2", 2),
    ]


def test_valid_records_equal_in_all_used_fields_are_one(json_lines):
    lines = json_lines(
        song(),
        song(num_songs=2),
        song(artist_location="Detroit, MI"),
        song(song_id="SO0", duration=0),
    )
    records = distinct_records(stage_songs(lines))
    assert rows_of(records, "song_id", "location") == [
        ("SO1", "Detroit, MI"),
        ("SO1", "Oakland, CA"),
    ]


@pytest.mark.parametrize(
    "place",
    [
        {"artist_latitude": 90.5, "artist_longitude": -180.01},
        {"artist_latitude": -90.5, "artist_longitude": 180.01},
        {"artist_latitude": float("nan"), "artist_longitude": float("nan")},
    ],
)
def test_a_missing_year_is_0_and_impossible_places_are_null(json_lines, place):
    lines = json_lines(song(year=None, artist_location="", **place))
    records = distinct_records(stage_songs(lines))
    names = ("song_id", "year", "location", "latitude", "longitude")
    assert rows_of(records, *names) == [("SO1", 0, None, None, None)]


def test_the_limits_of_latitude_and_longitude_are_possible(json_lines):
    lines = json_lines(
        song(artist_latitude=-90.0, artist_longitude=180.0),
        song(artist_latitude=90.0, artist_longitude=-180.0),
    )
    found = rows_of(stage_songs(lines), "latitude", "longitude")
    assert found == [(-90.0, 180.0), (90.0, -180.0)]
