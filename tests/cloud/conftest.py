"""The template deployed on ministack, a run of the job on S3, and an account in this process."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import boto3
import botocore.client
import botocore.loaders
import botocore.session
import emr
import pytest
import upload
import watch
from botocore import xform_name
from botocore.exceptions import EndpointConnectionError
from moto import mock_aws
from moto.emr.models import emr_backends
from moto.emrserverless import models as serverless_models

from tests.helpers import free_port, keys_below, play, run_process, song, upload_folder, write_input
from tests.proxy import proxy
from . import fake_aws
from .fake_aws import ACCOUNT, BUCKET, COMMIT, INPUT, LOGS, OUTPUT, REGION, STACK, client, put


@pytest.fixture(scope="session")
def ministack(tmp_path_factory):
    """An AWS server on this machine; returns its endpoint."""
    folder = tmp_path_factory.mktemp("ministack")
    port = free_port()
    search = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    settings = {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "IOT_MTLS_ENABLED": "0"}
    environment = {**os.environ, **settings, "S3_DATA_DIR": str(folder / "s3")}
    command = [shutil.which("ministack", path=search)]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    endpoint = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
            boto3.client("sts", REGION, endpoint_url=endpoint, **keys).get_caller_identity()
            break
        except EndpointConnectionError:
            time.sleep(0.25)
    yield endpoint
    server.kill()
    server.wait(30)


def identify(patch, endpoint: str = "") -> None:
    """An account's keys in the environment, and nothing else of AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        # the CLI's own
        if name != "AWS_DATA_PATH":
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
    identify(monkeypatch, ministack)


@pytest.fixture(scope="session")
def deployed(ministack):
    """What the template makes with every option: policies by name, and the daily request."""
    with pytest.MonkeyPatch.context() as patch:
        identify(patch, ministack)
        stack = fake_aws.deploy(STACK, **fake_aws.PARAMETERS)
        assert stack["StackStatus"] == "CREATE_COMPLETE"
        iam = boto3.resource("iam")
        policies = {}
        for role in iam.roles.all():
            # other tests deploy other stacks
            if role.name.startswith(f"{STACK}-"):
                policies.update({item.name: item.policy_document for item in role.policies.all()})
        for policy in iam.policies.filter(Scope="Local"):
            policies[policy.policy_name] = policy.default_version.document
        listed = client("scheduler").list_schedules(NamePrefix=f"{STACK}-")["Schedules"]
        target = client("scheduler").get_schedule(Name=listed[0]["Name"])["Target"]
        return SimpleNamespace(policies=policies, daily=json.loads(target["Input"]))


# executors of their own write to S3 themselves, as on EMR
RUN = """
import sys, etl

def start_spark(run, active, start=etl.start_spark):
    spark = start(run, active)
    run.scratch = run.lake
    return spark

etl.start_spark = start_spark
sys.exit(etl.main())
"""


@pytest.fixture(scope="session")
def recorded(s3, tmp_path_factory):
    """A run of the job from bucket `source` to `lake`: its requests, and what it left."""
    client = s3.bucket("source")
    s3.bucket(BUCKET)
    folder, calls = tmp_path_factory.mktemp("recorded"), set()
    songs = [song(), song(song_id="SO2", title="Home", year=0, artist_id="AR:2")]
    plays = [play(itemInSession=each, ts=1541106106796 + each * 86_400_000) for each in range(40)]
    write_input(folder, songs, [[*plays, b"cut off"]])
    upload_folder(client, folder, "source", "in/")
    env = {
        "PYSPARK_SUBMIT_ARGS": "--master local-cluster[1,2,1024] pyspark-shell",
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    with proxy(s3.endpoint, lambda *request: calls.update(fake_aws.calls_of(*request))) as store:
        config = s3.config(folder, INPUT, OUTPUT, endpoint=store.endpoint)
        command = ["--config", config, "--max-rejected=0.1", "--songs-partition-by=year,artist_id"]
        done = run_process(*command, cwd=folder, timeout=400, env=env, code=RUN)
    assert done.returncode == 0, done.stderr[-3000:]
    keys = keys_below(client, BUCKET, "")
    objects = {key: client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}
    return SimpleNamespace(calls=calls, objects=objects)


# service models are parsed once for all sessions
shared_loader = functools.cache(botocore.loaders.create_loader)


@pytest.fixture
def account(ministack, deployed, monkeypatch):
    """An AWS account in this process, whose stack is on ministack."""
    identify(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", ministack)
    monkeypatch.setattr(watch, "sleep", lambda seconds: None)
    monkeypatch.setattr(botocore.session, "create_loader", shared_loader)
    monkeypatch.setattr(upload, "packages", lambda architecture: architecture.encode())
    monkeypatch.setattr(serverless_models, "random_appplication_id", lambda: "00app")
    monkeypatch.setattr(serverless_models, "JOB_STATUS", "PENDING")
    own = {"mock_credentials": False, "passthrough": {"urls": [ministack]}}
    with mock_aws(config={"core": own}):
        serverless = client("emr-serverless")
        # moto knows no EMR Spark 8
        serverless.create_application(name=STACK, releaseLabel="emr-7.14.0", type="SPARK")
        serverless_models.emrserverless_backends[ACCOUNT][REGION].job_runs["00app"] = []
        yield


@pytest.fixture
def lake(account):
    """The account's buckets: an input, and an OUTPUT that nothing was written to yet."""
    s3 = client("s3")
    for bucket in ("source", BUCKET):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    for dataset in ("song_data", "log_data"):
        s3.put_object(Bucket="source", Key=f"in/{dataset}/a.json", Body=b"{}")


@pytest.fixture
def published(lake, recorded):
    """What a run leaves in OUTPUT, and the database of the stack; returns its commit."""
    for key, content in recorded.objects.items():
        # the run begins after all others
        put(re.sub(r"(_etl/runs/)\d{4}", r"\g<1>2999", key), content)
    client("glue").create_database(DatabaseInput={"Name": STACK})
    return json.loads(recorded.objects[COMMIT])


@pytest.fixture
def said(capsys):
    """Runs a command; returns its exit code and what it printed."""

    def run(*arguments):
        code = emr.main(list(arguments))
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def requests(monkeypatch):
    """Every request that a command sends: [(service.operation, parameters)]."""
    sent, send = [], botocore.client.BaseClient._make_api_call

    def note(self, operation, parameters):
        if self.meta.config.user_agent_extra != fake_aws.OURS.user_agent_extra:
            service = self.meta.service_model.service_name
            # boto3 adds to the parameters while it sends them
            sent.append((f"{service}.{xform_name(operation)}", dict(parameters)))
        return send(self, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", note)
    return sent


@pytest.fixture
def fail(monkeypatch):
    """Lets an operation fail, before or after AWS carried it out."""

    def operation_fails(operation, error, after=False):
        send = botocore.client.BaseClient._make_api_call

        def answer(self, name, parameters):
            if name != operation or after:
                found = send(self, name, parameters)
            if name == operation:
                raise error
            return found

        monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", answer)

    return operation_fails


@pytest.fixture(params=[[], ["--serverless"]], ids=["cluster", "serverless"])
def run(request):
    """The command that runs the job on one kind, then on the other."""
    return ["run", *request.param]


# what a run goes through -> how EMR names it for the cluster and its step, and EMR Serverless
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
                fake_aws.put_logs(f"{LOGS}/{cluster.id}/steps/{cluster.steps[0].id}", spark, job)
            for run in serverless_models.emrserverless_backends[ACCOUNT][REGION].job_runs["00app"]:
                run.state, run.state_details = run_state, reason
                folder = f"{LOGS}/applications/00app/jobs/{run.id}/SPARK_DRIVER"
                fake_aws.put_logs(folder, spark, job)

        monkeypatch.setattr(watch, "sleep", next_state)

    return pass_through


@pytest.fixture
def started():
    """The IDs of the runs that were started, of both kinds."""

    def look() -> list[str]:
        runs = serverless_models.emrserverless_backends[ACCOUNT][REGION].job_runs["00app"]
        return [*emr_backends[ACCOUNT][REGION].clusters, *(run.id for run in runs)]

    return look
