"""The named queries of queries.sql, local time, and the songs as the logs name them."""

from __future__ import annotations

import glob
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

import lake
from lake import HERE, Lake, Rows

import etl

QUERY = re.compile(
    r"""^-- name: (\w+)\n\.print "\\n(.*)"\n((?:-- .*\n)*)([^;]+;)""",
    re.MULTILINE,
)
LISTENERS = "listeners"
# Larger logs take too long to read for one table of a report.
LOGS_BYTES = 2**30


class Query(NamedTuple):
    question: str
    note: str  # what a reader must know
    sql: str


def read_queries(path: Path = HERE / "queries.sql") -> dict[str, Query]:
    """Name -> question, note and SQL."""
    found = {}
    for name, question, note, sql in QUERY.findall(path.read_text(encoding="utf-8")):
        words = " ".join(line.removeprefix("-- ") for line in note.splitlines())
        found[name] = Query(question, words, sql)
    return found


def use_local_time(opened: Lake, zone: str) -> None:
    """From now on, queries see local time.

    zone   a name such as Europe/Paris, or LISTENERS for the time where each listener is
    """
    if zone != LISTENERS:
        text = zone.replace("'", "''")
        # fails if there is no such zone
        opened.db.execute(f"SELECT now() AT TIME ZONE '{text}'")
        opened.db.execute(f"SET VARIABLE timezone = '{text}'")
    opened.db.execute((HERE / "local_time.sql").read_text(encoding="utf-8"))


def ask_logs(opened: Lake) -> tuple[Query, Rows]:
    """The query `logged_songs` and its result.

    Source   the logs at the INPUT of the commit; logs on S3 are copied to a temporary folder first
    Raises   Stop if they are larger than LOGS_BYTES; any error of reading them, as they may be gone
    """
    source = opened.commit["settings"]["input"]
    location = lake.open_location(source, opened.settings)
    sizes = location.list("log_data")
    if sum(sizes.values()) > LOGS_BYTES:
        raise etl.Stop(1, "larger than 1 GiB")
    query = read_queries(HERE / "logged_songs.sql")["logged_songs"]

    def sql_of(folder: str) -> str:
        path = glob.escape(folder).replace("'", "''")
        return query.sql.replace("'INPUT/", f"'{path}/")

    if "://" not in source:
        return query._replace(sql=sql_of(source)), opened.rows(sql_of(source))
    with tempfile.TemporaryDirectory(prefix="sparkify-") as copies:
        lake.copy_files(location, sizes, copies)
        return query._replace(sql=sql_of(source)), opened.rows(sql_of(copies))
