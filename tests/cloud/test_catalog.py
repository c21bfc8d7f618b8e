"""cloud/emr.py register and check: the tables in Glue against the newest commit."""

import json
import re

import etl
from .fake_aws import BUCKET, COMMIT, OUTPUT, STACK, athena, changing, client, put


def tables() -> dict:
    listed = client("glue").get_tables(DatabaseName=STACK)["TableList"]
    return {table["Name"]: table for table in listed}


def partitions(table: str) -> dict:
    found = client("glue").get_partitions(DatabaseName=STACK, TableName=table)["Partitions"]
    return {tuple(item["Values"]): item["StorageDescriptor"]["Location"] for item in found}


def columns(table: dict) -> list[tuple]:
    found = [*table["StorageDescriptor"]["Columns"], *table["PartitionKeys"]]
    return [(item["Name"], item["Type"].upper(), item["Comment"]) for item in found]


def commit_again(commit: dict, files: dict) -> None:
    put("out/_etl/commits/000000002.json", json.dumps({**commit, "commit": 2, "files": files}))


def test_the_tables_have_the_columns_comments_and_partitions_of_the_job(published, said, requests):
    code, _, err = said("check")
    assert (code, len(err.splitlines())) == (1, 1)
    assert said("register")[0] == 0
    made = tables()
    column = re.compile(r"(\w+)\s+(\w+)\s+COMMENT '(.*)'")
    for name, ddl in etl.COLUMNS.items():
        wanted = {match.groups() for match in column.finditer(ddl)}
        assert len(wanted) >= 5 and set(columns(made[name])) == wanted
        assert made[name]["Description"] == published["tables"][name]["grain"]
        assert made[name]["StorageDescriptor"]["Location"] == f"{OUTPUT}/{name}/"
    assert made.keys() == etl.COLUMNS.keys()
    assert partitions("users") == {}
    assert partitions("time").keys() == {("2018", "11"), ("2018", "12")}
    # a folder's name escapes the colon
    assert partitions("songs") == {
        ("0", "AR:2"): f"{OUTPUT}/songs/year=0/artist_id=AR%3A2/",
        ("1999", "AR1"): f"{OUTPUT}/songs/year=1999/artist_id=AR1/",
    }
    requests.clear()
    assert said("register")[0] == 0 and said("check")[0] == 0
    assert not changing(requests)


def test_athena_counts_what_the_job_reported(cloud, deployed, recorded, said):
    for key, content in recorded.objects.items():
        put(key, content)
    assert said("register")[0] == 0 and said("check")[0] == 0
    for name, made in json.loads(recorded.objects[COMMIT])["tables"].items():
        assert int(athena(f"SELECT count(*) FROM sparkify.{name}")) == made["rows"] > 0


def test_register_repairs_what_differs_and_check_names_it(published, said):
    said("register")
    glue = client("glue")
    songs = {"DatabaseName": STACK, "TableName": "songs"}
    descriptor = tables()["songs"]["StorageDescriptor"]
    glue.delete_partition(**songs, PartitionValues=["1999", "AR1"])
    for values in (["1111", "AR1"], ["2222", "AR2"]):
        stray = {"Values": values, "StorageDescriptor": descriptor}
        glue.create_partition(**songs, PartitionInput=stray)
    elsewhere = {**descriptor, "Location": "s3://elsewhere/"}
    moved = {"Values": ["0", "AR:2"], "StorageDescriptor": elsewhere}
    glue.update_partition(**songs, PartitionValueList=["0", "AR:2"], PartitionInput=moved)
    users = {"Name": "users", "StorageDescriptor": descriptor, "Parameters": {"owner": "Ada"}}
    glue.update_table(DatabaseName=STACK, TableInput=users)
    code, out, err = said("check")
    assert (code, len(err.splitlines())) == (1, 1)
    assert out.splitlines() == [
        "users: other columns, comments or location",
        "songs: 3 partitions to delete",
        "songs: 2 partitions to add",
    ]
    assert said("register")[0] == 0 and said("check")[0] == 0
    # a property that somebody else set
    assert tables()["users"]["Parameters"]["owner"] == "Ada"


def test_many_partitions_are_sent_in_batches_that_glue_takes(published, said, requests):
    files = {f"time/year={1900 + each}/month=1/a.parquet": {"bytes": 1} for each in range(105)}
    for name in files:
        put(f"out/{name}", b"x")
    commit_again(published, files)
    assert said("register")[0] == 0 and len(partitions("time")) == 105
    commit_again(published, {})
    assert said("register")[0] == 0 and partitions("time") == {}
    assert max(len(given.get("PartitionInputList", [])) for _, given in requests) == 100
    assert max(len(given.get("PartitionsToDelete", [])) for _, given in requests) == 25


def test_only_a_commit_whose_files_are_all_there_is_registered(published, said):
    files = published["files"]
    commit_again(published, {**files, "users/later.parquet": {"bytes": 5}})
    said("register")
    assert said("check")[0] == 0 and tables().keys() == published["tables"].keys()
    put(f"out/{min(files)}", b"cut")
    code, _, err = said("register")
    assert (code, len(err.splitlines())) == (2, 1) and "no complete commit" in err
    client("s3").delete_object(Bucket=BUCKET, Key=f"out/{min(files)}")
    assert said("register")[0] == 2
