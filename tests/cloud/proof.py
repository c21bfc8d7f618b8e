"""The way from an account to numbers in Athena, as a user goes it, in a bucket of one's own.

Each step runs the commands and says whether they did what they promise.  tests/cloud/test_on_aws.py
goes it on a real account; another test goes it against an emulation, as far as that goes.
"""

import contextlib
import io
import json
import time

import boto3
import catalog
import emr
from helpers import SAMPLE

FOLDER, NAME, DATABASE = "sparkify-proof", "sparkify-proof", "sparkify_proof"


class Proof:
    """The steps; `region` and the identity are those of the environment."""

    def __init__(self, bucket: str):
        self.bucket = bucket
        root = f"s3://{bucket}/{FOLDER}"
        self.output = f"{root}/out"
        self.places = ["--input", f"{root}/in", "--output", self.output, "--work", f"{root}/emr"]

    def command(self, verb: str, *arguments: str, program=emr) -> str:
        """What a command printed; it must end well."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = program.main([verb, *arguments])
        assert code == 0, f"{verb}: exit code {code}\n{out.getvalue()}\n{err.getvalue()}"
        return out.getvalue()

    def upload_input(self) -> None:
        s3 = boto3.client("s3")
        for path in SAMPLE.rglob("*.json"):
            key = f"{FOLDER}/in/{path.relative_to(SAMPLE)}"
            s3.upload_file(str(path), self.bucket, key)

    def setup(self) -> None:
        made = ["setup", *self.places, "--name", NAME, "--database", DATABASE]
        self.command(*made)
        again = self.command(*made)
        assert "made" not in again and "its policy is new" not in again, again
        self.upload_input()

    def run(self, *options: str) -> None:
        """One run whose tables are published; `--force` because the input stays the same."""
        named = ["--name", NAME, "--database", DATABASE, "--max-hours", "1"]
        said = self.command("run", *self.places, *named, *options, "--", "--force")
        assert "song records" in said and "The tables are in" in said, said

    def report(self) -> dict:
        """The newest summary that the job left."""
        s3 = boto3.client("s3")
        listed = s3.list_objects_v2(Bucket=self.bucket, Prefix=f"{FOLDER}/out/_etl/runs/")
        newest = max(item["Key"] for item in listed["Contents"])
        return json.load(s3.get_object(Bucket=self.bucket, Key=newest)["Body"])

    def register(self) -> None:
        of_lake = ["--output", self.output, "--database", DATABASE]
        self.command("register", *of_lake, program=catalog)
        self.command("check", *of_lake, program=catalog)

    def count(self, table: str) -> int:
        """Rows as Athena counts them, in the workgroup that setup made."""
        athena = boto3.client("athena")
        query = f"SELECT count(*) FROM {DATABASE}.{table}"
        started = athena.start_query_execution(QueryString=query, WorkGroup=NAME)
        execution = {"QueryExecutionId": started["QueryExecutionId"]}
        status = {"State": "QUEUED"}
        while status["State"] in ("QUEUED", "RUNNING"):
            time.sleep(1)
            status = athena.get_query_execution(**execution)["QueryExecution"]["Status"]
        assert status["State"] == "SUCCEEDED", status
        rows = athena.get_query_results(**execution)["ResultSet"]["Rows"]
        return int(rows[-1]["Data"][0]["VarCharValue"])

    def teardown(self) -> None:
        self.command(
            "teardown", "--output", self.output, "--work", f"s3://{self.bucket}/{FOLDER}/emr",
            "--name", NAME, "--yes",
        )  # fmt: skip
        glue = boto3.client("glue")
        with contextlib.suppress(glue.exceptions.EntityNotFoundException):
            glue.delete_database(Name=DATABASE)
        boto3.resource("s3").Bucket(self.bucket).objects.filter(Prefix=f"{FOLDER}/").delete()
