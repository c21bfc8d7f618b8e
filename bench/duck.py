"""The five tables built by DuckDB in etl.py's layout, to time beside it; no account, audit or publishing.

python bench/duck.py INPUT OUTPUT
"""

import sys
from pathlib import Path

import duckdb

source, output = sys.argv[1:]
Path(output).mkdir(parents=True, exist_ok=True)
db = duckdb.connect()
db.execute("SET TimeZone = 'UTC'")
songs_columns = """{song_id: 'VARCHAR', title: 'VARCHAR', artist_id: 'VARCHAR', artist_name: 'VARCHAR', year: 'INTEGER',
    duration: 'DOUBLE', artist_location: 'VARCHAR', artist_latitude: 'DOUBLE', artist_longitude: 'DOUBLE'}"""
event_columns = """{artist: 'VARCHAR', firstName: 'VARCHAR', gender: 'VARCHAR', itemInSession: 'BIGINT',
    lastName: 'VARCHAR', length: 'DOUBLE', level: 'VARCHAR', location: 'VARCHAR', page: 'VARCHAR', sessionId: 'BIGINT',
    song: 'VARCHAR', ts: 'BIGINT', userAgent: 'VARCHAR', userId: 'VARCHAR'}"""
read = "read_json('{}/**/*.json', format = 'newline_delimited', ignore_errors = true, columns = {})"
db.execute(
    f"CREATE TABLE catalog AS SELECT DISTINCT * FROM {read.format(source + '/song_data', songs_columns)}"
)
db.execute(
    f"CREATE TABLE events AS SELECT * FROM {read.format(source + '/log_data', event_columns)}"
)
db.execute("""CREATE TABLE plays AS SELECT DISTINCT ON (userId, sessionId, itemInSession, ts)
    *, make_timestamptz(ts * 1000) AS start_time FROM events WHERE page = 'NextSong'""")
db.execute("""CREATE TABLE lookup AS SELECT title, artist_name, duration, min((song_id, artist_id)) AS track
    FROM catalog GROUP BY ALL""")
TABLES = {
    "songs": """SELECT DISTINCT ON (song_id) song_id, title, artist_id, duration, year FROM catalog
        ORDER BY song_id, year = 0, year, title""",
    "artists": """SELECT DISTINCT ON (artist_id) artist_id, artist_name AS name, artist_location AS location,
        artist_latitude AS latitude, artist_longitude AS longitude FROM catalog ORDER BY artist_id, artist_name""",
    "users": """SELECT userId::BIGINT AS user_id, arg_max(firstName, ts) AS first_name,
        arg_max(lastName, ts) AS last_name, arg_max(gender, ts) AS gender, arg_max(level, ts) AS level
        FROM events WHERE userId <> '' GROUP BY 1""",
    "time": """SELECT DISTINCT start_time, hour(start_time) AS hour, day(start_time) AS day,
        week(start_time) AS week, dayofweek(start_time) + 1 AS weekday, year(start_time) AS year,
        month(start_time) AS month FROM plays""",
    "songplays": """SELECT md5(concat_ws('|', userId, sessionId, itemInSession, ts)) AS songplay_id, start_time,
        userId::BIGINT AS user_id, level, track[1] AS song_id, track[2] AS artist_id, sessionId AS session_id, location,
        userAgent AS user_agent, year(start_time) AS year, month(start_time) AS month
        FROM plays LEFT JOIN lookup ON song = title AND artist = artist_name AND length = duration""",
}
FOLDERS = {"songs": "year", "time": "year, month", "songplays": "year, month"}
for table, query in TABLES.items():
    layout = f", PARTITION_BY ({FOLDERS[table]})" if table in FOLDERS else ""
    target = f"{output}/{table}" + ("" if table in FOLDERS else ".parquet")
    db.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet{layout})")
