"""cloud/catalog.py: the tables in Glue against a published lake, and the DDL run by Hive."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import catalog
import duckdb
import pytest
from botocore.exceptions import EndpointConnectionError
from common import grains
from common import tables as etl_tables
from fake_aws import BUCKET, OUTPUT, REGION, changing, client, fill, parsed
from helpers import free_port

DATABASE = catalog.DATABASE


@pytest.fixture
def lake(account, recorded):
    fill(recorded.objects)
    return recorded


@pytest.fixture
def said(capsys):
    def run(*arguments):
        code = catalog.main([*arguments, "--output", OUTPUT])
        return code, *capsys.readouterr()

    return run


def tables() -> dict:
    return {
        table["Name"]: table
        for table in client("glue").get_tables(DatabaseName=DATABASE)["TableList"]
    }


def partitions(table: str) -> dict:
    pages = (
        client("glue")
        .get_paginator("get_partitions")
        .paginate(DatabaseName=DATABASE, TableName=table)
    )
    found = [item for page in pages for item in page["Partitions"]]
    return {tuple(item["Values"]): item["StorageDescriptor"]["Location"] for item in found}


def folders(lake, table: str) -> set:
    """The folders that hold the table's files, as the bucket has them."""
    keys = [
        key.removeprefix(f"out/{table}/") for key in lake.objects if key.startswith(f"out/{table}/")
    ]
    return {key.rpartition("/")[0] for key in keys if key.endswith(".parquet")}


def test_the_tables_have_the_columns_types_and_partitions_of_the_lake(lake, said):
    assert said("register")[0] == 0
    made = tables()
    assert made.keys() == etl_tables().keys()
    for name, table in made.items():
        columns = [*table["StorageDescriptor"]["Columns"], *table["PartitionKeys"]]
        assert [
            (column["Name"], column["Type"].upper(), column.get("Comment", ""))
            for column in columns
        ] == etl_tables()[name]
        wanted = {f"s3://{BUCKET}/out/{name}/{folder}/" for folder in folders(lake, name) - {""}}
        assert set(partitions(name).values()) == wanted
        assert bool(table["PartitionKeys"]) == (name not in ("users", "artists"))


def test_registering_again_changes_nothing_and_check_agrees(lake, said, requests):
    assert said("check")[0] == 1
    said("register")
    requests.clear()
    code, out, _ = said("register")
    assert (code, changing(requests)) == (0, []) and "0 changes" in out
    assert said("check")[0] == 0


def test_register_mends_what_differs_and_check_names_it(lake, said):
    said("register")
    glue = client("glue")
    gone, *_ = partitions("songs")
    glue.delete_partition(DatabaseName=DATABASE, TableName="songs", PartitionValues=list(gone))
    stray = catalog.storage(f"s3://{BUCKET}/out/time/year=1999/month=1", [])
    glue.create_partition(
        DatabaseName=DATABASE,
        TableName="time",
        PartitionInput={"Values": ["1999", "1"], "StorageDescriptor": stray},
    )
    users = catalog.storage("s3://elsewhere/users", [])
    glue.update_table(
        DatabaseName=DATABASE, TableInput={"Name": "users", "StorageDescriptor": users}
    )
    code, out, err = said("check")
    assert (code, len(err.splitlines())) == (1, 1)
    for text in (
        "users: columns",
        "songs: 1 partitions are missing",
        "time: 1 partitions are no longer there",
    ):
        assert text in out
    assert said("register")[0] == 0 and said("check")[0] == 0


def test_partitions_of_the_year_and_month_tables_can_be_projected(lake, said):
    said("register")
    assert said("register", "--projection")[0] == 0 and said("check", "--projection")[0] == 0
    for name in ("songplays", "time"):
        properties = tables()[name]["Parameters"]
        assert (
            properties["projection.enabled"] == "true"
            and properties["projection.month.range"] == "1,12"
        )
        assert properties["projection.year.range"] == "2018,2019"
        # the folders are Hive's own, which Athena finds without a template
        assert "storage.location.template" not in properties
        assert partitions(name) == {}
    assert partitions("songs") and "projection.enabled" not in tables()["songs"]["Parameters"]


def test_a_partition_has_the_value_that_its_folders_name_escapes(lake, said):
    commit = json.loads(lake.objects["out/_etl/commits/000000001.json"])
    file, known = min(commit["tables"]["songs"]["files"].items())
    moved = f"year=0/artist_id=AR%3A1/{file.rpartition('/')[2]}"
    commit["tables"]["songs"]["files"] = {moved: known}
    s3 = client("s3")
    s3.put_object(Bucket=BUCKET, Key="out/_etl/commits/000000001.json", Body=json.dumps(commit))
    s3.put_object(Bucket=BUCKET, Key=f"out/songs/{moved}", Body=lake.objects[f"out/songs/{file}"])
    assert said("register")[0] == 0
    assert partitions("songs") == {
        ("0", "AR:1"): f"s3://{BUCKET}/out/songs/year=0/artist_id=AR%3A1/"
    }


def test_only_a_published_commit_is_registered(lake, said):
    newer = json.loads(lake.objects["out/_etl/commits/000000001.json"])
    newer["tables"]["users"]["files"] = {}
    client("s3").put_object(
        Bucket=BUCKET, Key="out/_etl/commits/000000002.json", Body=json.dumps(newer)
    )
    assert said("register")[0] == 0
    client("s3").delete_object(Bucket=BUCKET, Key="out/_etl/done/000000001")
    code, _, err = said("register")
    assert (code, len(err.splitlines())) == (2, 1) and "no published commit" in err


def publish_a_year(lake, year: int) -> None:
    """A newer commit with a file of one more year."""
    commit = json.loads(lake.objects["out/_etl/commits/000000001.json"])
    for name in ("songplays", "time"):
        files = commit["tables"][name]["files"]
        file, known = min(files.items())
        files[f"year={year}/month=1/{file.rpartition('/')[2]}"] = known
    s3 = client("s3")
    s3.put_object(Bucket=BUCKET, Key="out/_etl/commits/000000002.json", Body=json.dumps(commit))
    s3.put_object(Bucket=BUCKET, Key="out/_etl/done/000000002", Body=b"")


def test_without_projection_an_earlier_one_is_taken_back(lake, said):
    """Athena ignores the partitions in Glue as long as a table is projected."""
    said("register", "--projection")
    publish_a_year(lake, 2021)
    assert said("check")[0] == 1
    code, out, _ = said("register")
    assert code == 0 and said("check")[0] == 0
    assert "projection.enabled" not in tables()["songplays"]["Parameters"]
    assert ("2021", "1") in partitions("songplays")
    # until the table is changed Athena ignores them, and afterwards it must find them
    said_of = [line for line in out.splitlines() if "songplays" in line]
    assert "missing" in said_of[0] and "properties differ" in said_of[1]


def test_check_sees_a_year_that_the_projection_leaves_out(lake, said):
    said("register", "--projection")
    publish_a_year(lake, 2031)
    assert said("check", "--projection")[0] == 1
    said("register", "--projection")
    assert tables()["time"]["Parameters"]["projection.year.range"] == "2018,2032"


def test_properties_that_others_set_stay(lake, said):
    said("register")
    glue, users = client("glue"), tables()["users"]
    known = ("Name", "StorageDescriptor", "PartitionKeys", "TableType")
    theirs = {key: users[key] for key in known}
    theirs["Parameters"] = {**users["Parameters"], "owner_note": "ask Ada"}
    glue.update_table(DatabaseName=DATABASE, TableInput=theirs)
    assert said("check")[0] == 1
    assert said("register")[0] == 0
    assert tables()["users"]["Parameters"]["owner_note"] == "ask Ada"


def test_a_dry_run_prints_the_requests_that_register_then_sends(lake, said, requests):
    code, out, _ = said("register", "--dry-run")
    assert code == 0 and not changing(requests) and "changed" not in out
    printed = [name for name, _ in parsed(out)]
    requests.clear()
    said("register")
    assert [name for name, _ in requests] == printed


@pytest.mark.parametrize("name", ["Spark-Ify", "", "a b"])
def test_a_database_that_athena_does_not_take_is_refused(said, name):
    code, _, err = said("register", "--database", name)
    assert code == 2 and "Athena takes lower case letters" in err


@pytest.fixture
def athena(recorded, monkeypatch, tmp_path):
    """Runs a query of Athena in an AWS on this machine, whose bucket holds the lake."""
    port = free_port()
    program = shutil.which(
        "ministack", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    settings = {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "S3_DATA_DIR": str(tmp_path / "s3"),
    }
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [program], cwd=tmp_path, env={**os.environ, **settings}, stdout=log, stderr=log
        )
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_REGION", REGION)
    for _ in range(120):
        try:
            client("s3").list_buckets()
            break
        except EndpointConnectionError:
            time.sleep(0.25)
    fill(recorded.objects)

    def run(query):
        service, answers = client("athena"), {"OutputLocation": f"s3://{BUCKET}/answers/"}
        started = service.start_query_execution(QueryString=query, ResultConfiguration=answers)
        execution, state = {"QueryExecutionId": started["QueryExecutionId"]}, "QUEUED"
        while state in ("QUEUED", "RUNNING"):
            state = service.get_query_execution(**execution)["QueryExecution"]["Status"]["State"]
        assert state == "SUCCEEDED"
        return service.get_query_results(**execution)["ResultSet"]["Rows"][-1]["Data"][0][
            "VarCharValue"
        ]

    yield run
    server.kill()
    server.wait(30)


def test_athena_counts_in_the_registered_tables_what_the_job_reported(athena, recorded, said):
    assert said("register")[0] == 0 and said("check")[0] == 0
    report = json.loads(recorded.report)
    counts = {name: int(athena(f"SELECT count(*) FROM {DATABASE}.{name}")) for name in etl_tables()}
    assert (
        counts == {name: made["rows"] for name, made in report["tables"].items()}
        and counts["songplays"] > 0
    )


HIVE = """
import sys
from pyspark.sql import SparkSession
folder, ddl = sys.argv[1:]
session = (
    SparkSession.builder.master("local[1]").enableHiveSupport()
    .config("spark.ui.enabled", "false")
    .config("spark.sql.warehouse.dir", f"{folder}/warehouse")
    .config(
        "spark.hadoop.javax.jdo.option.ConnectionURL",
        f"jdbc:derby:{folder}/metastore;create=true",
    )
    .config(
        "spark.driver.extraJavaOptions",
        f"-XX:TieredStopAtLevel=1 -Dderby.system.home={folder}",
    )
    .config("spark.sql.session.timeZone", "UTC")
    .getOrCreate()
)
session.sql("CREATE DATABASE sparkify")
for statement in open(ddl).read().split(";\\n"):
    if statement.strip():
        session.sql(statement)
for table in session.catalog.listTables("sparkify"):
    rows = session.table(f"sparkify.{table.name}")
    print("count", table.name, rows.count(), table.description, sep="|")
first = session.sql("SELECT min(start_time), min(year), max(month) FROM sparkify.songplays").first()
print("first", *first, sep="|")
"""


def test_the_ddl_can_leave_partitions_to_athenas_projection(lake, said):
    code, ddl, _ = said("ddl", "--projection")
    assert code == 0 and "'projection.enabled' = 'true'" in ddl and "`month` int" in ddl
    assert ddl.count("ALTER TABLE") == 1  # of songs


def test_the_ddl_makes_tables_that_count_as_the_parquet_does(lake, said, tmp_path):
    code, ddl, _ = said("ddl")
    assert code == 0 and "CREATE DATABASE IF NOT EXISTS `sparkify`" in ddl
    for key, content in lake.objects.items():
        path = tmp_path / BUCKET / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "ddl.sql").write_text(
        ddl.replace(f"s3://{BUCKET}/", f"file://{tmp_path}/{BUCKET}/")
    )
    (tmp_path / "hive.py").write_text(HIVE)
    command = [sys.executable, str(tmp_path / "hive.py"), str(tmp_path), str(tmp_path / "ddl.sql")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line.split("|") for line in done.stdout.splitlines()]
    counts = {
        name: int(count) for kind, name, count, _ in (line for line in lines if line[0] == "count")
    }
    said_of = {
        name: grain for kind, name, _, grain in (line for line in lines if line[0] == "count")
    }
    files = f"{tmp_path}/{BUCKET}/out"
    sql = "SELECT count(*) FROM read_parquet('{}/{}/**/*.parquet')"
    assert counts == {
        name: duckdb.sql(sql.format(files, name)).fetchall()[0][0] for name in etl_tables()
    }
    assert counts["songplays"] > 0 and said_of == grains()
    assert ["first", "2018-11-01 21:01:46.796000", "2018", "12"] in lines


def test_a_statement_is_no_longer_than_athena_takes():
    folders = {("1999", f"AR{number:016}"): f"{OUTPUT}/songs/x" for number in range(5000)}
    keys = [catalog.Column("year", "INT", ""), catalog.Column("artist_id", "STRING", "")]
    table = catalog.Table("songs", f"{OUTPUT}/songs", [], keys, folders)
    made = list(catalog.partition_statements(table, DATABASE))
    assert len(made) > 1 and max(len(text.encode()) for text in made) <= catalog.QUERY_BYTES
    assert sum(text.count("PARTITION (") for text in made) == 5000


def test_a_table_without_rows_has_its_partition_columns():
    columns = etl_tables()["songplays"]
    table = catalog.table_of("songplays", columns, [], OUTPUT)
    assert [column.name for column in table.keys] == ["year", "month"]
    assert "projection.year.range" in catalog.properties(table, projection=True)
