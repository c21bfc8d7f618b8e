"""The five tables of an OUTPUT, as one commit lists them, open in DuckDB.

report.py, to_postgres.py and the notebook read the tables through this module. It takes the newest
commit whose files are all there, so it never reads half of a publication.
"""

from __future__ import annotations

import argparse
import glob
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

# etl.py, in the folder above, reads the settings and opens OUTPUT for these programs too
sys.path.append(str(Path(__file__).resolve().parents[1]))

import duckdb

import etl

HERE = Path(__file__).resolve().parent

# While a run publishes, its commit is there before all of its files are.
LOOKS = 5
SECONDS_BETWEEN_LOOKS = 0.5
GETS_IN_FLIGHT = 8
# DuckDB's share of memory; what needs more goes to disk.
MEMORY = "1GB"
# what DuckDB calls the types of a commit's columns, where the names differ
DUCKDB_TYPES = {"STRING": "VARCHAR", "TIMESTAMP": "TIMESTAMPTZ"}

Rows = list[dict[str, Any]]


class Lake(NamedTuple):
    """An OUTPUT at one commit."""

    settings: etl.Settings
    commit: dict[str, Any]  # _etl/commits/NUMBER.json
    folder: str  # on this machine, where the table files are
    db: duckdb.DuckDBPyConnection  # with one view per table
    copies: tempfile.TemporaryDirectory[str] | None  # of files on S3; gone with this object

    @property
    def output(self) -> str:
        return self.settings.output

    @property
    def tables(self) -> dict[str, dict[str, Any]]:
        """Table -> grain, partitioned_by, columns, rows."""
        return self.commit["tables"]

    def rows(self, sql: str) -> Rows:
        """The result of a query, one dict per row."""
        result = self.db.execute(sql)
        names = [column[0] for column in result.description]
        return [dict(zip(names, row)) for row in result.fetchall()]


def open_location(text: str, settings: etl.Settings) -> etl.Location:
    """A folder or an S3 prefix, with the identity that etl.py would use.

    Raises   Stop if there is no such folder
    """
    if "://" not in text and not Path(text).is_dir():
        raise etl.Stop(2, f"{text}: no such folder")
    return etl.open_location(text, settings)


def find_commit(location: etl.Location) -> dict[str, Any]:
    """The newest commit whose files are all there, with their sizes.

    Raises   Stop if there is none
    """
    missing = ""
    for look in range(LOOKS):
        if look:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        numbers = etl.commit_numbers(location)
        if not numbers:
            message = "no commit found. Run `python etl.py`, or name another OUTPUT."
            raise etl.Stop(2, f"{location.name}: {message}")
        # until a commit is whole, the files of the one before it stay
        for number in numbers[:3]:
            commit = etl.read_commit(location, number)
            present: dict[str, int] = {}
            for table in commit.get("tables", {}):
                present |= location.list(table)
            lost = etl.lost_files(commit.get("files", {}), present)
            if commit and not lost:
                return commit
            missing = missing or f"commit {number} lacks {(lost or ['a schema'])[0]}"
    raise etl.Stop(1, f"{location.name}: {missing}. Run `python etl.py` again.")


def files_of(commit: dict[str, Any], table: str) -> list[str]:
    return [name for name in commit["files"] if name.startswith(f"{table}/")]


def copy_files(location: etl.Location, keys: Iterable[str], folder: str) -> None:
    """Copies files of S3 to a folder, many at a time, under their keys."""

    def copy_file(key: str) -> None:
        path = Path(folder, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(location.read(key))

    with ThreadPoolExecutor(GETS_IN_FLIGHT) as pool:
        for _ in pool.map(copy_file, keys):
            pass  # an error in a thread is raised here


def create_view(lake: Lake, table: str) -> None:
    """A view with the table's columns, in order; without rows if the commit lists no file."""
    types = {
        column["name"]: DUCKDB_TYPES.get(column["type"], column["type"])
        for column in lake.tables[table]["columns"]
    }
    files = files_of(lake.commit, table)
    if not files:
        nothing = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in types.items())
        lake.db.execute(f"CREATE VIEW {table} AS SELECT {nothing} WHERE false")
        return
    paths = [glob.escape(f"{lake.folder}/{name}").replace("'", "''") for name in files]
    listed = ", ".join(f"'{path}'" for path in paths)
    options = "hive_partitioning = false"
    parts = lake.tables[table]["partitioned_by"]
    if parts:
        hive_types = ", ".join(f"{name}: {types[name]}" for name in parts)
        options = f"hive_partitioning = true, hive_types = {{{hive_types}}}"
    source = f"read_parquet([{listed}], {options})"
    lake.db.execute(f"CREATE VIEW {table} AS SELECT {', '.join(types)} FROM {source}")


def connect() -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory that counts in UTC."""
    db = duckdb.connect(
        config={
            "memory_limit": MEMORY,
            "preserve_insertion_order": False,
            "temp_directory": str(Path(tempfile.gettempdir(), f"sparkify-duckdb-{os.getpid()}")),
        }
    )
    db.execute("SET TimeZone = 'UTC'")
    return db


def open_lake(output: str | None = None, config: str | None = None) -> Lake:
    """Opens an OUTPUT: a folder or an s3a:// prefix, else the one that dl.cfg names.

    Source   the newest whole commit; files on S3 are copied to a temporary folder first
    Raises   Stop if there is no such OUTPUT, no whole commit, or no access
    """
    # a dry run creates no folder
    arguments = ["--dry-run"]
    if config is not None:
        arguments += ["--config", config]
    if output is not None:
        arguments += ["--output", output]
    settings = etl.read_settings(arguments)
    folder = settings.output
    copies = None
    try:
        location = open_location(settings.output, settings)
        commit = find_commit(location)
        if "://" in folder:
            copies = tempfile.TemporaryDirectory(prefix="sparkify-")
            folder = copies.name
            copy_files(location, commit["files"], folder)
        lake = Lake(settings, commit, folder, connect(), copies)
        for table in lake.tables:
            create_view(lake, table)
    except Exception as error:
        raise etl.explain(error, settings.output) from error
    return lake


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "output",
        nargs="?",
        metavar="OUTPUT",
        help="what etl.py wrote: a folder or an s3a:// prefix (default: OUTPUT in dl.cfg)",
    )
    parser.add_argument("--config", metavar="FILE", help="settings file (default: dl.cfg)")


def run_program(main: Callable[[], None]) -> int:
    """Runs a program's main and returns the exit code; an error is one line on stderr."""
    code = 1
    try:
        main()
        return 0
    except etl.Stop as stop:
        code, message = stop.code, str(stop)
    except duckdb.Error as error:
        message = str(error).splitlines()[0]
    except KeyboardInterrupt:
        code, message = 130, "interrupted"
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    return code
