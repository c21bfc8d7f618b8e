"""cloud/emr.py with a cluster, against moto's AWS: what it asks for, shows, and ends with."""

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from io import BytesIO

import aws
import boto3
import botocore.client
import botocore.endpoint
import emr
import iam
import pytest
import upload
import watch
from botocore.awsrequest import AWSResponse
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    ReadTimeoutError,
    UnauthorizedSSOTokenError,
)
from botocore.stub import Stubber
from fake_aws import (
    ACCOUNT,
    BUCKET,
    INPUT,
    LOG,
    OUTPUT,
    REGION,
    changing,
    client,
    fill,
    fill_input,
    is_change,
    parsed,
    put_logs,
)
from helpers import ROOT
from moto.emr.models import emr_backends

PLACES = ["--input", INPUT, "--output", OUTPUT]
RUN = ["run", *PLACES, "--subnet", "subnet-1"]


def later(report: bytes) -> dict:
    """The job's summary, as a run that begins after all others leaves it."""
    return {"out/_etl/runs/29991231T235959Z-00000000.json": report}


@pytest.fixture
def places(account, recorded):
    """The account's buckets, with the summary of a run that ended well."""
    fill_input()
    fill(later(recorded.report))


def the_cluster():
    (cluster,) = emr_backends[ACCOUNT][REGION].clusters
    return cluster


def asked(requests: list, name: str) -> dict:
    (found,) = [parameters for sent, parameters in requests if sent == name]
    return found


def command_of(request: dict) -> list[str]:
    """The step's command, as a shell reads it."""
    (step,) = request["Steps"]
    return shlex.split(" ".join(step["HadoopJarStep"]["Args"]))


def confs(command: list[str]) -> dict:
    pairs = [word.partition("=") for flag, word in itertools.pairwise(command) if flag == "--conf"]
    return {name: value for name, _, value in pairs}


# ── What is asked for ────────────────────────────────────────────────────────────────────────────


def test_the_cluster_ends_with_its_step_and_after_an_idle_hour(places, requests, clusters, said):
    clusters(("RUNNING", "RUNNING"), ("TERMINATING", "COMPLETED"))
    code, _, _ = said(*RUN, "--spot", "0.5", "--count", "4", "--tag", "team=data", "--", "--force")
    request = asked(requests, "emr.run_job_flow")
    instances, (step,) = request["Instances"], request["Steps"]
    assert code == 0
    assert instances["KeepJobFlowAliveWhenNoSteps"] is False
    assert instances["TerminationProtected"] is False
    assert request["AutoTerminationPolicy"] == {"IdleTimeout": 3600}
    assert step["ActionOnFailure"] == "TERMINATE_CLUSTER"
    assert command_of(request)[-5:] == ["--input", INPUT, "--output", OUTPUT, "--force"]
    assert confs(command_of(request))["spark.yarn.maxAppAttempts"] == "1"
    core = instances["InstanceFleets"][1]
    assert (core["TargetOnDemandCapacity"], core["TargetSpotCapacity"]) == (2, 2)
    assert request["ReleaseLabel"] == "emr-spark-8.1.0"
    assert {"Key": "team", "Value": "data"} in request["Tags"]
    script = next(word for word in command_of(request) if word.endswith("etl.py"))
    stored = client("s3").get_object(Bucket=BUCKET, Key=script.removeprefix(f"s3://{BUCKET}/"))
    assert stored["Body"].read() == (ROOT / "etl.py").read_bytes()


def test_the_driver_is_told_its_python_its_packages_and_its_region(places, dry):
    request = asked(dry(*RUN), "emr.run_job_flow")
    command = command_of(request)
    assert command[:3] == ["env", "PYTHONPATH=/opt/sparkify", f"AWS_DEFAULT_REGION={REGION}"]
    assert confs(command)["spark.pyspark.driver.python"] == "python3.11"
    (bootstrap,) = request["BootstrapActions"]
    packages, folder = bootstrap["ScriptBootstrapAction"]["Args"]
    assert packages.endswith("packages.zip") and folder == "/opt/sparkify"


def test_in_cluster_mode_the_packages_travel_with_the_job(places, dry):
    request = asked(dry(*RUN, "--deploy-mode", "cluster"), "emr.run_job_flow")
    settings = confs(command_of(request))
    assert "BootstrapActions" not in request
    assert settings["spark.yarn.dist.archives"].endswith("packages.zip#packages")
    assert settings["spark.yarn.appMasterEnv.PYTHONPATH"] == "packages"
    assert settings["spark.yarn.appMasterEnv.AWS_DEFAULT_REGION"] == REGION
    assert settings["spark.yarn.appMasterEnv.PYSPARK_PYTHON"] == "python3.11"


def test_what_large_runs_need_can_be_asked_for(places, dry):
    options = ["--driver-memory", "8g", "--conf", "spark.executor.memory=20g", "--disk", "200"]
    request = asked(dry(*RUN, *options), "emr.run_job_flow")
    settings = confs(command_of(request))
    assert settings["spark.driver.memory"] == "8g"
    assert settings["spark.executor.memory"] == "20g"
    for fleet in request["Instances"]["InstanceFleets"]:
        for kind in fleet["InstanceTypeConfigs"]:
            (disk,) = kind["EbsConfiguration"]["EbsBlockDeviceConfigs"]
            assert disk["VolumeSpecification"]["SizeInGB"] == 200


def test_a_run_that_hangs_is_ended(places, dry):
    command = command_of(asked(dry(*RUN, "--max-hours", "1.5"), "emr.run_job_flow"))
    limit = command.index("timeout")
    assert command[limit + 2 : limit + 4] == ["5400", "spark-submit"]


def test_words_that_a_shell_would_split_reach_the_job_whole(places, dry):
    words = ["--songs-partition-by", "year, artist_id; $HOME 'x'"]
    command = command_of(asked(dry(*RUN, "--", *words), "emr.run_job_flow"))
    assert command[-2:] == words


@pytest.mark.parametrize(
    ("types", "architecture"),
    [(None, "ARM64"), ("m5.xlarge,m6i.xlarge", "X86_64"), ("r6gd.2xlarge", "ARM64")],
)
def test_the_packages_are_those_of_the_nodes_architecture(
    places, requests, clusters, said, types, architecture
):
    clusters(("TERMINATING", "COMPLETED"))
    said(*RUN, *(["--instance-types", types] if types else []))
    uploads = [given["Body"] for name, given in requests if name == "s3.put_object"]
    assert architecture.encode() in uploads


def test_a_running_cluster_takes_the_job_as_a_step_and_goes_on(places, requests, clusters, said):
    other = {
        "Name": "shared",
        "Instances": {"MasterInstanceType": "m5.xlarge", "KeepJobFlowAliveWhenNoSteps": True},
    }
    made = client("emr").run_job_flow(
        **other, ReleaseLabel="emr-7.14.0", JobFlowRole="x", ServiceRole="y",
        Tags=[{"Key": "for-use-with-amazon-emr-managed-policies", "Value": "true"}],
        AutoTerminationPolicy={"IdleTimeout": 3600},
    )  # fmt: skip
    clusters(("WAITING", "RUNNING"), ("WAITING", "COMPLETED"))
    requests.clear()
    code, out, _ = said("run", *PLACES, "--cluster", made["JobFlowId"])
    request = asked(requests, "emr.add_job_flow_steps")
    assert code == 0 and f"started {made['JobFlowId']}/s-" in out
    assert "no cost is counted" in out
    assert request["Steps"][0]["ActionOnFailure"] == "CONTINUE"
    assert "emr.run_job_flow" not in dict(requests)
    assert emr_backends[ACCOUNT][REGION].clusters[made["JobFlowId"]].state == "WAITING"


# ── Dry runs ─────────────────────────────────────────────────────────────────────────────────────

COMMANDS = [
    ["setup", *PLACES],
    RUN,
    ["run", *PLACES],
    [*RUN, "--deploy-mode", "cluster", "--spot", "1"],
    ["run", *PLACES, "--serverless"],
    ["status"],
    ["terminate"],
    ["teardown", "--output", OUTPUT, "--yes"],
]


def comparable(requests: list) -> list:
    """Requests without what differs from moment to moment."""
    text = json.dumps(requests)
    text = re.sub(r"sparkify-etl-\d{8}T\d{6}Z-\w{8}", "<name>", text)
    text = re.sub(r'"applicationId": "\w+"', '"applicationId": "<applicationId>"', text)
    return [tuple(item) for item in json.loads(text)]


@pytest.mark.parametrize(
    "command", COMMANDS, ids=lambda command: " ".join([command[0], *command[5:]])
)
def test_a_dry_run_prints_what_is_then_sent_and_changes_nothing(
    command, account, requests, clusters, said, dry, recorded
):
    fill_input()
    if command[0] != "setup":
        fill(later(recorded.report))
    clusters(("TERMINATING", "COMPLETED"))
    if command == ["run", *PLACES] or command[0] == "teardown":
        # tags the subnets that a run is to find, and makes what a teardown removes
        said("setup", *PLACES)
    if command[0] == "terminate":
        said(*RUN)
        command = [*command, the_cluster()]
    requests.clear()
    printed = dry(*command)
    assert not changing(requests)
    requests.clear()
    code, _, err = said(*command)
    assert code == 0, err
    # a new application is polled until it takes runs
    sent = [(name, given) for name, given in requests if name != "emr-serverless.get_application"]
    sent = comparable(parsed(aws.printed(sent)))
    assert sent[: len(printed)] == comparable(printed)
    if command[0] != "teardown":
        # what comes after the last change watches what it did
        assert not [name for name, _ in sent[len(printed) :] if is_change(name)]


def test_a_dry_run_shows_policies_as_documents(lake, said):
    _, out, _ = said("setup", *PLACES, "--dry-run")
    policies = [given["PolicyDocument"] for name, given in parsed(out) if name.endswith("policy")
                and "PolicyDocument" in given]  # fmt: skip
    assert len(policies) >= 4 and all(policy["Version"] for policy in policies)


def test_a_command_of_requests_that_look_is_named_for_one_that_changes_nothing(
    account, monkeypatch
):
    """`ask`, `find` and `each` are sent in a dry run: none of them may change anything."""
    text = "".join(path.read_text() for path in (ROOT / "cloud").glob("*.py"))
    looked = re.findall(r"aws\.(?:ask|find|each)\(\s*\"([\w-]+)\", f?\"(\w+)", text)
    changed = re.findall(r"aws\.change\(\s*\"([\w-]+)\", f?\"(\w+)", text)
    assert len(looked) > 20 and not [name for name in looked if is_change(".".join(name))]
    assert len(changed) > 20 and all(is_change(".".join(name)) for name in changed)


# ── What it shows, and ends with ─────────────────────────────────────────────────────────────────


def test_a_run_shows_its_states_and_the_jobs_own_summary(places, clusters, said, recorded):
    clusters(
        ("BOOTSTRAPPING", "PENDING"),
        ("RUNNING", "RUNNING"),
        ("RUNNING", "RUNNING"),
        ("TERMINATING", "COMPLETED"),
    )
    code, out, _ = said(*RUN)
    assert code == 0
    states = re.findall(r"\d UTC  cluster (\w+), step (\w+)", out)
    assert states[1:] == [
        ("BOOTSTRAPPING", "PENDING"),
        ("RUNNING", "RUNNING"),
        ("TERMINATING", "COMPLETED"),
    ]
    report = json.loads(recorded.report)
    assert f"{report['events']['lines']:,} log lines" in out
    for table, made in report["tables"].items():
        assert re.search(rf"{table} +{made['rows']:,} +{made['files']:,} ", out)
    assert f"https://{REGION}.console.aws.amazon.com/emr/home" in out
    assert all(len(line) <= 200 for line in out.splitlines())


def test_a_summary_of_an_earlier_run_is_not_taken_for_this_ones(account, clusters, said, recorded):
    fill_input()
    fill(
        {
            "out/_etl/runs/20000101T000000Z-00000000.json": recorded.report,
            "out/_etl/done/000000001": b"",
        }
    )
    clusters(("TERMINATING", "COMPLETED"))
    code, out, _ = said(*RUN)
    assert code == 0 and "nothing to do" in out


@pytest.mark.parametrize("arguments", [[], ["--", "--dry-run"]])
def test_nothing_is_claimed_of_a_run_that_published_nothing(lake, clusters, said, arguments):
    clusters.job = "OUTPUT would get commit 1\n"
    clusters.spark = "INFO Client: noise\n"
    clusters(("TERMINATING", "COMPLETED"))
    code, out, _ = said(*RUN, *arguments)
    assert code == 0 and "nothing to do" not in out and "OUTPUT would get commit 1" in out


def test_a_summary_that_ended_otherwise_is_anothers(account, clusters, said, recorded):
    report = json.loads(recorded.report)
    overtaken = {**report, "exit": 75, "error": "another run committed first", "commit": None}
    objects = later(recorded.report)
    objects[min(objects).replace("2999", "2998")] = json.dumps(overtaken).encode()
    fill_input()
    fill(objects)
    clusters(("TERMINATING", "COMPLETED"))
    code, out, _ = said(*RUN)
    assert code == 0 and f"{report['events']['lines']:,} log lines" in out


REFUSED = (
    "s3://source/in/log_data: 9 of 10 lines are malformed or invalid, "
    "more than MAX_REJECTED = 0.01 allows"
)


def test_a_refused_run_exits_as_the_job_did_and_says_what_it_said(
    account, clusters, said, recorded
):
    report = {**json.loads(recorded.report), "exit": 3, "error": REFUSED, "commit": None}
    fill_input()
    fill(later(json.dumps(report).encode()))
    clusters.spark = "INFO Client: noise\nCommand exiting with ret '3'\n"
    clusters.job = f"etl.py: {REFUSED}\n"
    clusters(("TERMINATING", "FAILED"))
    code, out, err = said(*RUN)
    assert (code, len(err.splitlines())) == (3, 1)
    assert REFUSED in err and re.search(r"j-\w+", err) and "noise" in out


def test_a_run_that_fails_before_it_reads_exits_as_its_stderr_says(lake, clusters, said):
    clusters.spark = "Command exiting with ret '2'"
    clusters.job = "etl.py: warning: no\netl.py: s3://source/in: there is no such bucket\n"
    clusters(("TERMINATING", "FAILED"))
    code, _, err = said(*RUN)
    assert code == 2 and err.endswith("s3://source/in: there is no such bucket\n")


def test_a_run_that_took_too_long_says_so(lake, clusters, said):
    clusters.spark = "Command exiting with ret '124'"
    clusters(("TERMINATING", "FAILED"))
    code, _, err = said(*RUN)
    assert code == 124 and "longer than --max-hours" in err


def test_in_cluster_mode_message_and_code_come_from_the_drivers_container(
    lake, clusters, said, monkeypatch
):
    clusters.spark = (
        "Application application_1_0002 finished with failed status\n"
        "diagnostics: User application exited with status 3\n"
        "Command exiting with ret '1'"
    )
    clusters(("TERMINATING", "FAILED"))
    move, paused = aws.pause, []

    def put_container_log(seconds):
        move(seconds)
        paused.append(seconds)
        # they come later than the step's
        if len(paused) < 3:
            return
        root = f"{LOG}/{the_cluster()}/containers/application_1_0002"
        put_logs(f"{root}/container_1_0002_01_000002", "INFO", "executor")
        put_logs(f"{root}/container_1_0002_01_000001", "INFO", f"etl.py: {REFUSED}")

    monkeypatch.setattr(aws, "pause", put_container_log)
    code, out, err = said(*RUN, "--deploy-mode", "cluster")
    assert code == 3 and REFUSED in err and "waiting for the driver's log" in out


BOOTSTRAP = "On the master instance (i-0abc), bootstrap action 1 returned a non-zero return code"


def test_a_failed_bootstrap_shows_what_the_node_wrote_and_the_remedy(lake, clusters, said):
    clusters(("TERMINATED_WITH_ERRORS", "CANCELLED"), reason=BOOTSTRAP)
    move, paused = aws.pause, []

    def put_node_log(seconds):
        move(seconds)
        folder = f"{LOG}/{the_cluster()}/node/i-0abc/bootstrap-actions/1"
        put_logs(folder, "fatal error: Could not connect to the endpoint", "")
        paused.append(seconds)

    aws.pause = put_node_log
    code, out, err = said(*RUN)
    assert code == 1 and "Could not connect to the endpoint" in out
    assert "bootstrap action 1" in err and "gateway endpoint" in err
    assert "Could not connect" in said("logs", the_cluster())[1]


def test_without_a_log_the_way_to_it_is_said(lake, clusters, said):
    clusters(("TERMINATING", "FAILED"))
    code, _, err = said(*RUN)
    later_command = r"no log on S3 yet; later: python cloud/emr.py logs j-\w+ --region us-west-2"
    assert code == 1 and re.search(later_command, err)


def test_ctrl_c_says_what_still_runs_and_how_to_end_it(lake, said, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(aws, "pause", interrupt)
    code, _, err = said(*RUN)
    cluster = the_cluster()
    assert code == 130 and f"python cloud/emr.py terminate {cluster} --region us-west-2" in err
    assert said("terminate", cluster)[0] == 0
    assert emr_backends[ACCOUNT][REGION].clusters[cluster].state == "TERMINATED"


def test_a_cancelled_ci_job_says_what_still_runs(lake, said, monkeypatch):
    monkeypatch.setattr(aws, "pause", lambda seconds: os.kill(os.getpid(), 15))
    code, _, err = said(*RUN)
    assert code == 130 and f"terminate {the_cluster()}" in err


def test_a_detached_run_is_watched_later(places, clusters, said, recorded):
    clusters(("TERMINATING", "COMPLETED"))
    code, out, _ = said(*RUN, "--detach")
    cluster = the_cluster()
    assert code == 0 and f"python cloud/emr.py wait {cluster}" in out and "RUNNING" not in out
    code, out, _ = said("wait", cluster)
    lines = json.loads(recorded.report)["events"]["lines"]
    assert code == 0 and f"{lines:,} log lines" in out


def test_a_run_can_register_its_tables_when_it_has_ended(account, clusters, said, recorded):
    fill_input()
    fill({**recorded.objects, **later(recorded.report)})
    clusters(("TERMINATING", "COMPLETED"))
    code, out, _ = said(*RUN, "--register", "--database", "music")
    assert code == 0 and "music.songplays works in Athena now" in out
    assert client("glue").get_table(DatabaseName="music", Name="users")


# ── Before anything is billed ────────────────────────────────────────────────────────────────────


def make_bucket(name: str, region: str) -> None:
    s3 = boto3.client("s3", region_name=region)
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": region})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--input", "s3://sauce/in"], "s3://sauce/in: there is no such bucket"),
        (["--input", "s3://source/inn"], "s3://source/inn: nothing below song_data/ there"),
        (["--output", "s3://lakee/out"], "s3://lakee/out: there is no such bucket"),
        (["--output", "s3://far/out"], "in eu-west-1, not in us-west-2; run there"),
        (["--output", f"{INPUT}/log_data/x"], f"{INPUT}/log_data/x: inside {INPUT}/log_data"),
        (["--serverless", "--input", "s3://far/in"], "EMR Serverless reaches S3 of us-west-2 only"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_could_only_fail_is_found_out_before_anything_starts(
    lake, requests, said, arguments, words
):
    make_bucket("far", "eu-west-1")
    requests.clear()
    places = {"--input": INPUT, "--output": OUTPUT}
    places.update(zip(arguments[-2::2], arguments[-1::2]))
    given = [word for item in places.items() for word in item]
    extra = [word for word in arguments if word == "--serverless"]
    code, _, err = said("run", *given, *extra)
    assert (code, len(err.splitlines())) == (2, 1) and words in err
    assert not changing(requests)


def test_code_is_not_given_to_a_bucket_of_somebody_else(lake, requests, said, monkeypatch):
    answer = {
        "Error": {"Code": "403", "Message": "Forbidden"},
        "ResponseMetadata": {
            "HTTPStatusCode": 403,
            "HTTPHeaders": {"x-amz-bucket-region": REGION},
        },
    }
    send = botocore.client.BaseClient._make_api_call

    def owned_by_another(self, operation, parameters):
        if operation == "HeadBucket" and "ExpectedBucketOwner" in parameters:
            raise ClientError(answer, operation)
        return send(self, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", owned_by_another)
    code, _, err = said(*RUN)
    assert code == 2 and "not this account's bucket" in err and not changing(requests)


def test_uploads_name_the_account_that_must_own_the_bucket(places, requests, clusters, said):
    clusters(("TERMINATING", "COMPLETED"))
    said(*RUN)
    uploads = [
        given for name, given in requests if name == "s3.put_object" and "code" in given["Key"]
    ]
    assert len(uploads) == 3
    assert {given["ExpectedBucketOwner"] for given in uploads} == {ACCOUNT}


# ── Answers that are lost or refused ─────────────────────────────────────────────────────────────


def fail(monkeypatch, operation: str, error: BaseException, times: int = 99, after: bool = False):
    """Lets an operation fail, before or after AWS carried it out."""
    send, left = botocore.client.BaseClient._make_api_call, [times]

    def answer(self, name, parameters):
        if name == operation and left[0] > 0:
            left[0] -= 1
            if after:
                send(self, name, parameters)
            raise error
        return send(self, name, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", answer)


def refusal(code: str, message: str, status: int = 400) -> ClientError:
    answer = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, "RunJobFlow")


URL = "https://elasticmapreduce.us-west-2.amazonaws.com"
LOST = ReadTimeoutError(endpoint_url=URL)
NO_NETWORK = EndpointConnectionError(endpoint_url=URL)


@pytest.mark.parametrize("error", [LOST, refusal("InternalServerError", "later", 500)], ids=str)
def test_a_cluster_whose_answer_was_lost_is_found_by_its_name(
    places, clusters, said, monkeypatch, error
):
    clusters(("TERMINATING", "COMPLETED"))
    fail(monkeypatch, "RunJobFlow", error, after=True)
    code, out, _ = said(*RUN)
    assert code == 0 and f"{the_cluster()} was started" in out


def test_ctrl_c_while_a_cluster_starts_ends_with_the_way_to_end_it(lake, said, monkeypatch):
    fail(monkeypatch, "RunJobFlow", KeyboardInterrupt(), after=True)
    code, _, err = said(*RUN)
    end = f"python cloud/emr.py terminate {the_cluster()} --region us-west-2"
    assert code == 130 and end in err


@pytest.mark.parametrize(
    ("error", "then", "exit_code"),
    [
        (LOST, None, 1),
        (LOST, NO_NETWORK, 1),
        (KeyboardInterrupt(), KeyboardInterrupt(), 130),
    ],
    ids=["not-listed", "no-network", "ctrl-c-twice"],
)
def test_a_cluster_that_may_yet_start_is_named(lake, said, monkeypatch, error, then, exit_code):
    fail(monkeypatch, "RunJobFlow", error)
    if then:
        fail(monkeypatch, "ListClusters", then)
    code, _, err = said(*RUN)
    named = r"a cluster sparkify-etl-\S+ may yet start; look with `python cloud/emr.py"
    assert code == exit_code and re.search(named, err)


def test_a_cluster_is_named_when_watching_it_fails(lake, said, monkeypatch):
    refused = refusal("AccessDeniedException", "User is not authorized to perform")
    fail(monkeypatch, "DescribeCluster", refused)
    code, _, err = said(*RUN)
    assert code == 1 and f"terminate {the_cluster()}" in err and "attach the policy" in err


def test_throttled_polls_are_asked_again(places, clusters, said, monkeypatch):
    clusters(("TERMINATING", "COMPLETED"))
    monkeypatch.setattr(botocore.endpoint.time, "sleep", lambda seconds: None)
    throttled = []

    def throttle(request, **given):
        if len(throttled) < 3 and "DescribeCluster" in str(request.headers.get("X-Amz-Target")):
            throttled.append(request)
            content = b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'
            raw = type("Raw", (), {"stream": lambda self, *more, **options: iter([content])})()
            headers = {"x-amzn-errortype": "ThrottlingException"}
            return AWSResponse(request.url, 400, headers, raw)
        return None

    make = aws.Aws.client

    def with_throttle(self, service, attempts=8):
        made = make(self, service, attempts)
        if service == "emr":
            made.meta.events.register_first("before-send.emr", throttle, unique_id="throttle")
        return made

    monkeypatch.setattr(aws.Aws, "client", with_throttle)
    assert said(*RUN)[0] == 0 and len(throttled) == 3


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (
            refusal("ValidationException", "Invalid InstanceProfile: sparkify-etl-job."),
            "takes up to a minute",
        ),
        (
            refusal("ValidationException", "sparkify-etl-service is invalid"),
            "`emr.py setup` creates them",
        ),
        (
            refusal("ValidationException", "Subnet is required : The specified instance type ..."),
            "with --subnet",
        ),
        (
            refusal(
                "ValidationException", "The supplied release label is invalid: emr-spark-8.1.0."
            ),
            "another --release",
        ),
        (
            refusal("ValidationException", "The number of vCPUs exceeds the EC2 service quota"),
            "Service Quotas",
        ),
        (
            refusal(
                "ExpiredTokenException", "The security token included in the request is expired"
            ),
            "sign in again",
        ),
        (refusal("ThrottlingException", "Rate exceeded"), "try again in a minute"),
        (
            refusal(
                "AccessDeniedException",
                "User: arn:aws:sts::1:assumed-role/AWSReservedSSO_Data/me is not authorized to "
                "perform: elasticmapreduce:RunJobFlow on subnet/*",
            ),
            "attach the policy",
        ),
        (
            refusal(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            ),
            "--region",
        ),
        (UnauthorizedSSOTokenError(), "aws sso login"),
    ],
    ids=lambda value: str(value)[-30:],
)
def test_what_goes_wrong_is_one_line_with_its_remedy(lake, said, monkeypatch, error, remedy):
    fail(monkeypatch, "RunJobFlow", error)
    code, _, err = said(*RUN)
    assert (code, len(err.splitlines())) == (1, 1) and remedy in err
    assert not emr_backends[ACCOUNT][REGION].clusters


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("The number of vCPUs for m7g.xlarge exceeds the EC2 service quota", "Service Quotas"),
        ("Insufficient capacity for instance type m7g.xlarge", "--instance-types A,B"),
        (
            "The requested instance type m7g.xlarge is not supported in the requested "
            "availability zone. Subnet: subnet-1",
            "--instance-types A,B",
        ),
        ("EMR BlockPublicAccess prevents this cluster: subnet-1", "a private subnet"),
    ],
)
def test_why_a_cluster_ended_is_said_with_its_remedy(lake, clusters, said, reason, remedy):
    clusters(("TERMINATED_WITH_ERRORS", "PENDING"), reason=reason)
    code, _, err = said(*RUN)
    assert code == 1 and "no log on S3 yet" not in err and remedy in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--region", "us-wets-2"], "us-wets-2: no EMR there"),
        (["--region", "cn-north-1"], "China and GovCloud are not supported"),
        (["--region", "us-gov-west-1"], "China and GovCloud are not supported"),
        (["--release", "emr-5.36.0"], "--release emr-5.36.0: name emr-7.x.y from 7.10 on"),
        # its connector leaves _$folder$ objects in the tables
        (["--release", "emr-7.9.0"], "--release emr-7.9.0: name emr-7.x.y from 7.10 on"),
        (["--input", "/data"], "/data: not on S3"),
        (["--tag", "application=other"], "--tag application=other: application is this program's"),
        (["--name", "Lake 2"], "--name Lake 2: up to 40 lower case letters"),
        (["--database", "Spark-Ify"], "--database Spark-Ify: Athena takes lower case letters"),
        (["--instance-types", "m5.xlarge,m7g.xlarge"], "name types of one architecture"),
        ([], "no subnet is tagged for sparkify-etl; run `emr.py setup`"),
    ],
)
def test_wrong_settings_are_one_line_and_nothing_is_started(lake, said, requests, arguments, words):
    subnet = ["--subnet", "subnet-1"] if "--instance-types" in arguments else []
    code, _, err = said("run", *PLACES, *subnet, *arguments)
    assert (code, len(err.splitlines())) == (2, 1) and words in err
    assert not changing(requests)


@pytest.mark.parametrize("verb", ["status", "logs", "terminate", "wait"])
@pytest.mark.parametrize("id", ["sparkify", "a/b/c"])
def test_what_is_no_id_of_a_run_is_one_line(said, verb, id):
    code, _, err = said(verb, id)
    assert (code, len(err.splitlines())) == (2, 1) and "name j-… or APPLICATION/RUN" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--count", "0"], "--count: invalid count value: '0'"),
        (["--max-hours", "-3"], "--max-hours: invalid hours value: '-3'"),
        (["--driver-memory", "8"], "--driver-memory: invalid memory value: '8'"),
        (["--serverless", "--spot", "0.5"], "--serverless has no --subnet, --spot"),
        (["--architecture", "ARM64"], "a cluster has no --architecture: leave out either"),
        (["--cluster", "j-1", "--spot", "1"], "--cluster has no --spot, --subnet"),
        (["--detach", "--register"], "give that to `wait ID`"),
    ],
)
def test_options_that_cannot_be_are_refused(said, capsys, arguments, words):
    with pytest.raises(SystemExit) as ended:
        said(*RUN, *arguments)
    err = capsys.readouterr().err
    assert ended.value.code == 2
    assert all(word in err for word in re.findall(r"--?[\w-]+|\S+", words))


def test_without_region_or_credentials_the_remedy_is_said(said, monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert "name one with --region" in said("status")[2]
    assert "aws configure sso" in said("status", "--region", REGION)[2]


@pytest.mark.parametrize("program", ["emr.py", "catalog.py"])
def test_without_boto3_the_command_that_installs_it_is_said(program, tmp_path):
    (tmp_path / "boto3.py").write_text("raise ModuleNotFoundError('', name='boto3')")
    done = subprocess.run(
        [sys.executable, str(ROOT / "cloud" / program), "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=ROOT,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "pip install -r cloud/requirements.txt" in done.stderr


# ── Runs that are not this job's ─────────────────────────────────────────────────────────────────


def other_cluster(**more) -> str:
    made = client("emr").run_job_flow(
        Name="other",
        Instances={"MasterInstanceType": "m5.xlarge", "KeepJobFlowAliveWhenNoSteps": True},
        ReleaseLabel="emr-7.14.0",
        JobFlowRole="x",
        ServiceRole="y",
        Tags=[{"Key": "for-use-with-amazon-emr-managed-policies", "Value": "true"}],
        AutoTerminationPolicy={"IdleTimeout": 3600},
        **more,
    )
    return made["JobFlowId"]


def test_a_cluster_without_logs_or_of_another_job_is_no_traceback(lake, said):
    jar = {"Jar": "command-runner.jar", "Args": ["true"]}
    cluster = other_cluster(Steps=[{"Name": "other", "HadoopJarStep": jar}])
    emr_backends[ACCOUNT][REGION].clusters[cluster].steps[0].state = "FAILED"
    for verb in ("status", "logs", "wait"):
        code, _, err = said(verb, cluster)
        assert (code, len(err.splitlines())) == (1, 1) and "keeps no logs on S3" in err
    code, _, err = said("status", other_cluster())
    assert code == 2 and "has no step of this job" in err


def test_status_lists_what_runs_of_this_lake(lake, clusters, said):
    clusters(("RUNNING", "COMPLETED"))
    other_cluster()
    said(*RUN)
    said(*RUN, "--name", "sparkify-etl-b")
    code, out, _ = said("status")
    ours = [
        id
        for id, item in emr_backends[ACCOUNT][REGION].clusters.items()
        if re.fullmatch(r"sparkify-etl-\d{8}T.*", item.name)
    ]
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == ours
    assert re.search(r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", out)
    said("terminate", *ours)
    assert said("status")[1] == f"nothing of sparkify-etl runs in {REGION}\n"


# ── Packages, bootstrap, cost ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("architecture", ["ARM64", "X86_64"])
def test_the_packages_are_those_that_emrs_python_can_load(architecture):
    archive = zipfile.ZipFile(BytesIO(upload.packages(architecture)))
    names = archive.namelist()
    machine = {"ARM64": "aarch64", "X86_64": "x86_64"}[architecture]
    (wheel,) = [name for name in names if re.match(r"obstore-[\d.]+\.dist-info/WHEEL", name)]
    content = archive.read(wheel).decode()
    assert f"{machine}" in content and "cp311" in content
    assert any(re.match(r"obstore/.*\.so", name) for name in names)
    assert any(name.startswith("boto3/") for name in names)


def test_a_python_without_pip_is_told_the_remedy(monkeypatch, tmp_path):
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\necho 'No module named pip' >&2; exit 1\n")
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(aws.Stop, match=r"has no pip.*-m ensurepip") as stopped:
        upload.packages("ARM64")
    assert stopped.value.code == 2


def test_the_bootstrap_gives_the_driver_its_packages(tmp_path):
    """With the packages of this machine, as `aws s3 cp` would bring them."""
    zip_file = tmp_path / "packages.zip"
    with zipfile.ZipFile(zip_file, "w") as archive:
        archive.writestr("sparkify_probe.py", "found = True")
    programs = {
        "sudo": '#!/bin/sh\nexec "$@"\n',
        "aws": f'#!/bin/sh\n[ "$4" = s3://lake/packages.zip ] && cp {zip_file} "$5"\n',
        "python3": f'#!/bin/sh\nexec {sys.executable} "$@"\n',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = ["bash", str(ROOT / "cloud" / "bootstrap.sh")]
    folder = str(tmp_path / "driver")
    subprocess.run([*script, "s3://lake/packages.zip", folder], check=True, env=environment)
    probe = [sys.executable, "-c", "import sparkify_probe"]
    subprocess.run(probe, check=True, env={**os.environ, "PYTHONPATH": folder})
    missing = subprocess.run([*script, "s3://lake/other.zip", folder], env=environment)
    assert missing.returncode


def price_list(stub, *prices: str) -> None:
    for dollars in prices:
        dimension = {"unit": "Hrs", "pricePerUnit": {"USD": dollars}}
        item = {"terms": {"OnDemand": {"a.b": {"priceDimensions": {"a.b.c": dimension}}}}}
        stub.add_response("get_products", {"PriceList": [json.dumps(item)]})


@pytest.fixture
def pricing(account, monkeypatch):
    """The price list, whose answers a test gives."""
    service, make = client("pricing"), aws.Aws.client

    def with_prices(self, name, *more):
        return service if name == "pricing" else make(self, name, *more)

    monkeypatch.setattr(aws.Aws, "client", with_prices)
    with Stubber(service) as stub:
        yield stub


def test_the_cost_is_said_before_with_what_it_leaves_out(said, pricing):
    price_list(pricing, "0.1920000000", "0.0480000000")
    code, out, _ = said("cost", "--count", "4", "--hours", "2")
    # 5 × (0.192 + 0.048)
    assert code == 0 and "1.20 USD per hour, 2.40 USD in 2 hours" in out
    for left_out in ("EBS", "S3 requests", "transfer", "Athena", "tax"):
        assert left_out in out
    assert "USD per hour" in said("cost", "--serverless")[1]


def test_hours_of_no_length_are_refused(said, capsys):
    with pytest.raises(SystemExit):
        said("cost", "--hours", "-3")
    assert "invalid hours value" in capsys.readouterr().err


def test_a_run_says_what_it_cost(places, clusters, said, pricing, monkeypatch):
    began = datetime(2026, 1, 1, tzinfo=UTC)
    times = {"CreationDateTime": began, "EndDateTime": began + timedelta(minutes=30)}
    nodes = [{"InstanceType": "m7g.xlarge", "Status": {"Timeline": times}}] * 3
    send = botocore.client.BaseClient._make_api_call

    def with_nodes(self, operation, parameters):
        if operation == "ListInstances":
            return {"Instances": nodes}
        return send(self, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", with_nodes)
    clusters(("TERMINATING", "COMPLETED"))
    price_list(pricing, "0.1600000000", "0.0400000000")
    code, out, _ = said(*RUN)
    # 3 nodes × half an hour × (0.16 + 0.04)
    assert code == 0 and "about 0.30 USD at most: 1.50 hours of m7g.xlarge" in out


def test_prices_that_cannot_be_had_do_not_fail_a_run(places, clusters, said, monkeypatch):
    clusters(("TERMINATING", "COMPLETED"))
    fail(monkeypatch, "ListInstances", refusal("AccessDeniedException", "no"))
    assert said(*RUN)[0] == 0


def test_options_can_be_kept_in_a_file(places, dry, tmp_path):
    file = tmp_path / "lake.args"
    file.write_text(f"--input={INPUT}\n--output={OUTPUT}\n--subnet=subnet-1\n--count=5\n")
    request = asked(dry("run", f"@{file}"), "emr.run_job_flow")
    assert request["Instances"]["InstanceFleets"][1]["TargetOnDemandCapacity"] == 5


def test_the_states_that_watch_asks_for_are_emrs(account):
    model = client("emr").meta.service_model
    known = set(model.shape_for("ClusterState").enum)
    assert known >= {*watch.cluster.CLUSTER_ACTIVE, *watch.cluster.CLUSTER_ENDED}
    assert set(model.shape_for("StepState").enum) >= watch.cluster.ENDED
    runs = set(client("emr-serverless").meta.service_model.shape_for("JobRunState").enum)
    assert {*watch.serverless.ACTIVE, "SUCCESS", "FAILED", "CANCELLED"} == runs


def test_two_lakes_have_names_of_their_own(places, dry):
    request = asked(dry(*RUN, "--name", "music"), "emr.run_job_flow")
    assert request["JobFlowRole"] == "music-job" and request["ServiceRole"] == "music-service"
    assert iam.own_tag("music") == {"application": "music"}
    assert {"Key": "application", "Value": "music"} in request["Tags"]
    assert emr.NAME == "sparkify-etl"
