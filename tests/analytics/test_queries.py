"""analytics/queries.sql in Athena, as ministack runs it over Glue, and by Trino's grammar."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import boto3
import common
import lake
import pytest
import queries
import report
import sqlglot
from helpers import ROOT, free_port
from lakes import PARTITIONS, answers, as_text

GLUE_TYPES = {
    "STRING": "string",
    "BIGINT": "bigint",
    "INT": "int",
    "DOUBLE": "double",
    "TIMESTAMP": "timestamp",
}


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    """Clients of an AWS that runs on this machine, by name."""
    port, folder = free_port(), tmp_path_factory.mktemp("aws")
    program = shutil.which(
        "ministack", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    settings = {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "S3_DATA_DIR": str(folder / "s3"),
    }
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [program], cwd=folder, env={**os.environ, **settings}, stdout=log, stderr=log
        )

    def client(name):
        keys = {
            "aws_access_key_id": "key",
            "aws_secret_access_key": "secret",
            "region_name": "us-east-1",
        }
        return boto3.client(name, endpoint_url=f"http://127.0.0.1:{port}", **keys)

    for _ in range(120):
        try:
            client("s3").create_bucket(Bucket="lake")
            break
        except Exception:
            time.sleep(0.25)
    yield client
    server.terminate()
    server.wait(30)


@pytest.fixture(scope="module")
def athena(aws, sample_tables):
    """Runs a query of Athena over the sample's tables."""
    glue, client = aws("glue"), aws("athena")
    glue.create_database(DatabaseInput={"Name": "sparkify"})
    for table in common.tables():
        for path in (sample_tables / table).rglob("*.parquet"):
            aws("s3").upload_file(str(path), "lake", str(path.relative_to(sample_tables)))
        columns = [
            {"Name": name, "Type": GLUE_TYPES[kind]} for name, kind in lake.columns(table).items()
        ]
        parts = PARTITIONS.get(table, [])
        parquet = "org.apache.hadoop.hive.ql.io.parquet"
        storage = {
            "Columns": [column for column in columns if column["Name"] not in parts],
            "Location": f"s3://lake/{table}/",
            "InputFormat": f"{parquet}.MapredParquetInputFormat",
            "OutputFormat": f"{parquet}.MapredParquetOutputFormat",
            "SerdeInfo": {"SerializationLibrary": f"{parquet}.serde.ParquetHiveSerDe"},
        }
        keys = [column for column in columns if column["Name"] in parts]
        made = {
            "Name": table,
            "TableType": "EXTERNAL_TABLE",
            "StorageDescriptor": storage,
            "PartitionKeys": keys,
        }
        glue.create_table(DatabaseName="sparkify", TableInput=made)

    def run(query):
        given = {"QueryExecutionContext": {"Database": "sparkify"}}
        given["ResultConfiguration"] = {"OutputLocation": "s3://lake/answers/"}
        started = client.start_query_execution(QueryString=query, **given)["QueryExecutionId"]
        while True:
            status = client.get_query_execution(QueryExecutionId=started)["QueryExecution"][
                "Status"
            ]
            if status["State"] not in ("QUEUED", "RUNNING"):
                break
            time.sleep(0.1)
        assert status["State"] == "SUCCEEDED", status
        rows = client.get_query_results(QueryExecutionId=started)["ResultSet"]["Rows"]
        return [[cell.get("VarCharValue") for cell in row["Data"]] for row in rows]

    return run


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", queries.LISTENERS])
def test_the_queries_give_the_same_answers_in_athena(athena, sample_tables, zone):
    for name, query in queries.read_queries(zone).items():
        of_duckdb = answers(sample_tables, zone)[name]
        heads, *rows = athena(query.sql)
        assert heads == list(of_duckdb[0]), name
        assert as_text(rows) == as_text(row.values() for row in of_duckdb), name


def test_the_queries_are_trino_s_sql_and_use_no_function_that_only_one_engine_has():
    text = (ROOT / "analytics" / "queries.sql").read_text()
    trees = sqlglot.parse(text, read="trino", error_level=sqlglot.ErrorLevel.RAISE)
    assert len(trees) == len(queries.read_queries())
    unknown = [call.name for tree in trees for call in tree.find_all(sqlglot.exp.Anonymous)]
    assert unknown == []


def test_every_query_has_a_name_a_question_and_a_place_on_the_page():
    found = queries.read_queries()
    shown = {section.query for section in report.SECTIONS} - set(queries_of_logs())
    assert set(found) == {"headline", *shown}
    assert all(query.question.endswith("?") for query in found.values())
    in_tokyo = queries.read_queries("Asia/Tokyo").values()
    assert all("'UTC'" not in query.sql for query in in_tokyo)


def queries_of_logs():
    return [section.query for section in report.SECTIONS if section.query.startswith("logged_")]
