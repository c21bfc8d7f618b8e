"""analytics/views.sql: the tables by name, and queries.sql over them as it stands."""

import shutil
import subprocess

import common
import duckdb
import lake
import pytest
from helpers import ROOT, all_tables
from lakes import as_text, one_play_lake

VIEWS = ROOT / "analytics" / "views.sql"
QUERIES = ROOT / "analytics" / "queries.sql"


@pytest.fixture
def views():
    """Opens the views of an OUTPUT; None stands for the folder `output`."""

    def open_views(output=None):
        db = duckdb.connect()
        if output:
            db.execute(f"SET VARIABLE output = '{output}'")
        db.execute(VIEWS.read_text())
        return db

    return open_views


def test_the_views_have_the_columns_and_rows_of_the_tables(views, sample_tables):
    db = views(sample_tables)
    for table, rows in all_tables(sample_tables).items():
        found = db.execute(f'SELECT * FROM "{table}"')
        assert [column[0] for column in found.description] == list(lake.columns(table))
        assert sorted(found.fetchall(), key=repr) == sorted(rows, key=repr)
    kinds = dict(db.execute("SELECT column_name, column_type FROM (DESCRIBE songplays)").fetchall())
    assert (kinds["year"], kinds["start_time"]) == ("INTEGER", "TIMESTAMP WITH TIME ZONE")
    assert set(common.tables()) == {name for (name,) in db.execute("SHOW TABLES").fetchall()}


def test_the_queries_run_over_them_as_they_stand(views, sample_tables):
    db = views(sample_tables)
    opened = lake.open_lake(str(sample_tables))
    for statement in duckdb.extract_statements(QUERIES.read_text()):
        found = as_text(db.execute(statement).fetchall())
        assert found == as_text(row.values() for row in opened.rows(statement.query))


def test_without_the_variable_the_folder_is_output(views, tmp_path, monkeypatch):
    one_play_lake(tmp_path / "output")
    monkeypatch.chdir(tmp_path)
    assert views().execute("SELECT count(*) FROM songplays").fetchall() == [(1,)]


def test_the_shell_reads_them_as_its_header_says(tmp_path):
    shell = shutil.which("duckdb")
    if not shell:
        pytest.skip("no duckdb shell")
    one_play_lake(tmp_path / "output")
    count = "SELECT count(*) AS plays FROM songplays"
    for options in (
        ["-init", str(VIEWS)],
        ["-cmd", f"SET VARIABLE output = '{tmp_path}/output'", "-cmd", f".read {VIEWS}"],
    ):
        done = subprocess.run(
            [shell, "-csv", *options, "-c", count],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.split() == ["plays", "1"], done.stderr
