"""The five tables into PostgreSQL, with keys, indexes, comments and a view that joins them.

    createuser sparkify && createdb --owner sparkify sparkify          once per server
    python analytics/to_postgres.py --database postgresql://sparkify@localhost/sparkify
    python analytics/to_postgres.py s3a://my-bucket/lake --schema music

Loads by COPY in one transaction: until it commits, readers wait, and if it fails they find the
tables as before. A second load replaces the rows; views on the tables and grants stay. What
--database leaves out comes from PGHOST, PGUSER, PGDATABASE and so on, and the password from
PGPASSWORD or ~/.pgpass, as in every PostgreSQL program.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator

import common
from common import FAILED, SETTINGS, Stop, needed_packages, one_line, run_main

with needed_packages("analytics/requirements.txt"):
    import adbc_driver_postgresql.dbapi as postgres
    import pyarrow
    from lake import Lake, add_arguments, columns, explain, from_arguments, tables

TYPES = {
    "STRING": "text",
    "BIGINT": "bigint",
    "INT": "integer",
    "DOUBLE": "double precision",
    "TIMESTAMP": "timestamp with time zone",
}
# Columns without NULL, beside the keys.
REQUIRED = {
    "songplays": ("start_time", "user_id", "session_id", "year", "month"),
    "users": (),
    "songs": ("title", "artist_id", "duration", "year"),
    "artists": ("name",),
    "time": ("hour", "day", "week", "weekday", "year", "month"),
}
# table, column, the table whose key it is
REFERENCES = (
    ("songs", "artist_id", "artists"),
    ("songplays", "start_time", "time"),
    ("songplays", "user_id", "users"),
    ("songplays", "song_id", "songs"),
    ("songplays", "artist_id", "artists"),
)
INDEXES = [(table, (column,)) for table, column, _ in REFERENCES]
INDEXES += [(table, ("year", "month")) for table in ("songplays", "time")]
VIEW = "plays"
VIEW_COMMENT = "one row per play, with what the five tables say of it"
VIEW_SQL = """
    SELECT
        songplays.songplay_id,
        songplays.start_time,
        "time".hour,
        "time".weekday,
        "time".week,
        songplays.year,
        songplays.month,
        songplays.user_id,
        users.first_name,
        users.last_name,
        users.gender,
        songplays.level,
        users.level AS level_now,
        songplays.session_id,
        songplays.location,
        songplays.user_agent,
        songplays.song_id,
        songs.title AS song_title,
        songs.duration AS song_duration,
        songs.year AS song_year,
        songplays.artist_id,
        artists.name AS artist_name,
        artists.location AS artist_location
    FROM {schema}.songplays
    JOIN {schema}."time" ON "time".start_time = songplays.start_time
    JOIN {schema}.users ON users.user_id = songplays.user_id
    LEFT JOIN {schema}.songs ON songs.song_id = songplays.song_id
    LEFT JOIN {schema}.artists ON artists.artist_id = songplays.artist_id
"""
# Readers may hold the tables for a while, but one that never ends must not stop the load.
LOCK_SECONDS = 60
LOCKED, CANCELLED = "55P03", "57014"
# What a refusal's text holds, and what to do about it.
REMEDIES = {
    "Connection refused": "no PostgreSQL answers there; start it, or correct host and port",
    "could not translate host name": "there is no host of that name; correct --database or PGHOST",
    "password authentication failed": "correct PGPASSWORD, or the line in ~/.pgpass",
    "no password supplied": "set PGPASSWORD, or write a line in ~/.pgpass",
    "Peer authentication failed": "name a host, as in postgresql://USER@localhost/DATABASE",
    r'database ".*" does not exist': "make it with `createdb`, or correct --database",
    r'role ".*" does not exist': "make it with `createuser`, or correct --database",
    "permission denied": "let the owner of the database GRANT this user CREATE on it",
    "must be owner": "load as the user who loaded the tables first, or choose another --schema",
    "lock timeout": f"somebody has read the tables for {LOCK_SECONDS} s; try again",
}


def quoted(*names: str) -> str:
    """An identifier, such as "sparkify"."songplays"."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def key(table: str) -> str:
    return next(iter(columns(table)))


def create_tables(cursor, schema: str) -> None:
    """The tables, with their keys, if they are not there yet.

    Raises   Stop if a table of that name is not one of ours, before anything of it is touched
    """
    cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
    cursor.execute(f"SET LOCAL search_path = {quoted(schema)}")
    for table in tables():
        wanted = {name: TYPES[kind] for name, kind in columns(table).items()}
        cursor.execute(
            "SELECT column_name, data_type FROM information_schema.columns "
            f"WHERE table_schema = {literal(schema)} AND table_name = {literal(table)}"
        )
        found = dict(cursor.fetchall())
        if found not in ({}, wanted):
            message = f"{schema}.{table}: there is another table of this name"
            raise Stop(SETTINGS, f"{message}; choose another --schema")
        if not found:
            body = ", ".join(f"{quoted(name)} {kind}" for name, kind in wanted.items())
            primary = f"PRIMARY KEY ({quoted(key(table))})"
            cursor.execute(f"CREATE TABLE {quoted(schema, table)} ({body}, {primary})")
    cursor.execute(
        f"SELECT obj_description(to_regclass({literal(quoted(schema, VIEW))}), 'pg_class') "
        f"WHERE to_regclass({literal(quoted(schema, VIEW))}) IS NOT NULL"
    )
    (comment,) = cursor.fetchone() or (VIEW_COMMENT,)
    if comment != VIEW_COMMENT:
        message = f"{schema}.{VIEW}: there is another table or view of this name"
        raise Stop(SETTINGS, f"{message}; choose another --schema")


def lock_tables(connection, cursor, schema: str) -> None:
    """Makes the tables if need be, and waits until nobody reads them.

    A wait of more than a second is said. The driver takes no savepoints, so that the second try
    begins the transaction anew.
    """
    names = ", ".join(quoted(schema, table) for table in tables())
    for seconds in (1, LOCK_SECONDS):
        try:
            create_tables(cursor, schema)
            cursor.execute(f"SET LOCAL lock_timeout = '{seconds}s'")
            cursor.execute(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE")
            return
        except postgres.Error as error:
            if error.sqlstate != LOCKED or seconds == LOCK_SECONDS:
                raise
            connection.rollback()
            print(f"waiting for readers of the tables, at most {LOCK_SECONDS} s …", flush=True)


def empty_tables(cursor, schema: str) -> None:
    """Removes the rows, and what would be checked or kept in order row by row during the load."""
    for table, column, _ in REFERENCES:
        constraint = quoted(f"{table}_{column}_fkey")
        cursor.execute(
            f"ALTER TABLE {quoted(schema, table)} DROP CONSTRAINT IF EXISTS {constraint}"
        )
    for table, names in INDEXES:
        index = f"{table}_{'_'.join(names)}_idx"
        cursor.execute(f"DROP INDEX IF EXISTS {quoted(schema, index)}")
    cursor.execute(f"TRUNCATE {', '.join(quoted(schema, table) for table in tables())}")


def read_batches(lake: Lake, table: str) -> pyarrow.RecordBatchReader:
    """The rows for COPY, without the NUL characters that PostgreSQL's text cannot hold."""
    selected = [
        f"replace({quoted(name)}, chr(0), '') AS {quoted(name)}"
        if kind == "STRING"
        else quoted(name)
        for name, kind in columns(table).items()
    ]
    answer = lake.db.sql(f"SELECT {', '.join(selected)} FROM {quoted(table)}")
    return pyarrow.RecordBatchReader.from_stream(answer)


def load_table(cursor, schema: str, lake: Lake, table: str) -> None:
    start, rows = time.monotonic(), 0
    batches = read_batches(lake, table)
    is_terminal = sys.stdout.isatty()

    def counted() -> Iterator[pyarrow.RecordBatch]:
        nonlocal rows
        for batch in batches:
            rows += batch.num_rows
            if is_terminal:
                print(f"\r{table:<10}{rows:>13,} rows", end="", flush=True)
            yield batch

    reader = pyarrow.RecordBatchReader.from_batches(batches.schema, counted())
    cursor.adbc_ingest(table, reader, mode="append", db_schema_name=schema)
    again = "\r" if is_terminal else ""
    print(f"{again}{table:<10}{rows:>13,} rows {time.monotonic() - start:>7.1f} s", flush=True)


def add_keys(cursor, schema: str) -> None:
    """Columns without NULL, indexes and foreign keys."""
    for table, names in REQUIRED.items():
        for name in names:
            column = f"ALTER COLUMN {quoted(name)} SET NOT NULL"
            cursor.execute(f"ALTER TABLE {quoted(schema, table)} {column}")
    for table, names in INDEXES:
        index = quoted(f"{table}_{'_'.join(names)}_idx")
        listed = ", ".join(map(quoted, names))
        cursor.execute(f"CREATE INDEX {index} ON {quoted(schema, table)} ({listed})")
    for table, column, target in REFERENCES:
        cursor.execute(
            f"ALTER TABLE {quoted(schema, table)} "
            f"ADD CONSTRAINT {quoted(f'{table}_{column}_fkey')} FOREIGN KEY ({quoted(column)}) "
            f"REFERENCES {quoted(schema, target)} ({quoted(key(target))})"
        )


def add_comments(cursor, schema: str, lake: Lake) -> None:
    """What etl.py says of each table and column, and where the rows come from."""
    for table, words in common.grains().items():
        cursor.execute(f"COMMENT ON TABLE {quoted(schema, table)} IS {literal(words)}")
        for column in common.tables()[table]:
            name = quoted(schema, table, column.name)
            cursor.execute(f"COMMENT ON COLUMN {name} IS {literal(column.comment)}")
    cursor.execute(f"COMMENT ON VIEW {quoted(schema, VIEW)} IS {literal(VIEW_COMMENT)}")
    source = f"{lake.uri}, commit {lake.commit['commit']}"
    cursor.execute(f"COMMENT ON SCHEMA {quoted(schema)} IS {literal(source)}")


def finish_tables(cursor, schema: str, lake: Lake) -> None:
    """Keys, indexes, the view, comments, and what the planner knows."""
    add_keys(cursor, schema)
    view = VIEW_SQL.format(schema=quoted(schema))
    cursor.execute(f"CREATE OR REPLACE VIEW {quoted(schema, VIEW)} AS {view}")
    add_comments(cursor, schema, lake)
    for table in tables():
        cursor.execute(f"ANALYZE {quoted(schema, table)}")


def explain_refusal(error: postgres.Error, schema: str) -> Exception:
    """What an error of PostgreSQL amounts to: Ctrl-C, or one line with its remedy."""
    text = str(error)
    if error.sqlstate == CANCELLED and "user request" in text:
        return KeyboardInterrupt()
    is_outside = "Failed to connect" in text or "connection to server" in text
    remedy = "check it, PGHOST, PGUSER, and PGPASSWORD or ~/.pgpass"
    if not is_outside:
        remedy = "nothing is changed"
    for pattern, words in REMEDIES.items():
        if re.search(pattern, text):
            remedy = words if is_outside else f"nothing is changed; {words}"
            break
    place = "--database" if is_outside else f"schema {schema}"
    return Stop(SETTINGS if is_outside else FAILED, f"{place}: {one_line(error)}; {remedy}")


def load(lake: Lake, database: str, schema: str) -> None:
    """Replaces the five tables of a schema, all or none.

    Raises   Stop if PostgreSQL refuses
    """
    try:
        with postgres.connect(database) as connection, connection.cursor() as cursor:
            lock_tables(connection, cursor, schema)
            empty_tables(cursor, schema)
            for table in tables():
                load_table(cursor, schema, lake, table)
            start = time.monotonic()
            finish_tables(cursor, schema, lake)
            connection.commit()
            print(f"keys, indexes and comments {time.monotonic() - start:>14.1f} s")
    except postgres.Error as error:
        raise explain_refusal(error, schema) from None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument(
        "--database",
        default="postgresql://",
        metavar="URI",
        help="such as postgresql://USER@HOST/DATABASE, without a password",
    )
    parser.add_argument(
        "--schema",
        default="sparkify",
        help="for the tables; it is made if it is not there (default: %(default)s)",
    )
    given = parser.parse_args()
    if re.search("//.*:.*@|password=", given.database):
        message = "--database: a password on the command line can be read by others"
        raise Stop(SETTINGS, f"{message}; use PGPASSWORD or ~/.pgpass")
    lake = from_arguments(given)
    load(lake, given.database, given.schema)
    print(f"commit {lake.commit['commit']} of {lake.uri} is in schema {given.schema}")


if __name__ == "__main__":
    sys.exit(run_main("to_postgres.py", main, explain))
