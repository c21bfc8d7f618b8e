"""cloud/emr.py register and check: the tables in Glue against the newest commit."""

import json

import pytest
from fake_aws import BUCKET, OUTPUT, STACK, changing, client, fill

COMMITS = "out/_etl/commits"


@pytest.fixture
def lake(account, published):
    """A lake in S3, and the database that the stack makes."""
    fill(published)
    client("glue").create_database(DatabaseInput={"Name": STACK})
    return json.loads(published[f"{COMMITS}/000000001.json"])


def tables() -> dict:
    listed = client("glue").get_tables(DatabaseName=STACK)["TableList"]
    return {table["Name"]: table for table in listed}


def partitions(table: str) -> dict:
    found = client("glue").get_partitions(DatabaseName=STACK, TableName=table)["Partitions"]
    return {tuple(item["Values"]): item["StorageDescriptor"]["Location"] for item in found}


def columns(table: dict) -> list[tuple]:
    found = [*table["StorageDescriptor"]["Columns"], *table["PartitionKeys"]]
    return [(item["Name"], item["Type"].upper(), item["Comment"]) for item in found]


def put(key: str, content) -> None:
    client("s3").put_object(Bucket=BUCKET, Key=key, Body=content)


def commit_again(lake: dict, **changes) -> None:
    put(f"{COMMITS}/000000002.json", json.dumps({**lake, "commit": 2, **changes}))


def test_the_tables_have_the_columns_grain_and_partitions_of_the_commit(lake, said):
    assert said("register")[0] == 0
    made = tables()
    assert made.keys() == lake["tables"].keys()
    for name, table in made.items():
        wanted = lake["tables"][name]
        assert columns(table) == [tuple(item.values()) for item in wanted["columns"]]
        assert [key["Name"] for key in table["PartitionKeys"]] == wanted["partitioned_by"]
        assert table["Description"] == wanted["grain"]
        assert table["StorageDescriptor"]["Location"] == f"{OUTPUT}/{name}/"
    assert partitions("users") == {}
    assert partitions("time") == {("2018", "11"): f"{OUTPUT}/time/year=2018/month=11/"}
    # a folder's name escapes the colon
    assert partitions("songs") == {
        ("0", "AR:1"): f"{OUTPUT}/songs/year=0/artist_id=AR%3A1/",
        ("1999", "AR1"): f"{OUTPUT}/songs/year=1999/artist_id=AR1/",
    }


def test_registering_again_changes_nothing_and_check_agrees(lake, said, requests):
    code, _, err = said("check")
    assert (code, len(err.splitlines())) == (1, 1)
    said("register")
    requests.clear()
    assert said("register")[0] == 0 and said("check")[0] == 0
    assert not changing(requests)


def test_register_repairs_what_differs_and_check_names_it(lake, said):
    said("register")
    glue = client("glue")
    where = {"DatabaseName": STACK, "TableName": "songs"}
    descriptor = tables()["songs"]["StorageDescriptor"]
    glue.delete_partition(**where, PartitionValues=["1999", "AR1"])
    for values in (["1111", "AR1"], ["2222", "AR2"]):
        stray = {"Values": values, "StorageDescriptor": descriptor}
        glue.create_partition(**where, PartitionInput=stray)
    elsewhere = {**descriptor, "Location": "s3://elsewhere/"}
    moved = {"Values": ["0", "AR:1"], "StorageDescriptor": elsewhere}
    glue.update_partition(**where, PartitionValueList=["0", "AR:1"], PartitionInput=moved)
    users = {"Name": "users", "StorageDescriptor": descriptor}
    glue.update_table(DatabaseName=STACK, TableInput=users)
    code, out, err = said("check")
    assert (code, len(err.splitlines())) == (1, 1)
    assert out.splitlines() == [
        "users: other columns, comments or location",
        "songs: 3 partitions to delete",
        "songs: 2 partitions to add",
    ]
    assert said("register")[0] == 0 and said("check")[0] == 0


def test_many_partitions_are_sent_in_batches_that_glue_takes(lake, said):
    """The account refuses a larger batch than Glue does."""
    files = {f"time/year={1900 + number}/month=1/a.parquet": {"bytes": 1} for number in range(205)}
    for name in files:
        put(f"out/{name}", b"x")
    commit_again(lake, files=files)
    assert said("register")[0] == 0
    assert len(partitions("time")) == 205
    commit_again(lake, files={})
    assert said("register")[0] == 0
    assert partitions("time") == {}


def test_only_a_commit_whose_files_are_all_there_is_registered(lake, said):
    commit_again(lake, files={**lake["files"], "users/later.parquet": {"bytes": 5}})
    said("register")
    assert said("check")[0] == 0 and tables().keys() == lake["tables"].keys()
    for size in ({}, {"Body": b"cut"}):
        client("s3").delete_object(Bucket=BUCKET, Key=f"out/{min(lake['files'])}")
        if size:
            put(f"out/{min(lake['files'])}", size["Body"])
        code, _, err = said("register")
        assert (code, len(err.splitlines())) == (2, 1) and "no complete commit" in err


def test_properties_that_others_set_stay(lake, said):
    said("register")
    users = tables()["users"]
    theirs = {"Name": "users", "Parameters": {**users["Parameters"], "owner": "Ada"}}
    client("glue").update_table(DatabaseName=STACK, TableInput=theirs)
    assert said("register")[0] == 0
    assert tables()["users"]["Parameters"]["owner"] == "Ada"
    assert said("check")[0] == 0


def test_what_glue_refuses_ends_the_command(lake, said, monkeypatch):
    import botocore.client

    send = botocore.client.BaseClient._make_api_call

    def refuse(self, operation, parameters):
        if operation == "BatchCreatePartition":
            return {"Errors": [{"ErrorDetail": {"ErrorCode": "InternalServiceException"}}]}
        return send(self, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", refuse)
    code, _, err = said("register")
    assert code == 1 and "InternalServiceException" in err and "Run register again" in err
