"""Outputs as etl.py leaves them, made without Spark, for the tests of analytics/."""

import hashlib
import json
from datetime import UTC, datetime

import duckdb

import etl

TABLES = {
    "songplays": "songplay_id STRING, start_time TIMESTAMP, user_id BIGINT, level STRING, "
    "song_id STRING, artist_id STRING, session_id BIGINT, location STRING, user_agent STRING, "
    "year INT, month INT",
    "users": "user_id BIGINT, first_name STRING, last_name STRING, gender STRING, level STRING",
    "songs": "song_id STRING, title STRING, artist_id STRING, duration DOUBLE, year INT",
    "artists": "artist_id STRING, name STRING, location STRING, latitude DOUBLE, longitude DOUBLE",
    "time": "start_time TIMESTAMP, hour INT, day INT, week INT, weekday INT, year INT, month INT",
}
PARTITIONS = {"songplays": ["year", "month"], "time": ["year", "month"], "songs": ["year"]}
RUN = "20181101T000000Z-00000000"
HOSTILE = (
    """=cmd()<script>alert(1)</script>"'><img src=x onerror=alert(1)></svg></style>"""
    """${7*7}&amp;"var(--none)"\x0b"""
)
EVENTS = dict.fromkeys([*etl.EVENT_CLASSES, "lines", "matched", "ambiguous"], 0)
SONGS = dict.fromkeys([*etl.SONG_CLASSES, "records"], 0)


def write_table(db, output, table, rows):
    """One table's files; none if it has no rows.  Returns what a commit says of it."""
    columns = [column.split() for column in TABLES[table].split(", ")]
    db.execute(f"CREATE TABLE {table} ({TABLES[table].replace('TIMESTAMP', 'TIMESTAMPTZ')})")
    folder = output / table
    folder.mkdir(parents=True)
    parts = PARTITIONS.get(table, [])
    if rows:
        db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", rows)
        target = folder if parts else folder / "data.parquet"
        by = f", PARTITION_BY ({', '.join(parts)})" if parts else ""
        path = str(target).replace("'", "''")
        db.execute(f"COPY {table} TO '{path}' (FORMAT parquet{by})")
    return {
        "grain": f"one row per row of {table}",
        "partitioned_by": parts,
        "columns": [
            {"name": name, "type": kind, "comment": f"what {name} is"} for name, kind in columns
        ],
        "rows": len(rows),
    }


def write_commit(output, number, tables, source="/nowhere"):
    """A commit of the table files that are there now."""
    files = {
        str(path.relative_to(output)): {"bytes": path.stat().st_size}
        for table in tables
        for path in sorted((output / table).rglob("*.parquet"))
    }
    plays = tables["songplays"]["rows"]
    commit = {
        "commit": number,
        "run": RUN,
        "settings": {"input": str(source)},
        "events": {**EVENTS, "lines": plays + 2, "malformed": 2, "songplays": plays},
        "songs": {**SONGS, "records": tables["songs"]["rows"], "songs": tables["songs"]["rows"]},
        "tables": tables,
        "files": files,
    }
    path = output / "_etl" / "commits" / f"{number:09d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(commit))
    return commit


def write_lake(output, source="/nowhere", **tables):
    """An OUTPUT with these rows."""
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        made = {table: write_table(db, output, table, tables.get(table, [])) for table in TABLES}
    write_commit(output, 1, made, source)
    return output


def play_row(
    number,
    time="2018-11-03 23:30:00",
    user=8,
    level="free",
    song=None,
    artist=None,
    location="Oakland, CA",
    agent="Safari/1",
    session=1,
):
    start = datetime.fromisoformat(time).replace(tzinfo=UTC)
    month = (start.year, start.month)
    return (songplay_id(number), start, user, level, song, artist, session, location, agent, *month)


def time_row(time):
    start = datetime.fromisoformat(time).replace(tzinfo=UTC)
    week = start.isocalendar().week
    weekday = start.isoweekday() % 7 + 1
    return (start, start.hour, start.day, week, weekday, start.year, start.month)


def one_play_lake(output, title="River", name="Foxes", source="/nowhere", **changes):
    return write_lake(
        output,
        source=source,
        songplays=[play_row(1, song="SO1", artist="AR1", **changes)],
        users=[(8, "Ada", "Koch", "F", "free")],
        songs=[("SO1", title, "AR1", 200.5, 1999)],
        artists=[("AR1", name, "Oakland", 37.8, -122.27)],
        time=[time_row("2018-11-03 23:30:00")],
    )


def event(song, artist, number=1):
    """A play as the app logs it; its songplay_id is that of songplay_id(number)."""
    return {
        "page": "NextSong",
        "userId": "8",
        "sessionId": 1,
        "itemInSession": number,
        "ts": 1541287800000,
        "song": song,
        "artist": artist,
    }


def songplay_id(number):
    return hashlib.md5(f"8|1|{number}|1541287800000".encode()).hexdigest()
