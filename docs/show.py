"""What the pages show of the sample, of a run over it, and of the benchmark.

`cog -r README.md docs/*.md` fills the pages: blocks in them call the functions below, whose output
replaces the old one. The job runs once for all pages.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cog
import duckdb

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "data" / "sample"
RULES = {"Key": "key", "Dropped": "left out", "Units": "units"}
PROGRAMS = {
    "etl": "etl.py",
    "plain": "a plain Spark script",
    "classic": "the usual course script",
    "duck": "DuckDB",
}
# What differs from run to run, and what the pages show instead.
CHANGING = {
    r"\d{8}T\d{6}Z-[0-9a-f]{8}": "…",
    r"(c\d{9})-[0-9a-f]{8}-": r"\1-…-",
    r"part-\d{5}-[0-9a-f-]+[.]c000": "part-…",
    r"part-\d{5}-[0-9a-f-]+-c000": "part-…",
    r"Took [\d.]+ s \([\d.]+ s": "Took … s (… s",
}


class Run(NamedTuple):
    """A run of the job: the folder of its OUTPUT, and what it printed."""

    output: Path
    printed: str


class Example(NamedTuple):
    """Lines of the sample to copy: a song, and a page view and a play of it."""

    song: str
    events: str


# ── Runs, and queries of what they read and wrote ─────────────────────────────────────────────


@cache
def home() -> Path:
    """The home folder of a newcomer, which lasts as long as this process."""
    folder = tempfile.mkdtemp(prefix="sparkify-docs-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def run_job(source: Path, output: Path) -> Run:
    """Runs etl.py in an environment that seems to have only the packages of requirements.txt."""
    customize = home() / "hide" / "sitecustomize.py"
    customize.parent.mkdir(exist_ok=True)
    customize.write_text("import sys\nsys.modules['duckdb'] = None\n")
    result = subprocess.run(
        ["python", "etl.py", "--input", source, "--output", output],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(customize.parent),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return Run(output, result.stdout)


@cache
def sample_run() -> Run:
    return run_job(SAMPLE, home() / "sparkify" / "output")


@cache
def example_run() -> Run:
    """A run over the lines of `example`."""
    for name, text in (("song_data/songs", example().song), ("log_data/monday", example().events)):
        path = home() / "my-data" / f"{name}.json"
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
    return run_job(home() / "my-data", home() / "my-lake")


@cache
def newest_commit() -> dict[str, Any]:
    commits = sample_run().output / "_etl" / "commits"
    return json.loads(max(commits.iterdir()).read_text(encoding="utf-8"))


@cache
def connect() -> duckdb.DuckDBPyConnection:
    """Views of the five tables, of the sample (`events`, `song_records`), and of `quarantine`."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for table, made in newest_commit()["tables"].items():
        columns = ", ".join(column["name"] for column in made["columns"])
        files = sample_run().output / table / "**" / "*.parquet"
        connection.execute(f"CREATE VIEW {table} AS SELECT {columns} FROM '{files}'")
    options = "format = 'newline_delimited', ignore_errors = true, filename = true"
    for view, dataset in (("events", "log_data"), ("song_records", "song_data")):
        files = SAMPLE / dataset / "**" / "*.json"
        connection.execute(f"CREATE VIEW {view} AS FROM read_json('{files}', {options})")
    kept = sample_run().output / "_etl" / "quarantine" / "**" / "*.json"
    connection.execute(f"CREATE VIEW quarantine AS FROM read_json('{kept}')")
    return connection


@cache
def example() -> Example:
    """A play with a short user agent and plain letters, its song, and a page view before it."""
    found = connect().execute("""
        SELECT song_records.filename, play.filename, view.ts, play.ts
        FROM events AS play
        JOIN song_records
            ON (title, artist_name, duration) = (play.song, play.artist, play.length)
        JOIN events AS view
            ON view.sessionId = play.sessionId
            AND view.filename = play.filename
            AND view.page = 'Home'
            AND view.ts < play.ts
        WHERE play.page = 'NextSong'
            AND regexp_full_match(play.song || play.artist, '[A-Za-z ]+')
        ORDER BY length(play.userAgent), play.ts, view.ts
        LIMIT 1""")
    song, log, *instants = found.fetchone()
    lines = Path(log).read_text(encoding="utf-8").splitlines()
    events = [line for ts in instants for line in lines if f'"ts":{ts}' in line.replace(" ", "")]
    return Example(Path(song).read_text(encoding="utf-8").strip(), "\n".join(events))


# ── What the blocks call ──────────────────────────────────────────────────────────────────────


def screen(command: str, run: Run) -> None:
    """A command and the last screen that it printed, without the progress before it."""
    printed = run.printed.replace(str(home()), "/home/you").strip()
    last = re.search(r"^[\d,]+ log lines.*", printed, re.MULTILINE | re.DOTALL)
    code(f"$ {command}\n…\n{last[0]}", "console")


def code(text: str, language: str = "") -> None:
    for pattern, shown in CHANGING.items():
        text = re.sub(pattern, shown, text)
    cog.outl(f"```{language}\n{text}\n```")


def value(sql: str) -> Any:
    """The one value of a query."""
    return connect().execute(sql).fetchone()[0]


def query(sql: str, width: int = 36) -> None:
    """The rows of a query as a table; longer values are cut."""
    found = connect().execute(f"SELECT COLUMNS(*)::VARCHAR FROM ({sql})")
    table([column[0] for column in found.description], found.fetchall(), width)


def table(names: list[str], rows: list[Any], width: int = 1000) -> None:
    cog.outl(f"| {' | '.join(names)} |")
    cog.outl(f"| {' | '.join('---' for _ in names)} |")
    for row in rows:
        cells = [cell(value, width) for value in row]
        cog.outl(f"| {' | '.join(cells)} |")


def cell(value: str | None, width: int) -> str:
    if value is None:
        return "NULL"
    # an instant's time zone, which is always UTC
    value = value.removesuffix("+00")
    if len(value) > width:
        value = f"{value[: width - 1].rstrip()}…"
    return value.replace("|", r"\|") or '""'


def tree(folder: Path, depth: int, most: int = 3) -> None:
    """A folder as `tree` prints it. Of more than `most` names it shows two."""
    code("\n".join([folder.name, *branches(folder, depth, most)]))


def branches(folder: Path, depth: int, most: int) -> list[str]:
    hidden = re.compile(r"[.].*|_SUCCESS")
    names = [path for path in folder.iterdir() if not hidden.fullmatch(path.name)]
    names.sort(key=lambda path: (path.name.startswith("_"), path.name))
    shown = names if len(names) <= most else names[:2]
    lines = []
    for path in shown:
        is_last = path == names[-1]
        lines.append(f"{'└──' if is_last else '├──'} {path.name}")
        if path.is_dir() and depth > 1:
            indent = "    " if is_last else "│   "
            lines += [indent + line for line in branches(path, depth - 1, most)]
    if len(names) > len(shown):
        lines.append(f"└── … and {len(names) - len(shown)} more")
    return lines


def benchmark(*works: str) -> None:
    """Seconds that each program takes, from bench/results.json, and memory for the last work."""
    results = json.loads((ROOT / "bench" / "results.json").read_text(encoding="utf-8"))
    rows = []
    for work in works:
        medians = results[work]["medians"]
        seconds = [
            f"{medians[who]['seconds']:.0f} s" if who in medians else "–" for who in PROGRAMS
        ]
        rows.append([results[work]["title"], *seconds])
    table(["input", *PROGRAMS.values()], rows)
    etl, duck = (f"{medians[who]['peak_mb'] / 1000:.0f} GB" for who in ("etl", "duck"))
    cog.outl(f"\nFor {rows[-1][0]}, etl.py needs {etl} of memory, and DuckDB {duck}.")


# ── Tables, from the schema in the commit and the docstrings of etl.py ────────────────────────


def tables_in_short() -> None:
    rows = []
    for name, made in newest_commit()["tables"].items():
        grain = made["grain"].partition("one row per ")[2].rstrip(".")
        folders = ", ".join(made["partitioned_by"]) or "none"
        rows.append([f"[{name}](docs/tables.md#{name})", grain, folders])
    table(["table", "one row per", "partition folders"], rows)


def table_section(name: str) -> None:
    """Grain, rules, columns and five rows of a table."""
    sys.path.append(str(ROOT))
    import etl

    made = newest_commit()["tables"][name]
    docstring = getattr(etl, f"{name}_table").__doc__
    cog.outl(f"{made['grain']}\n")
    for heading, shown in RULES.items():
        rule = re.search(rf"^    {heading} +(.+(?:\n {{9,}}.+)*)", docstring, re.MULTILINE)
        if rule:
            cog.outl(f"- **{shown}**: {' '.join(rule[1].split())}")
    cog.outl()
    columns = [[column["name"], column["type"], column["comment"]] for column in made["columns"]]
    table(["column", "type", "meaning"], columns)
    cog.outl()
    query(f"FROM {name} ORDER BY ALL LIMIT 5", width=24)


def schema() -> None:
    """The star schema as a Mermaid diagram; comments of columns say what they refer to."""
    lines = ["erDiagram"]
    for name, made in newest_commit()["tables"].items():
        lines.append(f"    {name} {{")
        for column in made["columns"]:
            target = re.search(r"refers to (\w+)(.*)", column["comment"])
            key = " FK" if target else ""
            if column is made["columns"][0]:
                key = " PK"
            lines.append(f"        {column['type']} {column['name']}{key}")
            if target:
                one = "o|" if "NULL" in target[2] else "||"
                lines.insert(1, f"    {name} }}o--{one} {target[1]} : {column['name']}")
        lines.append("    }")
    code("\n".join(lines), "mermaid")
