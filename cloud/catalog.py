"""The five tables in the AWS Glue Data Catalog, where Athena finds them.

They are registered as the newest commit has them: columns, types, comments and partitions.
"""

from __future__ import annotations

import json
import re
from argparse import Namespace
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from aws import FAILED, SETTINGS, Json, Stop
from stack import Lake

PARQUET = "org.apache.hadoop.hive.ql.io.parquet"
# most partitions of one request, by Glue's API reference
BATCH = {"batch_create_partition": 100, "batch_delete_partition": 25}

# why a request is needed, its operation, and its parameters
Change = tuple[str, str, Json]
# a table's partitions, by the values in the names of their folders
Partitions = dict[tuple[str, ...], Json]


def newest_commit(lake: Lake) -> Json:
    """The newest commit whose files are all in the table folders, which is what readers see."""
    sizes = lake.sizes(lake.output)
    keys = [key for key in sizes if re.fullmatch(r"_etl/commits/\d{9}\.json", key)]
    for key in reversed(keys):
        # a file that is missing, or a commit that is damaged or has an older format
        with suppress(KeyError, ValueError):
            commit: Json = json.loads(lake.read(f"{lake.output}/{key}"))
            files = commit["files"]
            if all(sizes[file] == known["bytes"] for file, known in files.items()):
                return commit
    text = f"{lake.output} has no complete commit."
    raise Stop(SETTINGS, f"{text} Run the job; if one is publishing right now, try again.")


def glue_columns(columns: list[Json]) -> list[Json]:
    return [
        {"Name": item["name"], "Type": item["type"].lower(), "Comment": item["comment"]}
        for item in columns
    ]


def storage(location: str, columns: list[Json]) -> Json:
    return {
        "Columns": columns,
        "Location": f"{location}/",
        "InputFormat": f"{PARQUET}.MapredParquetInputFormat",
        "OutputFormat": f"{PARQUET}.MapredParquetOutputFormat",
        "SerdeInfo": {"SerializationLibrary": f"{PARQUET}.serde.ParquetHiveSerDe"},
    }


def table_input(lake: Lake, name: str, made: Json) -> Json:
    """What Glue is to hold of a table."""
    keys = [column for column in made["columns"] if column["name"] in made["partitioned_by"]]
    columns = [column for column in made["columns"] if column not in keys]
    return {
        "Name": name,
        "Description": made["grain"],
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {"classification": "parquet", "EXTERNAL": "TRUE"},
        "PartitionKeys": glue_columns(keys),
        "StorageDescriptor": storage(f"{lake.output}/{name}", glue_columns(columns)),
    }


def partition_inputs(lake: Lake, table: Json, files: Json) -> Partitions:
    """What Glue is to hold of a table's partitions: one for each folder that has files."""
    found = {}
    columns = table["StorageDescriptor"]["Columns"]
    for folder in {file.rpartition("/")[0] for file in files}:
        name, *parts = folder.split("/")
        if name == table["Name"] and parts:
            # Spark escapes characters such as the colon in a folder's name
            values = [unquote(part.partition("=")[2]) for part in parts]
            descriptor = storage(f"{lake.output}/{folder}", columns)
            found[tuple(values)] = {"Values": values, "StorageDescriptor": descriptor}
    return found


def has_all(wanted: Any, there: Any) -> bool:
    """Whether all that is wanted is there; Glue adds fields of its own."""
    if isinstance(wanted, dict):
        return all(has_all(value, (there or {}).get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        return len(wanted) == len(there or []) and all(map(has_all, wanted, there))
    return bool(wanted == there)


def table_changes(database: Json, wanted: Json, there: Json | None) -> Iterator[Change]:
    name = wanted["Name"]
    if there is None:
        yield f"{name}: new table", "create_table", {**database, "TableInput": wanted}
    elif not has_all(wanted, there):
        # properties that others set stay
        wanted["Parameters"] = {**there.get("Parameters", {}), **wanted["Parameters"]}
        text = f"{name}: other columns, comments or location"
        yield text, "update_table", {**database, "TableInput": wanted}


def partition_changes(table: Json, wanted: Partitions, there: Partitions) -> Iterator[Change]:
    """Partitions that differ are deleted and added again."""
    right = {values for values, part in there.items() if has_all(wanted.get(values), part)}
    gone = [{"Values": list(values)} for values in there.keys() - right]
    new = [wanted[values] for values in sorted(wanted.keys() - right)]
    kinds = (
        ("partitions to delete", "batch_delete_partition", "PartitionsToDelete", gone),
        ("partitions to add", "batch_create_partition", "PartitionInputList", new),
    )
    for text, operation, field, items in kinds:
        for start in range(0, len(items), BATCH[operation]):
            batch = items[start : start + BATCH[operation]]
            yield f"{table['TableName']}: {len(batch)} {text}", operation, {**table, field: batch}


def changes(lake: Lake) -> list[Change]:
    """The requests that make Glue agree with the newest commit."""
    commit = newest_commit(lake)
    database = {"DatabaseName": lake.database}
    listed = lake.pages("glue", "get_tables", "TableList", **database)
    tables = {table["Name"]: table for table in listed}
    found: list[Change] = []
    for name, made in commit["tables"].items():
        wanted = table_input(lake, name, made)
        found += table_changes(database, wanted, tables.get(name))
        table = {**database, "TableName": name}
        there = {}
        if name in tables:
            for part in lake.pages("glue", "get_partitions", "Partitions", **table):
                there[tuple(part["Values"])] = part
        mine = partition_inputs(lake, wanted, commit["files"])
        found += partition_changes(table, mine, there)
    return found


def register(lake: Lake, options: Namespace) -> int:
    for text, operation, request in changes(lake):
        answer = getattr(lake.client("glue"), operation)(**request)
        if answer.get("Errors"):
            detail = answer["Errors"][0]["ErrorDetail"]
            raise Stop(FAILED, f"{text}: Glue refused some: {detail}. Run register again.")
        print(text)
    print(f"Glue database {lake.database} agrees with {lake.output}.")
    return 0


def check(lake: Lake, options: Namespace) -> int:
    found = changes(lake)
    for text, _, _ in found:
        print(text)
    if found:
        text = f"Glue database {lake.database} differs from {lake.output}."
        raise Stop(FAILED, f"{text} Run: {lake.command('register')}")
    print(f"Glue database {lake.database} agrees with {lake.output}.")
    return 0
