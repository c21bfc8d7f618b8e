"""Outputs as etl.py lays them out, made without Spark, for the tests of analytics/."""

import json
from datetime import UTC, datetime

import duckdb
import lake
import report
import to_postgres  # noqa: F401

import etl

HOSTILE = """=cmd()<script>alert(1)</script>"'><img src=x onerror=alert(1)></svg></style>${7*7}&amp;"var(--none)"\x0b"""


def write_lake(folder, **tables):
    """An OUTPUT with these rows, as etl.py lays it out; a table without rows has no file."""
    listed = {}
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        for name, columns in lake.TABLES.items():
            rows, parts = (
                tables.get(name, []),
                etl.PARTITIONS.get(name, ["year"] if name == "songs" else []),
            )
            db.execute(f'CREATE TABLE "{name}" ({columns.replace("TIMESTAMP", "TIMESTAMPTZ")})')
            (folder / name).mkdir(parents=True)
            if rows:
                db.executemany(
                    f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(rows[0]))})', rows
                )
                target = folder / name if parts else folder / name / "data.parquet"
                by = f", PARTITION_BY ({', '.join(parts)})" if parts else ""
                db.execute(f"COPY \"{name}\" TO '{target}' (FORMAT parquet{by})")
            files = sorted((folder / name).rglob("*.parquet"))
            listed[name] = {
                "files": {
                    str(file.relative_to(folder / name)): {"bytes": file.stat().st_size}
                    for file in files
                }
            }
    commit = {"commit": 1, "run": "20181101T000000Z-00000000", "tables": listed}
    for kind, text in (("commits/000000001.json", json.dumps(commit)), ("done/000000001", "")):
        path = folder / "_etl" / kind
        path.parent.mkdir(parents=True)
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
):
    start = datetime.fromisoformat(time).replace(tzinfo=UTC)
    return (
        f"{number:032x}",
        start,
        user,
        level,
        song,
        artist,
        1,
        location,
        agent,
        start.year,
        start.month,
    )


def one_play_lake(folder, title="River", name="Foxes", **changes):
    start = datetime(2018, 11, 3, 23, 30, tzinfo=UTC)
    return write_lake(
        folder,
        songplays=[play_row(1, song="SO1", artist="AR1", **changes)],
        users=[(8, "Ada", "Koch", "F", "free")],
        songs=[("SO1", title, "AR1", 200.5, 1999)],
        artists=[("AR1", name, "Oakland", 37.8, -122.27)],
        time=[(start, 23, 3, 44, 7, 2018, 11)],
    )


def answers(output, zone="UTC"):
    """What the report's queries answer, by name."""
    opened = lake.open_lake(str(output))
    return {
        name: report.run_query(opened, query.sql)
        for name, query in report.read_queries(zone).items()
    }


def as_text(rows):
    """Rows of any engine in one form: numbers to nine decimals, whatever their type."""

    def plain(value):
        try:
            return f"{float(value):.9f}"
        except (TypeError, ValueError):
            return None if value is None else str(value)

    return [[plain(value) for value in row] for row in rows]
