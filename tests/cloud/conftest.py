"""The template deployed on ministack, runs of the job on S3, and an AWS account in this process."""

import json
import os
import shutil
import subprocess
import sys
import time
from typing import NamedTuple

import botocore.client
import botocore.session
import emr
import pytest
import upload
import watch
from aws import pairs
from botocore.exceptions import EndpointConnectionError
from fake_aws import (
    ACCOUNT,
    BUCKET,
    INPUT,
    LOGS,
    OUTPUT,
    PARAMETERS,
    REGION,
    STACK,
    Recorder,
    client,
    deploy,
    fill,
    put_logs,
    record,
    shared_loader,
)
from helpers import free_port, play, run_process, song, write_input
from moto import mock_aws
from moto.emr.models import emr_backends
from moto.emrserverless.models import EMRServerlessBackend, emrserverless_backends
from rules import enforce

# ── The template on ministack ────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def ministack(tmp_path_factory):
    """An AWS server on this machine; returns its endpoint."""
    folder = tmp_path_factory.mktemp("ministack")
    port = free_port()
    search = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    settings = {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "IOT_MTLS_ENABLED": "0",
        "S3_DATA_DIR": str(folder / "s3"),
    }
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [shutil.which("ministack", path=search)],
            cwd=folder,
            env={**os.environ, **settings},
            stdout=log,
            stderr=log,
        )
    yield f"http://127.0.0.1:{port}"
    server.kill()
    server.wait(30)


def identity(patch, endpoint: str = "") -> None:
    """An account's keys in the environment, and nothing else of AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    # ministack takes the key's name for the account's number
    patch.setenv("AWS_ACCESS_KEY_ID", ACCOUNT)
    patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    patch.setenv("AWS_REGION", REGION)
    patch.setenv("AWS_DEFAULT_REGION", REGION)
    patch.setenv("AWS_CONFIG_FILE", os.devnull)
    if endpoint:
        patch.setenv("AWS_ENDPOINT_URL", endpoint)


@pytest.fixture
def cloud(ministack, monkeypatch):
    """boto3 and the AWS CLI talk to ministack."""
    identity(monkeypatch, ministack)
    for _ in range(240):
        try:
            client("s3").list_buckets()
            return
        except EndpointConnectionError:
            time.sleep(0.25)


class Deployed(NamedTuple):
    """What the template makes, with every option chosen; policies by the names of their owners."""

    outputs: dict
    parameters: dict
    policies: dict
    # the request of the daily run
    daily: dict


@pytest.fixture(scope="session")
def deployed(ministack):
    with pytest.MonkeyPatch.context() as patch:
        cloud.__wrapped__(ministack, patch)
        stack = deploy(STACK, **PARAMETERS)
        assert stack["StackStatus"] == "CREATE_COMPLETE", stack
        policies = {}
        iam = client("iam")
        for role in iam.list_roles()["Roles"]:
            named = {"RoleName": role["RoleName"]}
            for policy in iam.list_role_policies(**named)["PolicyNames"]:
                found = iam.get_role_policy(**named, PolicyName=policy)
                policies[policy] = found["PolicyDocument"]
        for policy in iam.list_policies(Scope="Local")["Policies"]:
            version = {"PolicyArn": policy["Arn"], "VersionId": policy["DefaultVersionId"]}
            found = iam.get_policy_version(**version)["PolicyVersion"]
            policies[policy["PolicyName"]] = found["Document"]
        outputs = pairs(stack["Outputs"], "Output")
        parameters = pairs(stack["Parameters"], "Parameter")
        scheduler = client("scheduler")
        (schedule,) = scheduler.list_schedules()["Schedules"]
        target = scheduler.get_schedule(Name=schedule["Name"])["Target"]
        return Deployed(outputs, parameters, policies, json.loads(target["Input"]))


# ── Runs of the job on S3 ────────────────────────────────────────────────────────────────────────


class Recorded(NamedTuple):
    """A run of the job from bucket `source` to `lake`: its requests, and what it left."""

    calls: set
    # key -> content
    objects: dict


@pytest.fixture(scope="session")
def recorded(s3, tmp_path_factory):
    client = s3.bucket("source")
    s3.bucket(BUCKET)
    folder, recorder = tmp_path_factory.mktemp("recorded"), Recorder(s3.endpoint)
    songs = [song(), song(song_id="SO2", title="Home", year=0, artist_latitude=None)]
    plays = [
        play(itemInSession=number, ts=1541106106796 + number * 86_400_000) for number in range(40)
    ]
    write_input(folder, songs, [[*plays, b"cut off"]])
    for path in folder.rglob("*.json"):
        client.upload_file(str(path), "source", f"in/{path.relative_to(folder)}")
    config = s3.config(tmp_path_factory.mktemp("config"), INPUT, OUTPUT, endpoint=recorder.endpoint)
    # executors of their own, as on EMR, write to S3 themselves
    env = {
        "PYSPARK_SUBMIT_ARGS": "--master local-cluster[1,2,1024] pyspark-shell",
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    done = run_process(
        "--config", config, "--max-rejected", "0.1", cwd=folder, timeout=400, env=env
    )
    assert done.returncode == 0, done.stderr[-3000:]
    listed = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    keys = [item["Key"] for page in listed for item in page["Contents"]]
    objects = {key: client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}
    return Recorded(recorder.calls, objects)


# ── An account in this process ───────────────────────────────────────────────────────────────────


@pytest.fixture
def account(ministack, deployed, monkeypatch):
    """An AWS account in this process, which keeps AWS's rules, without buckets.

    Its stack is the one on ministack.
    """
    identity(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", ministack)
    monkeypatch.setattr(watch, "sleep", lambda seconds: None)
    monkeypatch.setattr(botocore.session, "create_loader", shared_loader)
    monkeypatch.setattr(upload, "packages", lambda architecture: architecture.encode())
    send = botocore.client.BaseClient._make_api_call

    def check(self, operation, parameters):
        enforce(self.meta.service_model, operation, parameters)
        return send(self, operation, parameters)

    own = {"mock_credentials": False, "passthrough": {"urls": [ministack]}}
    with mock_aws(config={"core": own}):
        # moto knows no EMR Spark 8
        serverless = client("emr-serverless")
        made = serverless.create_application(name=STACK, releaseLabel="emr-7.14.0", type="SPARK")
        backend = emrserverless_backends[ACCOUNT][REGION]
        backend.applications["00app"] = backend.applications.pop(made["applicationId"])
        backend.applications["00app"].id = "00app"
        backend.job_runs["00app"] = []
        monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", check)
        yield


@pytest.fixture
def lake(account):
    """The account's buckets: an input, and an OUTPUT that nothing was written to yet."""
    fill({})


@pytest.fixture(scope="session")
def published():
    """What a run of the job leaves in OUTPUT: key -> content."""
    files = {
        "songplays/year=2018/month=11/c000000001-1a2b3c4d-00000.parquet": b"plays",
        "songs/year=0/artist_id=AR%3A1/c000000001-1a2b3c4d-00000.parquet": b"songs",
        "songs/year=1999/artist_id=AR1/c000000001-1a2b3c4d-00000.parquet": b"more songs",
        "time/year=2018/month=11/c000000001-1a2b3c4d-00000.parquet": b"time",
        "users/c000000001-1a2b3c4d-00000.parquet": b"users",
    }
    tables = {}
    for name, partitioned_by, columns in (
        ("songplays", ["year", "month"], "songplay_id STRING, year INT, month INT"),
        ("users", [], "user_id BIGINT, level STRING"),
        (
            "songs",
            ["year", "artist_id"],
            "song_id STRING, duration DOUBLE, year INT, artist_id STRING",
        ),
        ("time", ["year", "month"], "start_time TIMESTAMP, year INT, month INT"),
    ):
        named = [column.split() for column in columns.split(", ")]
        tables[name] = {
            "grain": f"one row per {name}",
            "partitioned_by": partitioned_by,
            "columns": [
                {"name": column, "type": kind, "comment": f"the {column}"} for column, kind in named
            ],
            "rows": 40,
            "files": 1,
            "bytes": 123456,
        }
    commit = {
        "commit": 1,
        "tables": tables,
        "files": {name: {"bytes": len(content)} for name, content in files.items()},
    }
    report = {
        "commit": 1,
        "exit": 0,
        "error": None,
        "events": {"lines": 1_041, "malformed": 1, "songplays": 1_040, "matched": 7},
        "songs": {"records": 2, "songs": 2},
        "tables": {"users": {"rows": 96, "files": 1, "bytes": 4_200_000}},
        "output": OUTPUT,
    }
    objects = {f"out/{name}": content for name, content in files.items()}
    objects["out/_etl/commits/000000001.json"] = json.dumps(commit).encode()
    # as of a run that begins after all others
    objects["out/_etl/runs/29991231T235959Z-1a2b3c4d.json"] = json.dumps(report).encode()
    return objects


@pytest.fixture
def said(capsys):
    """Runs a command; returns its exit code and what it printed."""

    def run(*arguments):
        code = emr.main(list(arguments))
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def requests(monkeypatch):
    """Every request that is sent: [(service.operation, parameters)]."""
    return record(monkeypatch)


@pytest.fixture(params=[[], ["--serverless"]], ids=["cluster", "serverless"])
def run(request):
    """The command that runs the job on one kind, then on the other."""
    return ["run", *request.param]


# what a run goes through -> how EMR and EMR Serverless name it
STATES = {
    "pending": ("BOOTSTRAPPING", "PENDING", "SCHEDULED"),
    "running": ("RUNNING", "RUNNING", "RUNNING"),
    "done": ("TERMINATING", "COMPLETED", "SUCCESS"),
    "failed": ("TERMINATING", "FAILED", "FAILED"),
    "cancelled": ("TERMINATED_WITH_ERRORS", "CANCELLED", "CANCELLED"),
}


@pytest.fixture
def runs(account, monkeypatch):
    """Lets moto's runs of both kinds pass through states, one per poll, and leaves their logs."""

    def pass_through(*states, reason="", spark="", job=""):
        turns = iter(states)

        def next_state(seconds):
            cluster_state, step_state, run_state = STATES[next(turns, states[-1])]
            for cluster in emr_backends[ACCOUNT][REGION].clusters.values():
                cluster.state, cluster.steps[0].state = cluster_state, step_state
                cluster.last_state_change_reason = cluster.state_change_reason = reason
                put_logs(f"{LOGS}/{cluster.id}/steps/{cluster.steps[0].id}", spark, job)
            for started in emrserverless_backends[ACCOUNT][REGION].job_runs.values():
                for run in started:
                    run.state, run.state_details = run_state, reason
                    folder = f"{LOGS}/applications/{run.application_id}/jobs/{run.id}"
                    put_logs(f"{folder}/SPARK_DRIVER", spark, job)

        monkeypatch.setattr(watch, "sleep", next_state)

    start = EMRServerlessBackend.start_job_run

    def start_pending(self, *given, **named):
        run = start(self, *given, **named)
        run.state, run.state_details = "PENDING", ""
        return run

    monkeypatch.setattr(EMRServerlessBackend, "start_job_run", start_pending)
    return pass_through


@pytest.fixture
def started():
    """The ID of the only run that was started, of either kind."""

    def look() -> str:
        clusters = list(emr_backends[ACCOUNT][REGION].clusters)
        jobs = emrserverless_backends[ACCOUNT][REGION].job_runs.values()
        (id,) = clusters + [run.id for each in jobs for run in each]
        return id

    return look
