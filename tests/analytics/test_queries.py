"""views.sql, queries.sql and local_time.sql in the DuckDB shell, as the docs print the commands."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import lake
import pytest
import queries
import report
from helpers import ROOT
from lakes import one_play_lake

DUCKDB = shutil.which(
    "duckdb", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
)
pytestmark = pytest.mark.skipif(not DUCKDB, reason="no DuckDB shell: pip install duckdb-cli")


def run_shell(output, *options):
    """What the shell prints, on this OUTPUT."""
    done = subprocess.run(
        [DUCKDB, "-init", "analytics/views.sql", *options],
        cwd=ROOT,
        env={**os.environ, "OUTPUT": str(output)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr
    return done.stdout


def as_text(rows):
    """Rows in one form, whether Python or the shell's JSON has them."""
    return [[str(value) for value in row.values()] for row in rows]


def test_the_views_have_the_columns_of_the_tables(tmp_path):
    opened = lake.open_lake(str(one_play_lake(tmp_path / "lake")))
    for table in opened.tables:
        described = json.loads(run_shell(opened.output, "-json", "-c", f"DESCRIBE {table}"))
        wanted = opened.rows(f"DESCRIBE {table}")
        kinds = [(row["column_name"], row["column_type"]) for row in described]
        assert kinds == [(row["column_name"], row["column_type"]) for row in wanted]


def test_output_is_the_default(tmp_path):
    one_play_lake(tmp_path / "output")
    shutil.copytree(ROOT / "analytics", tmp_path / "analytics")
    command = [DUCKDB, "-csv", "-init", "analytics/views.sql", "-c", "SELECT title FROM songs"]
    environment = {name: value for name, value in os.environ.items() if name != "OUTPUT"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["title", "River"]


def test_the_page_s_command_opens_a_path_with_a_blank_and_quotes(tmp_path):
    output = one_play_lake(tmp_path / """it's "my" lake""")
    command = report.shell_commands(str(output))
    assert command.startswith("OUTPUT=")
    search = f"{Path(DUCKDB).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        f"{command} -csv -c 'SELECT title FROM songs'",
        shell=True,
        cwd=ROOT,
        env={**os.environ, "PATH": search},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["title", "River"], done.stderr


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", queries.LISTENERS])
def test_every_sql_of_the_page_runs_as_printed(sample_tables, zone):
    opened = lake.open_lake(str(sample_tables))
    if zone != "UTC":
        queries.use_local_time(opened, zone)
    asked = {
        name: (query, opened.rows(query.sql)) for name, query in queries.read_queries().items()
    }
    asked["top_songs"] = queries.ask_logs(opened)
    commands = report.local_time_commands(zone).splitlines()
    for query, _ in asked.values():
        commands += [".print ---", query.sql]
    options = [option for command in commands for option in ("-c", command)]
    printed = run_shell(sample_tables, "-json", *options).split("---\n")[1:]
    assert len(printed) == len(asked)
    for text, (query, rows) in zip(printed, asked.values()):
        # numbers of both as Python's JSON reader has them
        shown = json.loads(text)
        expected = json.loads(json.dumps(rows, default=str))
        assert as_text(shown) == as_text(expected), query.question


def test_the_file_of_queries_prints_each_question_above_its_answer(sample_tables):
    printed = run_shell(sample_tables, "-c", ".read analytics/queries.sql").splitlines()
    asked = [query.question for query in queries.read_queries().values()]
    assert [line for line in printed if line.endswith("?")] == asked
    for question in asked:
        assert printed[printed.index(question) + 1].startswith("┌")


def test_the_page_shows_every_named_query():
    text = (ROOT / "analytics" / "queries.sql").read_text()
    named = queries.read_queries()
    assert list(named) == re.findall(r"^-- name: (\w+)$", text, re.MULTILINE)
    assert set(named) == {"headline", *(section.query for section in report.SECTIONS)}


def test_at_least_eight_queries_use_the_time_or_users_dimension():
    sql = [query.sql for query in queries.read_queries().values()]
    assert sum(bool(re.search(r"JOIN (time|users)\b", text)) for text in sql) >= 8
