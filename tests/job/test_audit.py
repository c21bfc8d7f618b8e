"""The audit: staged tables that contradict each other or the account stop the run."""

import shutil

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


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    """Where the tables above are kept, once a test has written them."""
    return tmp_path_factory.mktemp("audit")


@pytest.fixture
def audited(spark, frame, tmp_path, unchanged):
    """Stages the tables, some of them changed, and audits them; returns the run and its rows."""
    lake = etl.open_place(f"file://{tmp_path}", None, None)

    def write(name, text, folder):
        if not folder.exists():
            frame(etl.COLUMNS[name], text).write.parquet(str(folder))
        return folder

    def audit(events=EVENTS, **changes):
        run = etl.Run(None, lake, lake, events=dict(events), songs=SONGS)
        run.spark = spark
        run.scratch = lake
        for name, text in TABLES.items():
            staged = tmp_path / run.staging / name
            if name in changes:
                write(name, changes[name], staged)
            else:
                shutil.copytree(write(name, text, unchanged / name), staged)
        return run, etl.audit(run)

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
        ({"users": "user_id\n9"}, "users: songplays that refer to no row of it: 2 and 0"),
        ({"artists": "artist_id\nAR2"}, "artists: songplays that refer to no row of it: 1 and 0"),
        ({"songs": "song_id\nSO2"}, "songs: songplays that refer to no row of it: 1 and 0"),
        (
            {"time": "start_time\n2018-11-01 21:00:00"},
            "time: songplays that refer to no row of it: 1 and 0",
        ),
        ({"songplays": "songplay_id\nP1\nP1"}, "songplays: rows and distinct keys: 2 and 1"),
        ({"songs": "song_id\nSO1\nSO2"}, "rows of songs and the account's: 2 and 3"),
        ({"events": {**EVENTS, "lines": 9}}, "lines and the sum of their classes: 9 and 8"),
        (
            {"events": {**EVENTS, "lines": 9, "songplays": 3}},
            "rows of songplays and the account's: 2 and 3",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_its_numbers(audited, changes, words):
    with pytest.raises(etl.Stop) as stop:
        audited(**changes)
    assert stop.value.code == 1
    assert str(stop.value) == f"audit: {words} should be equal"
