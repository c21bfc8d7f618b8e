"""The five tables built by DuckDB, to time beside etl.py.

    python bench/duck.py INPUT OUTPUT

There are no counts of what became of each line, no audit and no safe publishing.
"""

import sys
from pathlib import Path

import duckdb

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
READ = "read_json('{}/**/*.json', format = 'newline_delimited', ignore_errors = true, columns = {})"
STAGE = """
    SET TimeZone = 'UTC';
    CREATE TABLE song_records AS SELECT DISTINCT * FROM {songs};
    CREATE TABLE events AS SELECT * FROM {events};
    CREATE TABLE plays AS
        SELECT DISTINCT ON (userId, sessionId, itemInSession, ts)
            *, make_timestamptz(ts * 1000) AS start_time
        FROM events
        WHERE page = 'NextSong';
    CREATE TABLE lookup AS
        SELECT title, artist_name, duration, min((song_id, artist_id)) AS track
        FROM song_records
        GROUP BY ALL;
"""
TABLES = {
    "songs": """
        SELECT DISTINCT ON (song_id) song_id, title, artist_id, duration, year
        FROM song_records
        ORDER BY song_id, year = 0, year, title
    """,
    "artists": """
        SELECT DISTINCT ON (artist_id)
            artist_id, artist_name AS name, artist_location AS location,
            artist_latitude AS latitude, artist_longitude AS longitude
        FROM song_records
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

source, output = sys.argv[1:]
Path(output).mkdir(parents=True, exist_ok=True)
songs = READ.format(f"{source}/song_data", SONG)
events = READ.format(f"{source}/log_data", EVENT)
db = duckdb.connect()
db.execute(STAGE.format(songs=songs, events=events))
for table, query in TABLES.items():
    layout = f"PARTITION_BY ({FOLDERS[table]})" if table in FOLDERS else "PER_THREAD_OUTPUT"
    db.execute(f"COPY ({query}) TO '{output}/{table}' (FORMAT parquet, {layout})")
