"""The audit: staged tables that contradict each other or the account stop the run, and the check is named."""

import pytest

import etl

TABLES = {
    "songplays": """
        songplay_id | start_time          | user_id | song_id | artist_id
        P1          | 2018-11-01 21:00:00 | 8       | SO1     | AR1
        P2          | 2018-11-01 22:00:00 | 8       | -       | -
    """,
    "users": "user_id\n8\n9",
    "songs": "song_id\nSO1\nSO2\nSO3",
    "artists": "artist_id\nAR1",
    "time": "start_time\n2018-11-01 21:00:00\n2018-11-01 22:00:00",
}
EVENTS = {**dict.fromkeys(etl.EVENT_CLASSES, 1), "songplays": 2, "lines": 8}
SONGS = {**dict.fromkeys(etl.SONG_CLASSES, 1), "songs": 3, "records": 7}


@pytest.fixture
def audited(frame):
    """Audits these tables and accounts, some of them changed; returns the run and how many rows each table has."""

    def audit(events=EVENTS, **changes):
        run = etl.Run(
            None, "20180101T000000Z-00000000", None, None, events=dict(events), songs=SONGS
        )
        frames = {
            name: frame(etl.COLUMNS[name], changes.get(name, text)) for name, text in TABLES.items()
        }
        return run, etl.audit(run, frames)

    return audit


def test_tables_that_fit_are_counted_and_so_are_the_plays_with_a_song(audited):
    run, rows = audited()
    assert rows == {"songplays": 2, "users": 2, "songs": 3, "artists": 1, "time": 2}
    assert run.events["matched"] == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"users": "user_id\n8\n8\n9"}, "users: rows and distinct keys: 3 and 2"),
        ({"users": "user_id\n8\n-"}, "users: rows and distinct keys: 2 and 1"),
        ({"artists": "artist_id\nAR2"}, "songplays.artist_id: references and rows found: 1 and 0"),
        ({"events": {**EVENTS, "lines": 9}}, "lines and the sum of their classes: 9 and 8"),
        ({"songs": "song_id\nSO1\nSO2"}, "rows of songs and the account's: 2 and 3"),
    ],
)
def test_what_does_not_fit_is_named_with_its_numbers(audited, changes, words):
    with pytest.raises(etl.Stop) as stop:
        audited(**changes)
    assert stop.value.code == 1
    assert f"audit: {words} should be equal; nothing is published" in str(stop.value)
