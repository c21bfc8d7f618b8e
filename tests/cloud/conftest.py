"""An AWS account in this process, and runs of the job on S3 with every request written down."""

import json

import aws
import botocore.client
import botocore.session
import emr
import pytest
import upload
from account import SERVICE_POLICY
from fake_aws import (
    ACCOUNT,
    BUCKET,
    INPUT,
    LOG,
    OUTPUT,
    REGION,
    Recorded,
    Recorder,
    fill,
    fill_input,
    parsed,
    put_logs,
    record,
    shared_loader,
)
from helpers import play, run_process, song, write_input
from moto import mock_aws
from moto.emr.models import emr_backends
from moto.emrserverless.models import EMRServerlessBackend, emrserverless_backends
from moto.iam import models as iam_models
from rules import enforce


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
    for _ in range(2):  # the second run finds nothing to do
        done = run_process(
            "--config", config, "--max-rejected", "0.1", cwd=folder, timeout=400, env=env
        )
        assert done.returncode == 0, done.stderr[-3000:]
    listed = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    keys = [
        item["Key"] for page in listed for item in page["Contents"] if not item["Key"].endswith("/")
    ]
    objects = {key: client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}
    return Recorded(recorder.calls, objects, recorder.endpoint)


# of AWS's own policies only the one that is attached: moto takes 0.6 s per test to load them all
name = SERVICE_POLICY.rpartition("/")[2]
ATTACHED_POLICIES = json.dumps({name: json.loads(iam_models.aws_managed_policies_data)[name]})


@pytest.fixture
def account(monkeypatch):
    """An AWS account in this process, which keeps AWS's rules; nothing is paused for."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setattr(aws, "pause", lambda seconds: None)
    monkeypatch.setattr(botocore.session, "create_loader", shared_loader)
    monkeypatch.setattr(upload, "packages", lambda architecture: architecture.encode())
    monkeypatch.setattr(EMRServerlessBackend, "create_application", any_release)
    monkeypatch.setattr(iam_models, "aws_managed_policies_data", ATTACHED_POLICIES)
    send = botocore.client.BaseClient._make_api_call

    def check(self, operation, parameters):
        enforce(self.meta.service_model, operation, parameters)
        return send(self, operation, parameters)

    with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", check)
        yield


make_application = EMRServerlessBackend.create_application


def any_release(self, name, release_label, *more, **others):
    """Moto knows no EMR Spark 8."""
    application = make_application(self, name, "emr-7.14.0", *more, **others)
    application.release_label = release_label
    return application


@pytest.fixture
def lake(account):
    """The account's buckets: an input, and an OUTPUT that nothing was written to yet."""
    fill_input()
    fill({})


@pytest.fixture
def said(capsys):
    """Runs a command; returns its exit code and what it printed."""

    def run(*arguments, program=emr):
        code = program.main(list(arguments))
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def dry(said):
    """What a command would send: [(service.operation, parameters)]."""

    def run(*arguments, program=emr):
        verb, *others = arguments
        code, out, err = said(verb, "--dry-run", *others, program=program)
        assert code == 0, err
        return parsed(out)

    return run


@pytest.fixture
def requests(monkeypatch):
    """Every request that is really sent: [(service.operation, parameters)]."""
    return record(monkeypatch)


@pytest.fixture
def clusters(account, monkeypatch):
    """Lets moto's clusters pass through (cluster state, step state) pairs, one per poll."""

    def pass_through(*states, reason=""):
        turns = iter(states)

        def next_state(seconds):
            cluster_state, step_state = next(turns, states[-1])
            for cluster in emr_backends[ACCOUNT][REGION].clusters.values():
                cluster.state = cluster_state
                if reason:
                    cluster.last_state_change_reason = cluster.state_change_reason = reason
                for step in cluster.steps:
                    step.state = step_state
                    folder = f"{LOG}/{cluster.id}/steps/{step.id}"
                    put_logs(folder, pass_through.spark, pass_through.job)

        monkeypatch.setattr(aws, "pause", next_state)

    pass_through.spark, pass_through.job = "", ""
    return pass_through


@pytest.fixture
def jobs(account, monkeypatch):
    """Lets moto's serverless runs pass through (state, details) pairs, one per poll."""

    def pass_through(*states):
        turns = iter(states)

        def next_state(seconds):
            state, details = next(turns, states[-1])
            backend = emrserverless_backends[ACCOUNT][REGION]
            for runs in backend.job_runs.values():
                for run in runs:
                    run.state, run.state_details = state, details

        first = states[0]
        start = EMRServerlessBackend.start_job_run

        def start_in_first_state(self, *given, **named):
            run = start(self, *given, **named)
            run.state, run.state_details = first
            return run

        monkeypatch.setattr(EMRServerlessBackend, "start_job_run", start_in_first_state)
        monkeypatch.setattr(aws, "pause", next_state)

    return pass_through
