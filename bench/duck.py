"""The five tables built by DuckDB in etl.py's layout, to time beside it.

    python bench/duck.py INPUT OUTPUT

There is no account of the lines, no audit and no safe publishing.
"""

import sys
from pathlib import Path

import duckdb

READ = """
    read_json('{folder}/**/*.json', format = 'newline_delimited',
              ignore_errors = true, columns = {columns})
"""
SONG = """{
    song_id: 'VARCHAR', title: 'VARCHAR', duration: 'DOUBLE', year: 'INTEGER',
    artist_id: 'VARCHAR', artist_name: 'VARCHAR', artist_location: 'VARCHAR',
    artist_latitude: 'DOUBLE', artist_longitude: 'DOUBLE'
}"""
EVENT = """{
    page: 'VARCHAR', ts: 'BIGINT', userId: 'VARCHAR', firstName: 'VARCHAR',
    lastName: 'VARCHAR', gender: 'VARCHAR', level: 'VARCHAR', sessionId: 'BIGINT',
    itemInSession: 'BIGINT', location: 'VARCHAR', userAgent: 'VARCHAR',
    artist: 'VARCHAR', song: 'VARCHAR', length: 'DOUBLE'
}"""
STAGE = """
    CREATE TABLE catalog AS SELECT DISTINCT * FROM {songs};
    CREATE TABLE events AS SELECT * FROM {events};
    CREATE TABLE plays AS
        SELECT DISTINCT ON (userId, sessionId, itemInSession, ts)
            *, make_timestamptz(ts * 1000) AS start_time
        FROM events
        WHERE page = 'NextSong';
    CREATE TABLE lookup AS
        SELECT title, artist_name, duration, min((song_id, artist_id)) AS track
        FROM catalog
        GROUP BY ALL;
"""
TABLES = {
    "songs": """
        SELECT DISTINCT ON (song_id) song_id, title, artist_id, duration, year
        FROM catalog
        ORDER BY song_id, year = 0, year, title
    """,
    "artists": """
        SELECT DISTINCT ON (artist_id)
            artist_id, artist_name AS name, artist_location AS location,
            artist_latitude AS latitude, artist_longitude AS longitude
        FROM catalog
        ORDER BY artist_id, artist_name
    """,
    "users": """
        SELECT
            userId::BIGINT AS user_id, arg_max(firstName, ts) AS first_name,
            arg_max(lastName, ts) AS last_name, arg_max(gender, ts) AS gender,
            arg_max(level, ts) AS level
        FROM events
        WHERE userId <> ''
        GROUP BY 1
    """,
    "time": """
        SELECT DISTINCT
            start_time, hour(start_time) AS hour, day(start_time) AS day,
            week(start_time) AS week, dayofweek(start_time) + 1 AS weekday,
            year(start_time) AS year, month(start_time) AS month
        FROM plays
    """,
    "songplays": """
        SELECT
            md5(concat_ws('|', userId, sessionId, itemInSession, ts)) AS songplay_id,
            start_time, userId::BIGINT AS user_id, level, track[1] AS song_id,
            track[2] AS artist_id, sessionId AS session_id, location, userAgent AS user_agent,
            year(start_time) AS year, month(start_time) AS month
        FROM plays
        LEFT JOIN lookup ON song = title AND artist = artist_name AND length = duration
    """,
}
FOLDERS = {"songs": "year", "time": "year, month", "songplays": "year, month"}


def main(source: str, output: str) -> None:
    Path(output).mkdir(parents=True, exist_ok=True)
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    songs = READ.format(folder=f"{source}/song_data", columns=SONG)
    events = READ.format(folder=f"{source}/log_data", columns=EVENT)
    db.execute(STAGE.format(songs=songs, events=events))
    for table, query in TABLES.items():
        if table in FOLDERS:
            target, layout = f"{output}/{table}", f", PARTITION_BY ({FOLDERS[table]})"
        else:
            target, layout = f"{output}/{table}.parquet", ""
        db.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet{layout})")


if __name__ == "__main__":
    main(*sys.argv[1:])
