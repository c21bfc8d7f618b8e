"""artists: one row an artist_id, taken whole from one record."""

from etl import artists_table
from tests.helpers import SONG_RECORDS, rows_of


def test_the_record_with_most_of_its_place_filled_wins_whole(frame):
    records = frame(SONG_RECORDS, """
        artist_id | artist_name | location | latitude | longitude
        AR1       | A           | Detroit  | -        | -
        AR1       | B           | -        | 1        | 2
        AR2       | C           | -        | -        | -
    """)  # fmt: skip
    assert rows_of(artists_table(records)) == [
        ("AR1", "B", None, 1.0, 2.0),
        ("AR2", "C", None, None, None),
    ]


def test_equally_filled_records_are_ordered_by_name_then_place(frame):
    records = frame(SONG_RECORDS, """
        artist_id | artist_name | location | latitude | longitude
        AR1       | Zoe         | Austin   | -        | -
        AR1       | Ann         | Detroit  | -        | -
        AR1       | Ann         | Boston   | -        | -
        AR1       | Ann         | -        | 1        | -
    """)  # fmt: skip
    assert rows_of(artists_table(records)) == [("AR1", "Ann", "Boston", None, None)]


def test_records_of_one_name_and_location_are_ordered_by_latitude_then_longitude(frame):
    records = frame(SONG_RECORDS, """
        artist_id | artist_name | location | latitude | longitude
        AR1       | Ann         | Boston   | 3        | 1
        AR1       | Ann         | Boston   | 2        | 9
        AR1       | Ann         | Boston   | 2        | 5
        AR1       | Ann         | Boston   | 2        | 7
    """)  # fmt: skip
    assert rows_of(artists_table(records), "latitude", "longitude") == [(2.0, 5.0)]


def test_one_row_for_each_artist_id_as_written(frame):
    records = frame(SONG_RECORDS, """
        artist_id | artist_name
        AR1       | Foxes
        ar1       | Foxes
        AR1       | Foxes
    """)  # fmt: skip
    assert rows_of(artists_table(records), "artist_id") == [("AR1",), ("ar1",)]
