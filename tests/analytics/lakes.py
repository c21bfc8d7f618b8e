"""Outputs as etl.py leaves them, made without Spark, for the tests of analytics/."""

import hashlib
import json
from datetime import UTC, datetime

import duckdb

import etl
from tests.helpers import play

USER = (8, "Ada", "Koch", "F", "free")
TIME = "2018-11-03 23:30:00"
HOSTILE = (
    """=cmd()<script>alert(1)</script>"'><img src=x onerror=alert(1)></svg></style>"""
    """${7*7}&amp;"var(--none)"\x0b"""
)


def write_table(db, output, table, rows, parts):
    """One table's files; none if it has no rows.  Returns what a commit says of it."""
    columns = [line.split()[:2] for line in etl.COLUMNS[table].strip().splitlines()]
    folder = output / table
    folder.mkdir(parents=True)
    if rows:
        types = ", ".join(f"{name} {kind}" for name, kind in columns)
        db.execute(f"CREATE TABLE {table} ({types.replace('TIMESTAMP', 'TIMESTAMPTZ')})")
        db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", rows)
        target = str(folder if parts else folder / "data.parquet").replace("'", "''")
        by = f", PARTITION_BY ({', '.join(parts)})" if parts else ""
        db.execute(f"COPY {table} TO '{target}' (FORMAT parquet{by})")
    return {
        "grain": f"one row per row of {table}",
        "partitioned_by": list(parts),
        "columns": [
            {"name": name, "type": kind, "comment": f"what {name} is"} for name, kind in columns
        ],
        "rows": len(rows),
    }


def write_lake(output, source="/nowhere", songs_by=("year",), **tables):
    """An OUTPUT with these rows."""
    made = {}
    partitions = {"songplays": ("year", "month"), "time": ("year", "month"), "songs": songs_by}
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        for table in etl.COLUMNS:
            rows, parts = tables.get(table, []), partitions.get(table, ())
            made[table] = write_table(db, output, table, rows, parts)
    plays, songs = made["songplays"]["rows"], made["songs"]["rows"]
    paths = sorted(output.rglob("*.parquet"))
    commit = {
        "commit": 1,
        "run": "20181101T000000Z-00000000",
        "settings": {"input": str(source)},
        "events": {"lines": plays + 2, "malformed": 2, "songplays": plays},
        "songs": {"records": songs, "songs": songs},
        "tables": made,
        "files": {str(p.relative_to(output)): {"bytes": p.stat().st_size} for p in paths},
    }
    (output / "_etl" / "commits").mkdir(parents=True)
    (output / "_etl" / "commits" / "000000001.json").write_text(json.dumps(commit))
    return output


def event(song, number):
    """The play of play_row(number), as the app logs it."""
    return play(song=song, sessionId=1, itemInSession=number, ts=1541287800000)


def play_row(
    number, time=TIME, user=8, song=None, artist=None, location="Oakland, CA", agent="Safari/1"
):
    start = datetime.fromisoformat(time).replace(tzinfo=UTC)
    key = hashlib.md5(f"8|1|{number}|1541287800000".encode()).hexdigest()
    month = (start.year, start.month)
    return (key, start, user, "free", song, artist, 1, location, agent, *month)


def time_row(time=TIME):
    start = datetime.fromisoformat(time).replace(tzinfo=UTC)
    week = start.isocalendar().week
    weekday = start.isoweekday() % 7 + 1
    return (start, start.hour, start.day, week, weekday, start.year, start.month)


def plays_lake(output, *times):
    """Plays of one user at these different times."""
    return write_lake(
        output,
        songplays=[play_row(number, time) for number, time in enumerate(times)],
        users=[USER],
        time=[time_row(time) for time in times],
    )


def one_play_lake(output, title="River", name="Foxes", location="Oakland, CA", source="/nowhere"):
    return write_lake(
        output,
        source=source,
        songplays=[play_row(1, song="SO1", artist="AR1", location=location)],
        users=[USER],
        songs=[("SO1", title, "AR1", 200.5, 1999)],
        artists=[("AR1", name, "Oakland", 37.8, -122.27)],
        time=[time_row()],
    )
