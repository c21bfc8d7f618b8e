"""The five tables in AWS Glue, where Athena finds them.

    python cloud/catalog.py ddl      --output s3://BUCKET/lake    prints CREATE EXTERNAL TABLE
    python cloud/catalog.py register --output s3://BUCKET/lake    creates or updates them in Glue
    python cloud/catalog.py check    --output s3://BUCKET/lake    compares; exit 1 if they differ

What there is comes from the newest published commit's list of files; columns and comments from
etl.py.  Run `register` after each run of the job, or give `emr.py run --register`; it changes only
what differs.  With --projection Athena derives the partitions of songplays and time from a range
of years instead of looking them up; without it, an earlier --projection is taken back.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import unquote

import aws as cloud
from aws import FAILED, SETTINGS, Aws, Stop, join_key, split_s3
from common import Column, grains, newest_done, tables

DATABASE = "sparkify"
PARQUET = "org.apache.hadoop.hive.ql.io.parquet"
# folders of a table, if it has no file whose name would tell
FOLDERS = {"songplays": ["year", "month"], "time": ["year", "month"], "songs": ["year"]}
# most items of one request, by Glue's API reference
BATCH = {
    "batch_create_partition": 100,
    "batch_update_partition": 100,
    "batch_delete_partition": 25,
}
# bytes of one query, by Athena's service quotas
QUERY_BYTES = 262_144


class Table(NamedTuple):
    """One table as the lake has it.  Partitions map the folders' values to their place."""

    name: str
    location: str
    columns: list[Column]
    keys: list[Column]
    partitions: dict[tuple[str, ...], str]


# ── What the lake has ────────────────────────────────────────────────────────────────────────────


def newest_commit(aws: Aws, output: str) -> dict:
    """The newest commit that is published: the others' files are not all in their place."""
    bucket, prefix = split_s3(output)
    done = join_key(prefix, "_etl", "done") + "/"
    listed = aws.each("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=done)
    commit = newest_done(item["Key"] for item in listed)
    if commit is None:
        remedy = "run the job first, or correct --output"
        raise Stop(SETTINGS, f"{output}: no published commit there; {remedy}")
    answer = aws.ask("s3", "get_object", Bucket=bucket, Key=join_key(prefix, commit))
    return json.load(answer["Body"])


def tables_of(aws: Aws, output: str) -> list[Table]:
    """The five tables as the newest published commit has them."""
    commit = newest_commit(aws, output)
    return [
        table_of(name, columns, sorted(commit["tables"][name]["files"]), output)
        for name, columns in tables().items()
    ]


def table_of(name: str, columns: list[Column], files: list[str], output: str) -> Table:
    """A table from the names of its files, which hold the partitions' values: year=2018/…"""
    location = f"{output}/{name}"
    folders = sorted({file.rpartition("/")[0] for file in files} - {""})
    keys = FOLDERS.get(name, [])
    partitions = {}
    for folder in folders:
        parts = [part.partition("=") for part in folder.split("/")]
        keys = [key for key, _, _ in parts]
        # Spark escapes characters such as the colon in a folder's name
        values = tuple(unquote(value) for _, _, value in parts)
        partitions[values] = f"{location}/{folder}"
    typed = {column.name: column for column in columns}
    return Table(
        name,
        location,
        columns=[column for column in columns if column.name not in keys],
        keys=[typed[key] for key in keys],
        partitions=partitions,
    )


def is_projected(table: Table, projection: bool) -> bool:
    return projection and [column.name for column in table.keys] == ["year", "month"]


def properties(table: Table, projection: bool) -> dict[str, str]:
    """Table properties.  Years are projected from the first to the one after the last."""
    found = {"classification": "parquet", "EXTERNAL": "TRUE"}
    if not is_projected(table, projection):
        return found
    years = [int(year) for year, _ in table.partitions] or [datetime.now(UTC).year]
    found["projection.enabled"] = "true"
    found["projection.year.type"] = "integer"
    found["projection.year.range"] = f"{min(years)},{max(years) + 1}"
    found["projection.month.type"] = "integer"
    found["projection.month.range"] = "1,12"
    return found


def is_ours(name: str) -> bool:
    """Whether a table property is this program's to set and to remove."""
    ours = ("classification", "EXTERNAL", "storage.location.template")
    return name in ours or name.startswith("projection.")


# ── DDL ──────────────────────────────────────────────────────────────────────────────────────────


def quote(text: str) -> str:
    escaped = text.replace("'", "\\'")
    return f"'{escaped}'"


def column_list(columns: list[Column]) -> str:
    lines = []
    for column in columns:
        line = f"  `{column.name}` {column.type.lower()}"
        if column.comment:
            line += f" COMMENT {quote(column.comment)}"
        lines.append(line)
    return ",\n".join(lines)


def create_statement(table: Table, database: str, projection: bool) -> str:
    given = properties(table, projection)
    # the statement's EXTERNAL says so
    given.pop("EXTERNAL")
    listed = ", ".join(f"{quote(key)} = {quote(value)}" for key, value in given.items())
    clauses = [
        f"CREATE EXTERNAL TABLE IF NOT EXISTS `{database}`.`{table.name}` (",
        column_list(table.columns),
        ")",
        f"COMMENT {quote(grains()[table.name])}",
    ]
    if table.keys:
        clauses += ["PARTITIONED BY (", column_list(table.keys), ")"]
    clauses += [
        "STORED AS PARQUET",
        f"LOCATION {quote(table.location + '/')}",
        f"TBLPROPERTIES ({listed})",
    ]
    return "\n".join(clauses)


def partition_statements(table: Table, database: str) -> Iterator[str]:
    """ALTER TABLE for all partitions, in statements that Athena takes."""
    start = f"ALTER TABLE `{database}`.`{table.name}` ADD IF NOT EXISTS"
    statement = start
    for values, location in table.partitions.items():
        pairs = [f"`{key.name}` = {quote(value)}" for key, value in zip(table.keys, values)]
        line = f"\n  PARTITION ({', '.join(pairs)}) LOCATION {quote(location + '/')}"
        if len((statement + line).encode()) > QUERY_BYTES:
            yield statement
            statement = start
        statement += line
    if statement != start:
        yield statement


def statements(table: Table, database: str, projection: bool) -> list[str]:
    """CREATE EXTERNAL TABLE, and ALTER TABLE for its partitions if they are not projected."""
    create = create_statement(table, database, projection)
    if is_projected(table, projection):
        return [create]
    return [create, *partition_statements(table, database)]


# ── Glue ─────────────────────────────────────────────────────────────────────────────────────────


def storage(location: str, columns: list[dict]) -> dict:
    return {
        "Columns": columns,
        "Location": f"{location}/",
        "InputFormat": f"{PARQUET}.MapredParquetInputFormat",
        "OutputFormat": f"{PARQUET}.MapredParquetOutputFormat",
        "SerdeInfo": {
            "SerializationLibrary": f"{PARQUET}.serde.ParquetHiveSerDe",
            "Parameters": {"serialization.format": "1"},
        },
    }


def glue_columns(columns: list[Column]) -> list[dict]:
    found = []
    for column in columns:
        named = {"Name": column.name, "Type": column.type.lower()}
        if column.comment:
            # Glue's limit of a comment
            named["Comment"] = column.comment[:255]
        found.append(named)
    return found


def table_input(table: Table, projection: bool, there: dict | None) -> dict:
    """What Glue is to hold of a table; properties that are not ours stay as they are there."""
    kept = (there or {}).get("Parameters", {})
    others = {name: value for name, value in kept.items() if not is_ours(name)}
    return {
        "Name": table.name,
        "Description": grains()[table.name],
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {**others, **properties(table, projection)},
        "PartitionKeys": glue_columns(table.keys),
        "StorageDescriptor": storage(table.location, glue_columns(table.columns)),
    }


def partition_input(table: Table, values: tuple[str, ...]) -> dict:
    descriptor = storage(table.partitions[values], glue_columns(table.columns))
    return {"Values": list(values), "StorageDescriptor": descriptor}


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


def changes(aws: Aws, table: Table, database: str, projection: bool) -> list[Change]:
    """The requests that Glue lacks for one table, in an order that shows no partition twice.

    A table whose partitions are no longer projected gets them first: until then Athena ignores
    them, and afterwards it would find none.
    """
    found = aws.find("glue", "get_table", DatabaseName=database, Name=table.name)
    there = found["Table"] if found else None
    wanted = table_input(table, projection, there)
    request = {"DatabaseName": database, "TableInput": wanted}
    partitions = partition_changes(aws, table, database, projection, there)
    if there is None:
        return [Change(f"{table.name}: not in Glue", "create_table", request), *partitions]
    if same(wanted, there) and wanted["Parameters"] == there["Parameters"]:
        return partitions
    text = f"{table.name}: columns, location, comments or properties differ"
    update = Change(text, "update_table", request)
    if is_projected(table, projection):
        return [update, *partitions]
    return [*partitions, update]


def partition_changes(
    aws: Aws, table: Table, database: str, projection: bool, there: dict | None
) -> list[Change]:
    name = {"DatabaseName": database, "TableName": table.name}
    mine = {}
    if not is_projected(table, projection):
        mine = {values: partition_input(table, values) for values in table.partitions}
    theirs = {}
    if there is not None:
        listed = aws.each("glue", "get_partitions", "Partitions", **name)
        theirs = {tuple(part["Values"]): part for part in listed}
    new = [mine[values] for values in sorted(mine.keys() - theirs.keys())]
    moved = [
        {"PartitionValueList": list(values), "PartitionInput": mine[values]}
        for values in sorted(mine.keys() & theirs.keys())
        if not same(mine[values], theirs[values])
    ]
    gone = [{"Values": list(values)} for values in sorted(theirs.keys() - mine.keys())]
    kinds = [
        ("partitions are missing", "batch_create_partition", "PartitionInputList", new),
        ("partitions differ", "batch_update_partition", "Entries", moved),
        ("partitions are no longer there", "batch_delete_partition", "PartitionsToDelete", gone),
    ]
    found = []
    for what, operation, field, items in kinds:
        for start in range(0, len(items), BATCH[operation]):
            batch = items[start : start + BATCH[operation]]
            text = f"{table.name}: {len(batch)} {what}"
            found.append(Change(text, operation, {**name, field: batch}))
    return found


def register_lake(aws: Aws, output: str, database: str, projection: bool) -> None:
    """Makes Glue agree with the lake."""
    made = 0
    lake = tables_of(aws, output)
    if aws.find("glue", "get_database", Name=database) is None:
        wanted = {"Name": database, "Description": "Sparkify's data lake"}
        aws.change("glue", "create_database", DatabaseInput=wanted)
    for table in lake:
        for change in changes(aws, table, database, projection):
            answer = aws.change("glue", change.operation, **change.request)
            if answer.get("Errors"):
                detail = answer["Errors"][0]["ErrorDetail"]
                raise Stop(FAILED, f"{change.text}; Glue refused some: {detail}; run it again")
            made += 1
            aws.say(f"changed: {change.text}")
    query = f"SELECT count(*) FROM {database}.songplays"
    aws.say(f"{database}: {made} changes; {query} works in Athena now")


# ── Commands ─────────────────────────────────────────────────────────────────────────────────────


def ddl(aws: Aws, options) -> int:
    aws.say("-- Athena takes one statement per query\n")
    aws.say(f"CREATE DATABASE IF NOT EXISTS `{options.database}`;\n")
    for table in tables_of(aws, options.output):
        for statement in statements(table, options.database, options.projection):
            aws.say(f"{statement};\n")
    return 0


def register(aws: Aws, options) -> int:
    register_lake(aws, options.output, options.database, options.projection)
    return 0


def check(aws: Aws, options) -> int:
    differing = []
    for table in tables_of(aws, options.output):
        differing += changes(aws, table, options.database, options.projection)
    for change in differing:
        aws.say(change.text)
    if differing:
        remedy = "`catalog.py register` mends it"
        raise Stop(FAILED, f"{options.database} and {options.output} differ; {remedy}")
    aws.say(f"{options.database} is as {options.output} has it")
    return 0


def command_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "catalog.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    actions = {
        ddl: "print CREATE EXTERNAL TABLE for the five tables",
        register: "create or update the tables and their partitions in Glue",
        check: "compare Glue with the lake",
    }
    for action, text in actions.items():
        verb = cloud.add_command(verbs, action, text)
        verb.add_argument("--output", required=True, type=cloud.place, help="s3://… of the tables")
        verb.add_argument(
            "--database",
            type=cloud.database,
            default=DATABASE,
            help="in Glue (default: %(default)s)",
        )
        verb.add_argument(
            "--projection",
            action="store_true",
            help="project the partitions of songplays and time",
        )
    return parser


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser()
    return cloud.main(parser, lambda: parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
