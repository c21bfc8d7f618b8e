"""The queries in README.md and docs/queries.md, run as they are printed on a newcomer's tables."""

import importlib.util
import re
import shutil

import duckdb
import pytest
from helpers import ROOT

QUERIES = (ROOT / "docs" / "queries.md").read_text(encoding="utf-8")
# For a session that lives for one query: no page of its own, no long compilation.
QUICK = (
    "--driver-java-options=-XX:TieredStopAtLevel=1 --master local[2]"
    " --conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=2 pyspark-shell"
)
PACKAGES = {
    "DuckDB, in Python": "duckdb",
    "Polars": "polars",
    "pandas": "pandas",
    "Spark": "pyspark",
}


def example(title, language):
    """The code under a heading of docs/queries.md."""
    section = QUERIES.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)[1]


def plays_per_level(project):
    found = duckdb.sql(
        f"SELECT level, count(*) FROM '{project.output}/songplays/**/*.parquet' GROUP BY level"
    )
    return dict(found.fetchall())


def says(printed, counts):
    """Whether each level and its number of plays stand on one line of what was printed."""
    lines = printed.replace(",", "").splitlines()
    return all(
        any(re.search(rf"\b{level}\b.*\b{count}\b", line) for line in lines)
        for level, count in counts.items()
    )


@pytest.mark.parametrize("title", PACKAGES)
def test_each_python_example_prints_the_plays_per_level(project, title):
    if not importlib.util.find_spec(PACKAGES[title]):
        pytest.skip(f"{PACKAGES[title]} is not installed")
    (project.folder / "example.py").write_text(example(title, "python"))
    printed = project.shell("python example.py", PYSPARK_SUBMIT_ARGS=QUICK)
    assert says(printed, plays_per_level(project)), printed


def test_each_python_example_has_three_lines():
    for title in PACKAGES:
        lines = [line for line in example(title, "python").splitlines() if line]
        assert len(lines) == 3, title


def views(project):
    """A DuckDB connection in which analytics/views.sql was read, as `duckdb -init` does."""
    text = (project.folder / "analytics" / "views.sql").read_text(encoding="utf-8")
    connection = duckdb.connect()
    connection.execute(re.sub(r"^\..*$", "", text, flags=re.MULTILINE))
    return connection


def test_the_front_page_s_query_runs_on_the_views(project, pages, monkeypatch):
    monkeypatch.chdir(project.folder)
    command = r'duckdb -init analytics/views.sql -c "(SELECT [^"]+)"'
    query = re.search(command, pages["README.md"])[1]
    assert dict(views(project).execute(query).fetchall()) == plays_per_level(project)


def test_the_join_of_the_page_runs_on_the_views(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    assert len(views(project).execute(example("Joins", "sql")).fetchall()) == 10


def test_the_shell_s_commands_run_where_duckdb_s_shell_is_installed(project, pages):
    if not shutil.which("duckdb"):
        pytest.skip("duckdb-cli is not installed")
    front = re.search(r"^    (duckdb -init .+)$", pages["README.md"], re.MULTILINE)[1]
    for command in (front, example("DuckDB, in the shell", "sh")):
        assert says(project.shell(command), plays_per_level(project))
