"""The five tables in AWS Glue, where Athena finds them.

    python cloud/catalog.py ddl      --output s3://BUCKET/lake     prints CREATE EXTERNAL TABLE for them
    python cloud/catalog.py register --output s3://BUCKET/lake     creates or updates them and their partitions
    python cloud/catalog.py check    --output s3://BUCKET/lake     compares; exit code 1 where they differ

What there is comes from the newest published commit's list of files, types from those files.  Run `register` after each
run of the job; it changes only what differs.  With --projection Athena derives the partitions of songplays and time
from a range of years instead of looking them up, and a new month needs no `register`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from typing import NamedTuple
from urllib.parse import unquote

import aws as cloud
import duckdb
from aws import FAILED, SETTINGS, Aws, Stop, join_key, split_s3

DATABASE = "sparkify"
GRAIN = {  # one row per …
    "songplays": "NextSong event (key songplay_id)",
    "users": "user_id, as of the latest event",
    "songs": "song_id",
    "artists": "artist_id, whole from one record",
    "time": "distinct start_time of songplays",
}
UNITS = {
    "duration": "seconds",
    "latitude": "degrees",
    "longitude": "degrees",
    "level": "free or paid; in songplays at the time of the play, in users now",
    "start_time": "UTC",
    "week": "ISO 8601",
    "weekday": "1 = Sunday to 7 = Saturday",
    ("songs", "year"): "0 = unknown",
    ("songplays", "songplay_id"): "md5 of userId|sessionId|itemInSession|ts",
    ("songplays", "song_id"): "NULL where no song matches",
    ("songplays", "artist_id"): "NULL where no song matches",
}
HIVE_TYPES = {  # DuckDB's name of what a Parquet file holds -> Hive's
    "VARCHAR": "string",
    "BIGINT": "bigint",
    "INTEGER": "int",
    "DOUBLE": "double",
    "TIMESTAMP WITH TIME ZONE": "timestamp",
}
PARTITION_TYPES = {"year": "int", "month": "int"}  # any other folder's name is text
PARQUET = "org.apache.hadoop.hive.ql.io.parquet"
FOOTER_BYTES = 2**20
BATCH = {
    "batch_create_partition": 100,
    "batch_update_partition": 100,
    "batch_delete_partition": 25,
}  # Glue's limits


class Table(NamedTuple):
    """One table as the lake has it.  Columns are (name, type); partitions map the folders' values to their prefix."""

    name: str
    location: str
    columns: list[tuple[str, str]]
    keys: list[tuple[str, str]]
    partitions: dict[tuple[str, ...], str]


# ── What the lake has ────────────────────────────────────────────────────────────────────────────────────────────────


def newest_commit(aws: Aws, output: str) -> dict:
    """The newest commit that is published: the others' files are not all in their place."""
    bucket, prefix = split_s3(output)
    done = join_key(prefix, "_etl", "done") + "/"
    keys = [
        item["Key"]
        for item in aws.each("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=done)
    ]
    if not keys:
        raise Stop(
            SETTINGS, f"{output}: no published commit there; run the job first, or correct --output"
        )
    number = "<commit>" if aws.dry_run else max(key.rpartition("/")[2] for key in keys)
    key = join_key(prefix, "_etl", "commits", f"{number}.json")
    answer = aws.send("s3", "get_object", Bucket=bucket, Key=key)
    files = {
        table: {"files": [f"year={year}/month=1/<file>" for year in (0, 1)]} for table in GRAIN
    }  # of a dry run
    return {"tables": files} if aws.dry_run else json.load(answer["Body"])


def parquet_columns(aws: Aws, uri: str) -> list[tuple[str, str]]:
    """Name and Hive type of a Parquet file's columns, from its footer alone."""
    bucket, key = split_s3(uri)
    answer = aws.send("s3", "get_object", Bucket=bucket, Key=key, Range=f"bytes=-{FOOTER_BYTES}")
    if aws.dry_run:
        return []
    size = int(answer["ContentRange"].rpartition("/")[2])
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        footer = answer["Body"].read()
        file.seek(size - len(footer))  # readers start from the end; what is before it stays a hole
        file.write(footer)
        file.flush()
        described = duckdb.execute("DESCRIBE SELECT * FROM read_parquet(?)", [file.name]).fetchall()
    for name, kind, *_ in described:
        if kind not in HIVE_TYPES:
            raise Stop(
                FAILED,
                f"{uri}: {name} is a {kind}, which no table of this job has; was it written by another?",
            )
    return [(name, HIVE_TYPES[kind]) for name, kind, *_ in described]


def tables_of(aws: Aws, output: str) -> list[Table]:
    """The five tables as the newest published commit has them."""
    tables, commit = [], newest_commit(aws, output)
    for name in GRAIN:
        files = sorted(commit["tables"][name]["files"])
        location = f"{output}/{name}"
        partitions = {}
        for folder in sorted({file.rpartition("/")[0] for file in files} - {""}):
            values = tuple(
                unquote(part.partition("=")[2]) for part in folder.split("/")
            )  # Spark escapes : and such
            partitions[values] = f"{location}/{folder}"
        keys = [part.partition("=")[0] for part in files[0].split("/")[:-1]]
        typed = [(key, PARTITION_TYPES.get(key, "string")) for key in keys]
        tables.append(
            Table(name, location, parquet_columns(aws, f"{location}/{files[0]}"), typed, partitions)
        )
    return tables


def is_projected(table: Table, projection: bool) -> bool:
    return projection and [name for name, _ in table.keys] == ["year", "month"]


def properties(table: Table, projection: bool) -> dict[str, str]:
    """Table properties.  Years are projected from the first to the one after the last; each costs a query listings."""
    if not is_projected(table, projection):
        return {"classification": "parquet", "EXTERNAL": "TRUE"}
    years = [int(year) for year, _ in table.partitions]
    return {
        "classification": "parquet",
        "EXTERNAL": "TRUE",
        "projection.enabled": "true",
        "projection.year.type": "integer",
        "projection.year.range": f"{min(years)},{max(years) + 1}",
        "projection.month.type": "integer",
        "projection.month.range": "1,12",
        "storage.location.template": f"{table.location}/year=${{year}}/month=${{month}}",
    }


def unit(table: str, column: str) -> str:
    return UNITS.get((table, column)) or UNITS.get(column, "")


# ── DDL ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def quote(text: str) -> str:
    escaped = text.replace("'", "\\'")
    return f"'{escaped}'"


def column_list(table: Table, columns: list[tuple[str, str]]) -> str:
    comments = [
        f" COMMENT {quote(unit(table.name, name))}" * bool(unit(table.name, name))
        for name, _ in columns
    ]
    return ",\n".join(
        f"  `{name}` {kind}{comment}" for (name, kind), comment in zip(columns, comments)
    )


def statements(table: Table, database: str, projection: bool) -> list[str]:
    """CREATE EXTERNAL TABLE, and ALTER TABLE for its partitions where they are not projected."""
    name = f"`{database}`.`{table.name}`"
    create = (
        f"CREATE EXTERNAL TABLE IF NOT EXISTS {name} (\n{column_list(table, table.columns)}\n)\n"
    )
    create += f"COMMENT {quote(f'one row per {GRAIN[table.name]}')}\n"
    if table.keys:
        create += f"PARTITIONED BY (\n{column_list(table, table.keys)}\n)\n"
    given = properties(table, projection)
    given.pop("EXTERNAL")  # the statement says so
    listed = ", ".join(f"{quote(key)} = {quote(value)}" for key, value in given.items())
    create += f"STORED AS PARQUET\nLOCATION {quote(table.location + '/')}\nTBLPROPERTIES ({listed})"
    if not table.partitions or is_projected(table, projection):
        return [create]
    names = [key for key, _ in table.keys]
    specs = []
    for values, location in table.partitions.items():
        spec = ", ".join(f"`{key}` = {quote(value)}" for key, value in zip(names, values))
        specs.append(f"  PARTITION ({spec}) LOCATION {quote(location + '/')}")
    return [create, f"ALTER TABLE {name} ADD IF NOT EXISTS\n" + "\n".join(specs)]


# ── Glue ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def storage(location: str, columns: list[dict]) -> dict:
    serde = {
        "SerializationLibrary": f"{PARQUET}.serde.ParquetHiveSerDe",
        "Parameters": {"serialization.format": "1"},
    }
    return {
        "Columns": columns,
        "Location": f"{location}/",
        "InputFormat": f"{PARQUET}.MapredParquetInputFormat",
        "OutputFormat": f"{PARQUET}.MapredParquetOutputFormat",
        "SerdeInfo": serde,
    }


def glue_columns(table: Table, columns: list[tuple[str, str]]) -> list[dict]:
    typed = [
        {"Name": name, "Type": kind, "Comment": unit(table.name, name)} for name, kind in columns
    ]
    return [{key: value for key, value in column.items() if value} for column in typed]


def table_input(table: Table, projection: bool) -> dict:
    return {
        "Name": table.name,
        "Description": f"one row per {GRAIN[table.name]}",
        "TableType": "EXTERNAL_TABLE",
        "Parameters": properties(table, projection),
        "PartitionKeys": glue_columns(table, table.keys),
        "StorageDescriptor": storage(table.location, glue_columns(table, table.columns)),
    }


def partition_input(table: Table, values: tuple[str, ...]) -> dict:
    columns = glue_columns(table, table.columns)
    return {"Values": list(values), "StorageDescriptor": storage(table.partitions[values], columns)}


def found(aws: Aws, operation: str, **request):
    """What Glue has of a name; None where it has nothing."""
    try:
        return aws.send("glue", operation, **request)
    except aws.client("glue").exceptions.EntityNotFoundException:
        return None


def same(wanted, there) -> bool:
    """Whether all that is wanted is there; Glue adds fields of its own."""
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(
            same(value, there.get(key)) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return len(wanted) == len(there or []) and all(map(same, wanted, there))
    return wanted == there


class Change(NamedTuple):
    """A request that would make Glue agree with the lake, and why it does not."""

    text: str
    operation: str
    request: dict


def changes(aws: Aws, table: Table, database: str, projection: bool):
    """Yields the requests that Glue lacks for one table, in an order that lets no query see a partition twice."""
    wanted = table_input(table, projection)
    name = {"DatabaseName": database, "TableName": table.name}
    there = found(aws, "get_table", DatabaseName=database, Name=table.name)
    if there is None or aws.dry_run:
        yield Change(
            f"{table.name}: not in Glue",
            "create_table",
            {"DatabaseName": database, "TableInput": wanted},
        )
    if there is not None and not same(wanted, there["Table"]):
        text = f"{table.name}: columns, location, comments or properties differ"
        yield Change(text, "update_table", {"DatabaseName": database, "TableInput": wanted})
    listed, mine = {}, {}
    if not is_projected(table, projection):
        mine = {values: partition_input(table, values) for values in table.partitions}
    if there is not None:
        listed = {
            tuple(part["Values"]): part
            for part in aws.each("glue", "get_partitions", "Partitions", **name)
        }
    if aws.dry_run:  # one that is gone, one that differs, and one of mine that is new
        listed = {("<Value>",): {}, **{values: {} for values in list(mine)[:1]}}
    gone = [{"Values": list(values)} for values in listed.keys() - mine.keys()]
    new = [mine[values] for values in sorted(mine.keys() - listed.keys())]
    moved = [
        mine[values]
        for values in sorted(mine.keys() & listed.keys())
        if not same(mine[values], listed[values])
    ]
    updates = [{"PartitionValueList": part["Values"], "PartitionInput": part} for part in moved]
    for what, operation, field, items in (
        ("partitions are missing", "batch_create_partition", "PartitionInputList", new),
        ("partitions differ", "batch_update_partition", "Entries", updates),
        ("partitions are no longer there", "batch_delete_partition", "PartitionsToDelete", gone),
    ):
        for start in range(0, len(items), BATCH[operation]):
            batch = items[start : start + BATCH[operation]]
            yield Change(f"{table.name}: {len(batch)} {what}", operation, {**name, field: batch})


# ── Commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def ddl(aws: Aws, options) -> int:
    for table in tables_of(aws, options.output):
        for statement in statements(table, options.database, options.projection):
            aws.say(statement + ";\n")
    return 0


def register(aws: Aws, options) -> int:
    made = 0
    tables = tables_of(aws, options.output)
    if not found(aws, "get_database", Name=options.database) or aws.dry_run:
        aws.send(
            "glue",
            "create_database",
            DatabaseInput={"Name": options.database, "Description": "Sparkify's data lake"},
        )
    for table in tables:
        for change in changes(aws, table, options.database, options.projection):
            answer = aws.send("glue", change.operation, **change.request)
            if not aws.dry_run and answer.get("Errors"):
                raise Stop(
                    FAILED,
                    f"{change.text}; Glue refused some: {answer['Errors'][0]['ErrorDetail']}; run it again",
                )
            made += 1
            aws.say(f"changed: {change.text}")
    aws.say(
        f"{options.database}: {made} changes; SELECT count(*) FROM {options.database}.songplays works in Athena now"
    )
    return 0


def check(aws: Aws, options) -> int:
    tables = tables_of(aws, options.output)
    differing = [
        change
        for table in tables
        for change in changes(aws, table, options.database, options.projection)
    ]
    for change in differing:
        aws.say(change.text)
    if differing and not aws.dry_run:
        raise Stop(
            FAILED,
            f"{options.database} and {options.output} differ; `catalog.py register` mends it",
        )
    aws.say(f"{options.database} is as {options.output} has it")
    return 0


def command_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "catalog.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    for action, text in (
        (ddl, "print CREATE EXTERNAL TABLE for the five tables"),
        (register, "create or update the tables and their partitions in Glue"),
        (check, "compare Glue with the lake"),
    ):
        verb = cloud.add_command(verbs, action, text)
        verb.add_argument("--output", required=True, type=cloud.place, help="s3://… of the tables")
        verb.add_argument("--database", default=DATABASE, help=f"in Glue (default: {DATABASE})")
        verb.add_argument(
            "--projection", action="store_true", help="project the partitions of songplays and time"
        )
        cloud.add_common(verb)
    return parser


def main(arguments: list[str] | None = None) -> int:
    return cloud.main(command_parser(), lambda parser: parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
