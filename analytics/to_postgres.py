"""The five tables into PostgreSQL, with keys, foreign keys, indexes and comments, for whoever browses them there.

    python analytics/to_postgres.py --database postgresql://sparkify@localhost/sparkify
    python analytics/to_postgres.py s3a://my-bucket/lake --schema music

Loads by COPY in one transaction: until it commits readers wait, and if it fails they find the tables as before. A
second load replaces the rows; views on the tables and grants stay. What --database leaves out comes from PGHOST,
PGUSER, PGDATABASE … and the password from PGPASSWORD or ~/.pgpass, as in every PostgreSQL program.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator

import adbc_driver_postgresql.dbapi as postgres
import pyarrow
from lake import (
    FAILED,
    SETTINGS,
    TABLES,
    Lake,
    Stop,
    add_arguments,
    columns,
    from_arguments,
    one_line,
    run_main,
)

TYPES = {
    "STRING": "text",
    "BIGINT": "bigint",
    "INT": "integer",
    "DOUBLE": "double precision",
    "TIMESTAMP": "timestamp with time zone",
}
REFERENCES = (  # column, the table whose key it is
    ("songs", "artist_id", "artists"),
    ("songplays", "start_time", "time"),
    ("songplays", "user_id", "users"),
    ("songplays", "song_id", "songs"),
    ("songplays", "artist_id", "artists"),
)
COMMENTS = {
    "songplays": "one row per play",
    "users": "one row per user, as of the latest event",
    "songs": "one row per song of the catalogue",
    "artists": "one row per artist of the catalogue",
    "time": "one row per distinct start time of songplays",
    "songplays.songplay_id": "md5 of userId|sessionId|itemInSession|ts",
    "songplays.level": "free or paid, at the play",
    "songplays.song_id": "NULL where no song of the catalogue has the play's title, artist and duration",
    "songplays.artist_id": "NULL where song_id is",
    "songplays.session_id": "counts within one user",
    "songplays.location": "of the listener, at the play",
    "users.level": "free or paid, now",
    "songs.duration": "seconds",
    "songs.year": "0: unknown",
    "artists.latitude": "degrees",
    "artists.longitude": "degrees",
    "time.hour": "0 to 23, UTC",
    "time.week": "ISO 8601",
    "time.weekday": "1: Sunday … 7: Saturday",
}
LOCK_TIMEOUT = "60s"  # readers may hold the tables for a while; one that never ends must not stop the load without a word


def quoted(*names: str) -> str:
    """An identifier, such as "sparkify"."songplays"."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def key(table: str) -> str:
    return next(iter(columns(table)))


def create_tables(cursor, schema: str) -> None:
    """The tables, with their keys, where they are not there yet.

    Raises   Stop where a table of that name is not one of ours, before anything of it is touched
    """
    cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
    for table in TABLES:
        wanted = {name: TYPES[kind] for name, kind in columns(table).items()}
        cursor.execute(
            "SELECT column_name, data_type FROM information_schema.columns "
            f"WHERE table_schema = {literal(schema)} AND table_name = {literal(table)}"
        )
        found = dict(cursor.fetchall())
        if found not in ({}, wanted):
            raise Stop(
                SETTINGS,
                f"{schema}.{table}: there is another table of this name; choose another --schema",
            )
        if not found:
            body = ", ".join(f"{quoted(name)} {kind}" for name, kind in wanted.items())
            cursor.execute(
                f"CREATE TABLE {quoted(schema, table)} ({body}, PRIMARY KEY ({quoted(key(table))}))"
            )


def empty_tables(cursor, schema: str) -> None:
    """Removes the rows, and what would be checked or kept in order row by row while they are loaded."""
    for table, column, _ in REFERENCES:
        cursor.execute(
            f"ALTER TABLE {quoted(schema, table)} DROP CONSTRAINT IF EXISTS {quoted(f'{table}_{column}_fkey')}"
        )
        cursor.execute(f"DROP INDEX IF EXISTS {quoted(schema, f'{table}_{column}_idx')}")
    cursor.execute(f"TRUNCATE {', '.join(quoted(schema, table) for table in TABLES)}")


def read_batches(lake: Lake, table: str) -> pyarrow.RecordBatchReader:
    """The rows for COPY; without the NUL characters that PostgreSQL's text cannot hold."""
    selected = (
        f"replace({quoted(name)}, chr(0), '') AS {quoted(name)}"
        if kind == "STRING"
        else quoted(name)
        for name, kind in columns(table).items()
    )
    return pyarrow.RecordBatchReader.from_stream(
        lake.db.sql(f"SELECT {', '.join(selected)} FROM {quoted(table)}")
    )


def load_table(cursor, schema: str, lake: Lake, table: str) -> None:
    start, rows = time.monotonic(), 0
    batches = read_batches(lake, table)

    def counted() -> Iterator[pyarrow.RecordBatch]:
        nonlocal rows
        for batch in batches:
            rows += batch.num_rows
            if sys.stdout.isatty():
                print(f"\r{table:<10}{rows:>13,} rows", end="", flush=True)
            yield batch

    reader = pyarrow.RecordBatchReader.from_batches(batches.schema, counted())
    cursor.adbc_ingest(table, reader, mode="append", db_schema_name=schema)
    again = "\r" if sys.stdout.isatty() else ""
    print(f"{again}{table:<10}{rows:>13,} rows {time.monotonic() - start:>7.1f} s", flush=True)


def finish_tables(cursor, schema: str, lake: Lake) -> None:
    """Foreign keys, indexes and comments."""
    for table, column, target in REFERENCES:
        cursor.execute(
            f"CREATE INDEX {quoted(f'{table}_{column}_idx')} ON {quoted(schema, table)} ({quoted(column)})"
        )
        cursor.execute(
            f"ALTER TABLE {quoted(schema, table)} ADD CONSTRAINT {quoted(f'{table}_{column}_fkey')} "
            f"FOREIGN KEY ({quoted(column)}) REFERENCES {quoted(schema, target)} ({quoted(key(target))})"
        )
    for name, text in COMMENTS.items():
        kind = "COLUMN" if "." in name else "TABLE"
        cursor.execute(f"COMMENT ON {kind} {quoted(schema, *name.split('.'))} IS {literal(text)}")
    source = f"{lake.uri}, commit {lake.commit['commit']}"
    cursor.execute(f"COMMENT ON SCHEMA {quoted(schema)} IS {literal(source)}")
    for table in TABLES:
        cursor.execute(f"ANALYZE {quoted(schema, table)}")


def load(lake: Lake, database: str, schema: str) -> None:
    """Replaces the five tables of a schema, all or none.  Raises Stop where PostgreSQL refuses."""
    try:
        with postgres.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            create_tables(cursor, schema)
            empty_tables(cursor, schema)
            for table in TABLES:
                load_table(cursor, schema, lake, table)
            start = time.monotonic()
            finish_tables(cursor, schema, lake)
            connection.commit()
            print(f"keys, indexes and comments {time.monotonic() - start:>14.1f} s")
    except postgres.Error as error:
        is_ours = "Failed to connect" not in str(error)
        place = f"schema {schema}" if is_ours else "--database"
        remedy = (
            "nothing is changed"
            if is_ours
            else "check it, PGHOST, PGUSER, and PGPASSWORD or ~/.pgpass"
        )
        raise Stop(
            FAILED if is_ours else SETTINGS, f"{place}: {one_line(error)}; {remedy}"
        ) from None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument(
        "--database", default="postgresql://", metavar="URI", help="without a password"
    )
    parser.add_argument(
        "--schema", default="sparkify", help="made where it is not there (default: %(default)s)"
    )
    given = parser.parse_args()
    if re.search("//.*:.*@|password=", given.database):
        raise Stop(
            SETTINGS,
            "--database: a password on the command line can be read by others; use PGPASSWORD or ~/.pgpass",
        )
    lake = from_arguments(given)
    load(lake, given.database, given.schema)
    print(f"commit {lake.commit['commit']} of {lake.uri} is in schema {given.schema}")


if __name__ == "__main__":
    sys.exit(run_main("to_postgres.py", main))
