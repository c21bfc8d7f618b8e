"""The audit: staged tables that contradict each other or the counts stop the run."""

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
ROWS = {"songplays": 2, "users": 2, "songs": 3, "artists": 1, "time": 2}
EVENTS = {**dict.fromkeys(etl.EVENT_CLASSES, 1), "songplays": 2, "lines": 8}
SONGS = {**dict.fromkeys(etl.SONG_CLASSES, 1), "songs": 3, "records": 7}


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    """Where the tables above are kept, once a test has written them."""
    return tmp_path_factory.mktemp("audit")


@pytest.fixture
def audit(spark, frame, tmp_path, unchanged):
    """Stages the tables, some of them changed, and audits them."""

    def write(name, text, folder):
        if not folder.exists():
            frame(etl.COLUMNS[name], text).write.parquet(str(folder))
        return folder

    def stage_and_audit(events=EVENTS, rows=ROWS, **changes):
        run = etl.Run(etl.read_settings(["--output", str(tmp_path)]))
        run.lake = run.scratch = etl.open_location(str(tmp_path), run.settings)
        tables = {name: {"rows": count} for name, count in rows.items()}
        run.summary.update(events=events, songs=SONGS, tables=tables)
        for name, text in TABLES.items():
            staged = tmp_path / run.staging / name
            if name in changes:
                write(name, changes[name], staged)
            else:
                shutil.copytree(write(name, text, unchanged / name), staged)
        etl.audit(spark, run)

    return stage_and_audit


def test_tables_that_fit_pass(audit):
    audit()


ORPHANS = "orphans of songplays"
CONTRADICTIONS = {
    "a user twice": ("users", "user_id\n8\n8", "distinct keys of users.* 1,.* 2"),
    "a user without a key": ("users", "user_id\n8\n-", "distinct keys of users.* 1,.* 2"),
    "a song twice": ("songs", "song_id\nSO1\nSO1\nSO2", "distinct keys of songs.* 2,.* 3"),
    "an artist without a key": ("artists", "artist_id\n-", "keys of artists.* 0,.* 1"),
    "a play without a key": ("songplays", "songplay_id\nP1\n-", "of songplays.* 1,.* 2"),
    "a time without a key": ("time", "start_time\n2018-11-01\n-", "keys of time.* 1,.* 2"),
    "a play of an unknown user": ("users", "user_id\n7\n9", f"{ORPHANS}.* 2,.* 0"),
    "a play of an unknown song": ("songs", "song_id\nSO2\nSO3\nSO4", f"{ORPHANS}.* 1,.* 0"),
    "a play of an unknown artist": ("artists", "artist_id\nAR2", f"{ORPHANS}.* 1,.* 0"),
    "a row that is lost": ("songs", "song_id\nSO1\nSO2", "rows of songs.* 2,.* 3"),
    "a row too many": ("users", "user_id\n7\n8\n9", "rows of users.* 3,.* 2"),
    "a line without a class": ("events", {**EVENTS, "lines": 9}, "of all classes.* 8,.* 9"),
    "a play that is not there": (
        "events",
        {**EVENTS, "songplays": 3, "lines": 9},
        "plays.* 2,.* 3",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_what_does_not_fit_is_named_with_its_numbers(audit, name):
    what, changed, words = CONTRADICTIONS[name]
    with pytest.raises(etl.Stop, match=words) as stop:
        audit(**{what: changed})
    assert stop.value.code == 1
    assert str(stop.value).startswith("audit: ")


def test_a_table_with_other_columns_is_not_staged(frame, tmp_path):
    run = etl.Run(etl.read_settings(["--output", str(tmp_path)]))
    users = frame(etl.COLUMNS["users"].replace("BIGINT", "INT"), TABLES["users"])
    with pytest.raises(etl.Stop, match="audit: columns of users") as stop:
        etl.stage_table(run, "users", users)
    assert stop.value.code == 1
