"""Outputs as etl.py lays them out, made without Spark, for the tests of analytics/."""

import gzip
import json
from datetime import UTC, datetime

import common
import duckdb
import lake
import queries

PARTITIONS = {**common.etl_constant("PARTITIONS"), "songs": ["year"]}
HOSTILE = (
    """=cmd()<script>alert(1)</script>"'><img src=x onerror=alert(1)></svg></style>"""
    """${7*7}&amp;"var(--none)"\x0b"""
)
RUN = "20181101T000000Z-00000000"


def write_table(db, folder, table, rows):
    """One table's files; none if it has no rows.  Returns what a commit says of them."""
    types = [
        f'"{column.name}" {column.type.replace("TIMESTAMP", "TIMESTAMPTZ")}'
        for column in common.tables()[table]
    ]
    db.execute(f'CREATE TABLE "{table}" ({", ".join(types)})')
    folder.mkdir(parents=True)
    if rows:
        db.executemany(f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(rows[0]))})', rows)
        parts = PARTITIONS.get(table)
        target = folder if parts else folder / "data.parquet"
        by = f", PARTITION_BY ({', '.join(parts)})" if parts else ""
        db.execute(f"COPY \"{table}\" TO '{target}' (FORMAT parquet{by})")
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*.parquet"))
    }
    return {"files": files, "rows": len(rows)}


def write_lake(folder, logs=None, **tables):
    """An OUTPUT with these rows, as etl.py lays it out.

    logs   events that the run read, in the folder INPUT beside the tables
    """
    listed = {}
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        for table in common.tables():
            listed[table] = write_table(db, folder / table, table, tables.get(table, []))
    commit = {"commit": 1, "run": RUN, "tables": listed}
    if logs is not None:
        source = folder.parent / f"{folder.name}-input"
        path = source / "log_data" / "events.json"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(map(json.dumps, logs)))
        commit["settings"] = {"input": source.as_uri()}
        inputs = folder / "_etl" / "inputs" / "000000001.json.gz"
        inputs.parent.mkdir(parents=True)
        line = json.dumps(["log_data/events.json", path.stat().st_size, "etag"])
        inputs.write_bytes(gzip.compress(line.encode()))
    for name, text in (("commits/000000001.json", json.dumps(commit)), ("done/000000001", "")):
        path = folder / "_etl" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def play_row(
    number,
    time="2018-11-03 23:30:00",
    user=8,
    level="free",
    song=None,
    artist=None,
    location="Oakland",
    agent="Safari",
    session=1,
):
    start = datetime.fromisoformat(time).replace(tzinfo=UTC)
    return (
        f"{number:032x}",
        start,
        user,
        level,
        song,
        artist,
        session,
        location,
        agent,
        start.year,
        start.month,
    )


def one_play_lake(folder, title="River", name="Foxes", logs=None, **changes):
    start = datetime(2018, 11, 3, 23, 30, tzinfo=UTC)
    return write_lake(
        folder,
        logs=logs,
        songplays=[play_row(1, song="SO1", artist="AR1", **changes)],
        users=[(8, "Ada", "Koch", "F", "free")],
        songs=[("SO1", title, "AR1", 200.5, 1999)],
        artists=[("AR1", name, "Oakland", 37.8, -122.27)],
        time=[(start, 23, 3, 44, 7, 2018, 11)],
    )


def answers(output, zone="UTC"):
    """What the report's queries answer, by name."""
    opened = lake.open_lake(str(output))
    return {name: opened.rows(query.sql) for name, query in queries.read_queries(zone).items()}


def as_text(rows):
    """Rows of any engine in one form: numbers to nine decimals, whatever their type."""

    def plain(value):
        try:
            return f"{float(value):.9f}"
        except (TypeError, ValueError):
            return None if value is None else str(value)

    return [[plain(value) for value in row] for row in rows]
