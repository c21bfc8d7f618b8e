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

from tests.analytics.lakes import one_play_lake
from tests.helpers import ROOT

PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
pytestmark = pytest.mark.skipif(
    not shutil.which("duckdb", path=PATH), reason="no DuckDB shell: pip install duckdb-cli"
)


def run_shell(command, *statements, cwd=ROOT):
    """What DuckDB's shell prints, started by this command in the project's folder."""
    done = subprocess.run(
        f'{command} "$@"',
        shell=True,
        executable="/bin/bash",
        cwd=cwd,
        env={"PATH": PATH},
        input="\n".join(statements),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "Error" not in done.stderr, done.stderr
    return done.stdout


def test_output_is_the_default(tmp_path):
    one_play_lake(tmp_path / "output")
    shutil.copytree(ROOT / "analytics", tmp_path / "analytics")
    command = "duckdb -csv -init analytics/views.sql"
    assert run_shell(command, "SELECT title FROM songs;", cwd=tmp_path).split() == [
        "title",
        "River",
    ]


def test_the_page_s_command_opens_a_path_with_a_blank_and_quotes(tmp_path):
    output = one_play_lake(tmp_path / """it's "my" lake""")
    command = f"{report.shell_commands(str(output))} -csv"
    for table, rows in lake.open_lake(str(output)).tables.items():
        printed = run_shell(command, f"SELECT * FROM {table};").splitlines()
        assert printed[0].split(",") == [column["name"] for column in rows["columns"]]
        assert len(printed) == 2


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", queries.LISTENERS])
def test_every_sql_of_the_page_runs_as_printed(sample_tables, zone):
    opened = lake.open_lake(str(sample_tables))
    if zone != "UTC":
        queries.use_local_time(opened, zone)
    named = queries.read_queries().values()
    asked = [queries.ask_logs(opened), *((query, opened.rows(query.sql)) for query in named)]
    statements = report.local_time_commands(zone).splitlines()
    for query, _ in asked:
        statements += [".print ---", query.sql]
    command = f"{report.shell_commands(str(sample_tables))} -json"
    printed = run_shell(command, *statements).split("---\n")[1:]
    assert len(printed) == len(asked)
    for text, (query, rows) in zip(printed, asked):
        # both as JSON has them
        assert json.loads(text) == json.loads(json.dumps(rows, default=str)), query.question


def test_the_file_of_queries_prints_each_question_above_its_answer(sample_tables):
    command = report.shell_commands(str(sample_tables))
    printed = run_shell(command, ".read analytics/queries.sql").splitlines()
    asked = [query.question for query in queries.read_queries().values()]
    assert [line for line in printed if line.endswith("?")] == asked
    for question in asked:
        assert printed[printed.index(question) + 1].startswith("┌")


def test_the_page_shows_every_query_and_eight_use_the_time_or_users_dimension():
    text = (ROOT / "analytics" / "queries.sql").read_text()
    named = queries.read_queries()
    assert list(named) == re.findall(r"^-- name: (\w+)$", text, re.MULTILINE)
    assert set(named) == {"headline", *(section.query for section in report.SECTIONS)}
    joins = [re.search(r"JOIN (time|users)\b", query.sql) for query in named.values()]
    assert sum(map(bool, joins)) >= 8
