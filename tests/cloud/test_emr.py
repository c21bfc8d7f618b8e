"""cloud/emr.py against moto's AWS: what it asks for, shows, and ends with."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from io import BytesIO

import aws
import botocore.client
import botocore.endpoint
import emr
import iam
import pytest
from botocore import xform_name
from botocore.awsrequest import AWSResponse
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    ReadTimeoutError,
    UnauthorizedSSOTokenError,
)
from botocore.stub import Stubber
from fake_aws import ACCOUNT, BUCKET, INPUT, OUTPUT, REGION, client, dry_requests, fill
from helpers import ROOT
from moto.emr.models import emr_backends

PLACES = ["--input", INPUT, "--output", OUTPUT]
RUN = ["run", *PLACES, "--subnet", "subnet-1"]
LOG = "emr/logs"
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def said(capsys):
    """Runs a command; returns its exit code and what it printed."""

    def run(*arguments):
        code = emr.main(list(arguments))
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def requests(monkeypatch):
    """Every request that is really sent: [(service.operation, parameters)]."""
    sent, send = [], botocore.client.BaseClient._make_api_call

    def record(self, operation, parameters):
        service = self.meta.service_model.service_name
        sent.append((f"{service}.{xform_name(operation)}", parameters))
        return send(self, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", record)
    return sent


@pytest.fixture
def clusters(account, monkeypatch):
    """Lets moto's clusters pass through (cluster state, step state) pairs, one a poll."""

    def pass_through(*states, reason=""):
        turns = iter(states)

        def next_state(seconds):
            cluster_state, step_state = next(turns, states[-1])
            for cluster in emr_backends[ACCOUNT][REGION].clusters.values():
                cluster.state = cluster_state
                for step in cluster.steps:
                    step.state = step_state
                    put_logs(
                        f"{LOG}/{cluster.id}/steps/{step.id}", pass_through.spark, pass_through.job
                    )

        monkeypatch.setattr(aws, "pause", next_state)

    pass_through.spark, pass_through.job = "", ""
    return pass_through


def put_logs(folder: str, spark: str, job: str) -> None:
    """Logs as EMR leaves them: spark-submit sends both streams of the job to its stdout."""
    for name, text in (("stderr", spark), ("stdout", job)):
        if spark or job:
            client("s3").put_object(
                Bucket=BUCKET, Key=f"{folder}/{name}.gz", Body=gzip.compress(text.encode())
            )


def later(report: bytes) -> dict:
    """The job's summary, as a run that begins after all others leaves it."""
    return {"out/_etl/runs/29991231T235959Z-00000000.json": report}


# ── What is asked for ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_cluster_ends_with_its_step_and_after_an_idle_hour(
    account, requests, clusters, said, recorded
):
    fill(later(recorded.report))
    clusters(("RUNNING", "RUNNING"), ("TERMINATING", "COMPLETED"))
    code, _, _ = said(*RUN, "--spot", "0.5", "--count", "4", "--tag", "team=data", "--", "--force")
    (request,) = [parameters for name, parameters in requests if name == "emr.run_job_flow"]
    instances, (step,) = request["Instances"], request["Steps"]
    assert code == 0
    assert (instances["KeepJobFlowAliveWhenNoSteps"], instances["TerminationProtected"]) == (
        False,
        False,
    )
    assert request["AutoTerminationPolicy"] == {"IdleTimeout": 3600}
    assert step["ActionOnFailure"] == "TERMINATE_CLUSTER"
    assert step["HadoopJarStep"]["Args"][-5:] == ["--input", INPUT, "--output", OUTPUT, "--force"]
    assert "spark.yarn.maxAppAttempts=1" in step["HadoopJarStep"]["Args"]
    core = instances["InstanceFleets"][1]
    assert (core["TargetOnDemandCapacity"], core["TargetSpotCapacity"]) == (2, 2)
    assert (
        request["ReleaseLabel"] == "emr-spark-8.1.0"
        and {"Key": "team", "Value": "data"} in request["Tags"]
    )
    script = next(
        argument for argument in step["HadoopJarStep"]["Args"] if argument.endswith("etl.py")
    )
    key = script.removeprefix(f"s3://{BUCKET}/")
    assert (
        client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
        == (ROOT / "etl.py").read_bytes()
    )


@pytest.mark.parametrize(
    ("release", "python"), [("emr-7.14.0", "python3.9"), ("emr-spark-8.1.0", "python3.11")]
)
@pytest.mark.parametrize(("mode", "nodes"), [("client", "master"), ("cluster", "all")])
def test_the_bootstrap_installs_for_the_drivers_python_where_the_driver_can_run(
    release, python, mode, nodes, capsys
):
    sent = dry_requests(emr, capsys, *RUN, "--release", release, "--deploy-mode", mode)
    (bootstrap,) = dict(sent)["emr.run_job_flow"]["BootstrapActions"]
    needed = [
        line for line in (ROOT / "requirements.txt").read_text().split() if "pyspark" not in line
    ]
    assert bootstrap["ScriptBootstrapAction"]["Args"] == [nodes, python, "/opt/sparkify", *needed]
    assert len(needed) == 2


COMMANDS = [
    ["setup", *PLACES],
    RUN,
    ["run", *PLACES],
    ["run", *PLACES, "--serverless", "--release", "emr-7.14.0"],
    ["status"],
    ["logs"],
    ["terminate"],
]


def test_a_dry_run_sends_nothing_and_claims_nothing(monkeypatch, capsys):
    def refuse(self, operation, parameters):
        raise AssertionError(f"{operation} was sent")

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", refuse)
    for command in [
        *COMMANDS[:5],
        ["status", "j-1"],
        ["logs", "j-1"],
        ["terminate", "a/b"],
        ["cost"],
    ]:
        assert dry_requests(emr, capsys, *command), command
        emr.main([*command, "--dry-run", "--region", REGION])
        claims = [
            line for line in capsys.readouterr().out.splitlines() if not re.match(r"[ {}]", line)
        ]
        assert all(line.startswith("Left out") for line in claims), command


@pytest.mark.parametrize(
    "command", COMMANDS, ids=lambda command: " ".join(command[:1] + command[5:6])
)
def test_each_request_has_a_dry_run_twin(
    command, account, requests, clusters, said, recorded, monkeypatch, capsys
):
    monkeypatch.setattr(emr, "packed_requirements", lambda python: b"zip")
    fill(later(recorded.report))
    clusters(("TERMINATING", "COMPLETED"))
    if command == ["run", *PLACES]:
        said("setup", *PLACES)  # tags the subnets that this run is to find
    if command[0] in ("logs", "terminate"):
        said(*RUN)
        command = [*command, next(iter(emr_backends[ACCOUNT][REGION].clusters))]
    requests.clear()
    said(*command)
    printed = dry_requests(emr, capsys, *command)
    assert requests and {name for name, _ in requests} <= {name for name, _ in printed}
    sent, twins = dict(requests), dict(printed)
    for name in (
        "emr.run_job_flow",
        "emr-serverless.create_application",
        "ec2.create_tags",
        "iam.create_role",
    ):
        if name in sent and "--subnet" in command:
            sent[name].pop("Name", None), twins[name].pop("Name", None)  # it holds the time
            assert sent[name] == twins[name]


def test_setup_makes_roles_a_private_bucket_and_tagged_subnets_and_may_be_repeated(
    account, said, requests
):
    for _ in range(2):
        assert said("setup", *PLACES)[0] == 0
    s3, roles = client("s3"), client("iam")
    assert all(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values())
    assert s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
    (rule,) = s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert (
        rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
        and rule["Status"] == "Enabled"
    )
    names = iam.Names("aws", REGION, ACCOUNT, INPUT, OUTPUT, "s3://lake/emr", "s3://lake/emr/logs")
    held = roles.get_role_policy(RoleName=iam.JOB_ROLE, PolicyName=iam.JOB_ROLE)["PolicyDocument"]
    assert held == iam.job_policy(names)
    versions = roles.list_policy_versions(
        PolicyArn=names.arn("iam", f"policy/{iam.LAUNCH_POLICY}")
    )["Versions"]
    assert [version["Document"] for version in versions if version["IsDefaultVersion"]] == [
        iam.launch_policy(names)
    ]
    (profile,) = roles.get_instance_profile(InstanceProfileName=iam.JOB_ROLE)["InstanceProfile"][
        "Roles"
    ]
    assert profile["RoleName"] == iam.JOB_ROLE
    assert not {"iam.create_access_key", "iam.create_user"} & {name for name, _ in requests}
    tagged = client("ec2").describe_subnets(
        Filters=[{"Name": f"tag:{next(iter(iam.FOR_EMR))}", "Values": ["true"]}]
    )
    assert tagged["Subnets"]


def test_setup_tags_the_security_groups_that_an_earlier_cluster_left(account, said):
    ec2 = client("ec2")
    vpc = ec2.describe_subnets()["Subnets"][0]["VpcId"]
    for name in ("ElasticMapReduce-master", "mine"):
        ec2.create_security_group(GroupName=name, Description="-", VpcId=vpc)
    assert said("setup", *PLACES)[0] == 0
    tagged = ec2.describe_security_groups(
        Filters=[{"Name": "tag-key", "Values": list(iam.FOR_EMR)}]
    )
    assert [group["GroupName"] for group in tagged["SecurityGroups"]] == ["ElasticMapReduce-master"]


def test_setup_leaves_what_a_bucket_says_already(account, said):
    fill({})
    kept = {
        "Rules": [{"ID": "mine", "Status": "Enabled", "Prefix": "x", "Expiration": {"Days": 3}}]
    }
    client("s3").put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration=kept)
    assert said("setup", *PLACES)[0] == 0
    (rule,) = client("s3").get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert rule["ID"] == "mine"


# ── What it shows, and ends with ─────────────────────────────────────────────────────────────────────────────────────


def test_a_run_shows_its_states_and_the_jobs_own_summary(account, clusters, said, recorded):
    fill(later(recorded.report))
    clusters(
        ("BOOTSTRAPPING", "PENDING"),
        ("RUNNING", "RUNNING"),
        ("RUNNING", "RUNNING"),
        ("TERMINATING", "COMPLETED"),
    )
    code, out, _ = said(*RUN)
    assert code == 0
    states = re.findall(r"cluster (\w+), step (\w+)", out)
    assert states[1:] == [
        ("BOOTSTRAPPING", "PENDING"),
        ("RUNNING", "RUNNING"),
        ("TERMINATING", "COMPLETED"),
    ]
    report = json.loads(recorded.report)
    assert f"{report['events']['lines']:,} lines" in out
    for table, made in report["tables"].items():
        assert re.search(rf"{table} +{made['rows']:,} rows", out)


def test_a_summary_of_an_earlier_run_is_not_taken_for_this_ones(account, clusters, said, recorded):
    fill({"out/_etl/runs/20000101T000000Z-00000000.json": recorded.report})
    clusters(("TERMINATING", "COMPLETED"))
    code, out, _ = said(*RUN)
    assert code == 0 and "nothing to do" in out


def test_a_summary_that_ended_otherwise_is_anothers(account, clusters, said, recorded):
    report = json.loads(recorded.report)
    overtaken = {**report, "exit": 75, "error": "another run committed first", "commit": None}
    objects = later(recorded.report)
    objects[min(objects).replace("2999", "2998")] = json.dumps(overtaken).encode()
    fill(objects)
    clusters(("TERMINATING", "COMPLETED"))
    code, out, _ = said(*RUN)
    assert code == 0 and f"{report['events']['lines']:,} lines" in out


REFUSED = "s3://source/in/log_data: 9 of 10 lines are malformed or invalid, more than MAX_REJECTED = 0.01 allows"


def test_a_refused_run_exits_as_the_job_did_and_says_what_it_said(
    account, clusters, said, recorded
):
    report = {**json.loads(recorded.report), "exit": 3, "error": REFUSED, "commit": None}
    fill(later(json.dumps(report).encode()))
    clusters.spark, clusters.job = (
        "INFO Client: noise\nCommand exiting with ret '3'\n",
        f"etl.py: {REFUSED}\n",
    )
    clusters(("TERMINATING", "FAILED"))
    code, out, err = said(*RUN)
    assert (code, len(err.splitlines())) == (3, 1)
    assert REFUSED in err and re.search(r"j-\w+", err) and "noise" in out


def test_a_run_that_fails_before_it_reads_exits_as_its_stderr_says(account, clusters, said):
    fill({})
    clusters.spark = "Command exiting with ret '2'"
    clusters.job = "etl.py: warning: no\netl.py: s3://source/in: there is no such bucket\n"
    clusters(("TERMINATING", "FAILED"))
    code, _, err = said(*RUN)
    assert code == 2 and err.endswith("s3://source/in: there is no such bucket\n")


def test_in_cluster_mode_the_message_comes_from_the_drivers_container(
    account, clusters, said, monkeypatch
):
    fill({})
    clusters.spark = (
        "Application application_1_0002 finished with failed status\nCommand exiting with ret '1'"
    )
    clusters(("TERMINATING", "FAILED"))
    move, paused = aws.pause, []

    def put_container_log(seconds):
        move(seconds)
        paused.append(seconds)
        if len(paused) < 3:  # they come later than the step's
            return
        (cluster,) = emr_backends[ACCOUNT][REGION].clusters
        for container, text in (("01_000002", "executor"), ("01_000001", f"etl.py: {REFUSED}")):
            put_logs(
                f"{LOG}/{cluster}/containers/application_1_0002/container_1_0002_{container}",
                "INFO",
                text,
            )

    monkeypatch.setattr(aws, "pause", put_container_log)
    code, out, err = said(*RUN, "--deploy-mode", "cluster")
    assert code == 1 and REFUSED in err and "waiting for the driver's log" in out


def test_without_a_log_the_way_to_it_is_said(account, clusters, said):
    fill({})
    clusters(("TERMINATING", "FAILED"))
    code, _, err = said(*RUN)
    assert code == 1 and re.search(
        r"no log on S3 yet; later: python cloud/emr.py logs j-\w+ --region us-west-2", err
    )


def test_ctrl_c_says_what_still_runs_and_how_to_end_it(account, said, monkeypatch):
    fill({})

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(aws, "pause", interrupt)
    code, _, err = said(*RUN)
    (cluster,) = emr_backends[ACCOUNT][REGION].clusters
    assert code == 130 and f"python cloud/emr.py terminate {cluster} --region us-west-2" in err
    assert said("terminate", cluster)[0] == 0
    assert emr_backends[ACCOUNT][REGION].clusters[cluster].state == "TERMINATED"


def fail(monkeypatch, operation: str, error: Exception, times: int = 99, after: bool = False):
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


LOST = ReadTimeoutError(endpoint_url="https://elasticmapreduce.us-west-2.amazonaws.com")


@pytest.mark.parametrize("error", [LOST, refusal("InternalServerError", "later", 500)], ids=str)
def test_a_cluster_whose_answer_was_lost_is_found_by_its_name(
    account, clusters, said, recorded, monkeypatch, error
):
    fill(later(recorded.report))
    clusters(("TERMINATING", "COMPLETED"))
    fail(monkeypatch, "RunJobFlow", error, after=True)
    code, out, _ = said(*RUN)
    (cluster,) = emr_backends[ACCOUNT][REGION].clusters
    assert code == 0 and f"{cluster} was started" in out


def test_ctrl_c_while_a_cluster_starts_ends_with_the_way_to_end_it(account, said, monkeypatch):
    fill({})
    fail(monkeypatch, "RunJobFlow", KeyboardInterrupt(), after=True)
    code, _, err = said(*RUN)
    (cluster,) = emr_backends[ACCOUNT][REGION].clusters
    assert code == 130 and f"python cloud/emr.py terminate {cluster} --region us-west-2" in err


NO_NETWORK = EndpointConnectionError(
    endpoint_url="https://elasticmapreduce.us-west-2.amazonaws.com"
)


@pytest.mark.parametrize(
    ("error", "then", "exit_code"),
    [(LOST, None, 1), (LOST, NO_NETWORK, 1), (KeyboardInterrupt(), KeyboardInterrupt(), 130)],
    ids=["not-listed", "no-network", "ctrl-c-twice"],
)
def test_a_cluster_that_may_yet_start_is_named(account, said, monkeypatch, error, then, exit_code):
    fill({})
    fail(monkeypatch, "RunJobFlow", error)
    if then:
        fail(monkeypatch, "ListClusters", then)
    code, _, err = said(*RUN)
    assert code == exit_code and re.search(
        r"a cluster sparkify-etl-\S+ may yet start; look with `python cloud/emr.py", err
    )


def test_a_cluster_is_named_when_watching_it_fails(account, said, monkeypatch):
    fill({})
    fail(
        monkeypatch,
        "DescribeCluster",
        refusal("AccessDeniedException", "User is not authorized to perform"),
    )
    code, _, err = said(*RUN)
    (cluster,) = emr_backends[ACCOUNT][REGION].clusters
    assert code == 1 and f"terminate {cluster}" in err and "attach the policy" in err


def test_throttled_polls_are_asked_again(account, clusters, said, recorded, monkeypatch):
    fill(later(recorded.report))
    clusters(("TERMINATING", "COMPLETED"))
    monkeypatch.setattr(botocore.endpoint.time, "sleep", lambda seconds: None)
    throttled = []

    def throttle(request, **given):
        if len(throttled) < 3 and "DescribeCluster" in str(request.headers.get("X-Amz-Target")):
            throttled.append(request)
            content = b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'
            raw = type("Raw", (), {"stream": lambda self, *more, **options: iter([content])})()
            return AWSResponse(request.url, 400, {"x-amzn-errortype": "ThrottlingException"}, raw)
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
            "`emr.py setup` creates them",
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
                "User: arn:aws:sts::1:assumed-role/AWSReservedSSO_Data/me is not authorized to perform: "
                "elasticmapreduce:RunJobFlow on subnet/*",
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
def test_what_goes_wrong_is_one_line_with_its_remedy(account, said, monkeypatch, error, remedy):
    fill({})
    fail(monkeypatch, "RunJobFlow", error)
    code, _, err = said(*RUN)
    assert (code, len(err.splitlines())) == (1, 1) and remedy in err
    assert not emr_backends[ACCOUNT][REGION].clusters


def test_a_quota_that_ends_the_cluster_is_said_with_its_remedy(
    account, clusters, said, monkeypatch
):
    fill({})
    told = "The number of vCPUs for instance type m5.xlarge exceeds the EC2 service quota for that type."
    describe = emr.cluster_state
    ended = ("TERMINATED_WITH_ERRORS", "PENDING")
    clusters(ended)
    monkeypatch.setattr(emr, "cluster_state", lambda *given: describe(*given)._replace(reason=told))
    code, _, err = said(*RUN)
    assert code == 1 and "no log on S3 yet" not in err and "Service Quotas" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--region", "us-wets-2"], "us-wets-2: no EMR there"),
        (["--release", "emr-5.36.0"], "--release emr-5.36.0: name emr-7.x.y"),
        (["--input", "/data"], "/data: not on S3"),
        ([], "no subnet is tagged for EMR; run `emr.py setup`"),
    ],
)
def test_wrong_settings_are_one_line_and_nothing_is_started(
    account, said, requests, arguments, words
):
    code, _, err = said("run", *PLACES, *arguments)
    assert (code, len(err.splitlines())) == (2, 1) and words in err
    assert "emr.run_job_flow" not in dict(requests)


@pytest.mark.parametrize("verb", ["status", "logs", "terminate"])
@pytest.mark.parametrize("id", ["sparkify", "a/b/c"])
def test_what_is_no_id_of_a_run_is_one_line(said, verb, id):
    code, _, err = said(verb, id)
    assert (code, len(err.splitlines())) == (2, 1) and "name j-… or APPLICATION/RUN" in err


def test_a_cluster_has_at_least_one_node_beside_the_drivers(said, capsys):
    with pytest.raises(SystemExit) as ended:
        said(*RUN, "--count", "0")
    assert ended.value.code == 2 and "--count: invalid count value: '0'" in capsys.readouterr().err


def test_without_region_or_credentials_the_remedy_is_said(said, monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert "name one with --region" in said("status")[2]
    assert "aws configure sso" in said("status", "--region", REGION)[2]


# ── Serverless ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_serverless_run_on_spark_8_shows_the_jobs_own_end(account, said, recorded, monkeypatch):
    fill(later(recorded.report))
    monkeypatch.setattr(emr, "packed_requirements", lambda python: b"zip")
    serverless = client("emr-serverless")
    stub, request = Stubber(serverless), {"applicationId": "00app", "jobRunId": "00run"}
    make = aws.Aws.client
    monkeypatch.setattr(
        aws.Aws,
        "client",
        lambda self, name, *more: (
            serverless if name == "emr-serverless" else make(self, name, *more)
        ),
    )

    arn = f"arn:aws:emr-serverless:{REGION}:{ACCOUNT}:/applications/00app"

    def answer_states(*states):
        for state, details in states:
            found = {
                "applicationId": "00app", "jobRunId": "00run", "arn": f"{arn}/jobruns/00run",
                "createdBy": f"arn:aws:iam::{ACCOUNT}:role/me", "createdAt": LONG_AGO, "updatedAt": LONG_AGO,
                "executionRole": f"arn:aws:iam::{ACCOUNT}:role/{iam.JOB_ROLE}", "state": state, "stateDetails": details,
                "releaseLabel": "emr-spark-8.1.0", "attempt": 1,
                "jobDriver": {"sparkSubmit": {"entryPoint": "s3://x", "entryPointArguments": PLACES}},
                "configurationOverrides": {
                    "monitoringConfiguration": {"s3MonitoringConfiguration": {"logUri": f"s3://{BUCKET}/{LOG}"}}
                },
            }  # fmt: skip
            stub.add_response("get_job_run", {"jobRun": found}, request)

    made = {"applicationId": "00app", "arn": arn, "name": "sparkify-etl-emr-spark-8.1.0"}
    described = {
        "applicationId": "00app", "arn": arn, "releaseLabel": "emr-spark-8.1.0", "type": "SPARK",
        "state": "CREATED", "createdAt": LONG_AGO, "updatedAt": LONG_AGO,
    }  # fmt: skip
    stub.add_response("list_applications", {"applications": []})
    stub.add_response("create_application", made)
    stub.add_response("get_application", {"application": {**described, "state": "CREATING"}})
    stub.add_response("get_application", {"application": described})
    stub.add_response(
        "start_job_run",
        {"applicationId": "00app", "jobRunId": "00run", "arn": arn + "/jobruns/00run"},
    )
    answer_states(("SCHEDULED", "-"), ("RUNNING", "-"), ("SUCCESS", "-"))
    with stub:
        code, out, _ = said("run", *PLACES, "--serverless")
        assert code == 0 and "00app/00run" in out and "the tables are in" in out
        stub.assert_no_pending_responses()
        put_logs(f"{LOG}/applications/00app/jobs/00run/SPARK_DRIVER", "INFO", f"etl.py: {REFUSED}")
        client("s3").delete_object(Bucket=BUCKET, Key=next(iter(later(b""))))
        answer_states(("FAILED", "Job failed"), ("FAILED", "Job failed"))
        code, _, err = said("status", "00app/00run")
        assert code == 1 and REFUSED in err
        assert REFUSED in said("logs", "00app/00run")[1]


def test_what_is_a_clusters_only_is_refused_of_a_serverless_run(said, capsys):
    with pytest.raises(SystemExit, match="2"):
        said("run", *PLACES, "--serverless", "--spot", "0.5", "--instance-types", "c7g.large")
    assert (
        "--serverless has no --spot, --instance-types: leave out either" in capsys.readouterr().err
    )


def test_a_serverless_run_that_may_have_started_is_said(account, said, monkeypatch):
    fill({})
    monkeypatch.setattr(emr, "packed_requirements", lambda python: b"zip")
    fail(monkeypatch, "StartJobRun", KeyboardInterrupt())
    code, _, err = said("run", *PLACES, "--serverless", "--release", "emr-7.14.0")
    assert code == 130 and re.search(
        r"a run on application \S+ may yet start; look with `python cloud/emr.py", err
    )


@pytest.mark.parametrize(
    ("release", "obstore"), [("emr-7.14.0", "0.8.2"), ("emr-spark-8.1.0", "0.12.")]
)
def test_the_packages_for_serverless_are_those_that_its_python_can_load(release, obstore):
    packed = emr.packed_requirements(emr.python_of(release))
    names = zipfile.ZipFile(BytesIO(packed)).namelist()
    assert any(name.startswith(f"obstore-{obstore}") for name in names)
    assert any(name.startswith("obstore/") and name.endswith(".so") for name in names)
    assert any(name.startswith("boto3/") for name in names)


# ── Bootstrap, cost ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("nodes", "is_master", "installed"),
    [("master", "true", True), ("master", "false", False), ("all", "false", True)],
)
def test_the_bootstrap_gives_the_driver_its_packages_and_other_nodes_none(
    tmp_path, nodes, is_master, installed
):
    (tmp_path / "instance.json").write_text(
        f'{{"isMaster": {is_master}, "isRunningNameNode": true}}'
    )
    python = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
    dnf = f'#!/bin/sh\n[ "$*" = "install -y -q python3.99" ] && cp {tmp_path}/python {tmp_path}/python3.99\n'
    there = {"sudo": '#!/bin/sh\nexec "$@"\n', "dnf": dnf, "python": python}
    if nodes == "all":  # elsewhere it is installed first
        there["python3.99"] = python
    for name, text in there.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment["INSTANCE_INFO"] = str(tmp_path / "instance.json")
    script = [shutil.which("bash"), str(ROOT / "cloud" / "bootstrap.sh")]
    arguments = [nodes, "python3.99", str(tmp_path / "driver"), emr.requirements()[-1]]
    subprocess.run([*script, *arguments], check=True, env=environment)
    assert (tmp_path / "driver").exists() == installed
    if installed:
        loaded = [str(tmp_path / "driver" / "bin" / "python"), "-c", "import obstore"]
        subprocess.run(loaded, check=True)


def test_the_cost_is_said_before_with_what_it_leaves_out(account, said, monkeypatch):
    pricing = client("pricing")
    make = aws.Aws.client
    monkeypatch.setattr(
        aws.Aws,
        "client",
        lambda self, name, *more: pricing if name == "pricing" else make(self, name, *more),
    )
    with Stubber(pricing) as stub:
        for dollars in ("0.1920000000", "0.0480000000"):
            dimension = {"unit": "Hrs", "pricePerUnit": {"USD": dollars}}
            item = {"terms": {"OnDemand": {"a.b": {"priceDimensions": {"a.b.c": dimension}}}}}
            stub.add_response("get_products", {"PriceList": [json.dumps(item)]})
        code, out, _ = said("cost", "--count", "4", "--hours", "2")
    assert code == 0 and "1.20 USD an hour, 2.40 USD in 2 hours" in out  # 5 × (0.192 + 0.048)
    for left_out in ("EBS", "S3 requests", "transfer", "Athena", "tax"):
        assert left_out in out
    assert "USD an hour" in said("cost", "--serverless")[1]


def test_status_lists_what_runs_of_this_job(account, clusters, said):
    fill({})
    clusters(("RUNNING", "COMPLETED"))
    other = {
        "Name": "other",
        "Instances": {"MasterInstanceType": "m5.xlarge", "KeepJobFlowAliveWhenNoSteps": True},
    }
    client("emr").run_job_flow(**other, ReleaseLabel="emr-7.14.0", JobFlowRole="x", ServiceRole="y")
    said(*RUN)
    code, out, _ = said("status")
    (ours,) = [
        id for id, item in emr_backends[ACCOUNT][REGION].clusters.items() if item.name != "other"
    ]
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == [ours]
    said("terminate", ours)
    assert said("status")[1] == f"nothing of this job runs in {REGION}\n"
