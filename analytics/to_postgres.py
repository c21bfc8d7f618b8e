"""Loads the five tables into PostgreSQL, with keys, comments and a view.

    python analytics/to_postgres.py --database postgresql://sparkify@localhost
    python analytics/to_postgres.py s3a://my-bucket/lake --schema music

A load replaces all rows in one transaction; if it fails, the tables are as
before. Views on the tables and grants stay. What --database leaves out comes
from PGHOST, PGUSER and PGDATABASE, and the password from PGPASSWORD or
~/.pgpass. Once per server, a role and a database are needed:

    sudo -u postgres createuser --pwprompt sparkify
    sudo -u postgres createdb --owner sparkify sparkify
"""

from __future__ import annotations

import argparse
import re
import sys
import time

try:
    import adbc_driver_postgresql.dbapi as postgres
    import pyarrow
    from lake import HERE, Lake, add_arguments, open_lake, run_program

    import etl
except ModuleNotFoundError as error:
    sys.exit(f"Package {error.name} not found. Run: pip install -r analytics/requirements.txt")

# Referenced tables before those that refer to them.
TABLES = ("users", "artists", "songs", "time", "songplays")
TYPES = {
    "STRING": "text",
    "BIGINT": "bigint",
    "INT": "integer",
    "DOUBLE": "double precision",
    "TIMESTAMP": "timestamp with time zone",
}
# Readers may hold the tables for a while, but one that never ends must not stop the load.
LOCK_TIMEOUT = "60s"
CANCELLED = "57014"


def identifier(*names: str) -> str:
    """A quoted name, such as "sparkify"."songplays"."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def refuse_other_tables(cursor: postgres.Cursor, schema: str, lake: Lake) -> None:
    """Raises Stop if the schema has a table with one of our names and other columns."""
    for table in TABLES:
        wanted = {column["name"]: TYPES[column["type"]] for column in lake.tables[table]["columns"]}
        cursor.execute(
            "SELECT column_name, data_type FROM information_schema.columns "
            f"WHERE table_schema = {literal(schema)} AND table_name = {literal(table)}"
        )
        found = dict(cursor.fetchall())
        if found not in ({}, wanted):
            message = f"{schema}.{table} is another table. Choose another --schema."
            raise etl.Stop(2, message)


def prepare_tables(cursor: postgres.Cursor, schema: str, lake: Lake) -> None:
    """Creates what is missing, waits for readers, and empties the tables."""
    cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(schema)}")
    cursor.execute(f"SET LOCAL search_path = {identifier(schema)}")
    refuse_other_tables(cursor, schema, lake)
    for statement in (HERE / "postgres.sql").read_text(encoding="utf-8").split(";\n")[:-1]:
        cursor.execute(statement)
    cursor.execute(f"TRUNCATE {', '.join(identifier(table) for table in TABLES)}")


def load_table(cursor: postgres.Cursor, schema: str, lake: Lake, table: str) -> None:
    """Copies the rows, without the NUL characters that PostgreSQL's text cannot hold."""
    start = time.monotonic()
    columns = [
        f"replace({column['name']}, chr(0), '') AS {column['name']}"
        if column["type"] == "STRING"
        else column["name"]
        for column in lake.tables[table]["columns"]
    ]
    rows = lake.db.sql(f"SELECT {', '.join(columns)} FROM {table}")
    reader = pyarrow.RecordBatchReader.from_stream(rows)
    count = cursor.adbc_ingest(table, reader, mode="append", db_schema_name=schema)
    print(f"{table:<10}{count:>13,} rows {time.monotonic() - start:>7.1f} s", flush=True)


def add_comments(cursor: postgres.Cursor, schema: str, lake: Lake) -> None:
    """What the commit says of each table and column, and where the rows come from."""
    for table in TABLES:
        described = lake.tables[table]
        cursor.execute(f"COMMENT ON TABLE {identifier(table)} IS {literal(described['grain'])}")
        for column in described["columns"]:
            name = identifier(table, column["name"])
            cursor.execute(f"COMMENT ON COLUMN {name} IS {literal(column['comment'])}")
    source = f"{lake.output}, commit {lake.commit['commit']}"
    cursor.execute(f"COMMENT ON SCHEMA {identifier(schema)} IS {literal(source)}")


def load(lake: Lake, database: str, schema: str) -> None:
    """Replaces the five tables of a schema, all or none.

    Raises   Stop if PostgreSQL refuses
    """
    try:
        connection = postgres.connect(database)
    except postgres.Error as error:
        raise etl.Stop(2, f"--database: {' '.join(str(error).split())}") from None
    try:
        with connection, connection.cursor() as cursor:
            prepare_tables(cursor, schema, lake)
            for table in TABLES:
                load_table(cursor, schema, lake, table)
            add_comments(cursor, schema, lake)
            for table in TABLES:
                cursor.execute(f"ANALYZE {identifier(table)}")
            connection.commit()
    except postgres.Error as error:
        if error.sqlstate == CANCELLED:
            raise KeyboardInterrupt from None
        raise etl.Stop(1, f"nothing is changed: {' '.join(str(error).split())}") from None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument(
        "--database",
        default="postgresql://",
        metavar="URI",
        help="such as postgresql://USER@HOST/NAME, without a password",
    )
    parser.add_argument(
        "--schema",
        default="sparkify",
        help="schema to load, created if missing (default: sparkify)",
    )
    given = parser.parse_args()
    if re.search("//.*:.*@|password=", given.database):
        message = "--database: other users can see a password in a command line"
        raise etl.Stop(2, f"{message}. Use PGPASSWORD or ~/.pgpass.")
    lake = open_lake(given.output, given.config)
    load(lake, given.database, given.schema)
    print(f"Commit {lake.commit['commit']} of {lake.output} is in schema {given.schema}.")


if __name__ == "__main__":
    sys.exit(run_program(main))
