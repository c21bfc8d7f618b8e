"""cloud/emr.py on both kinds, against moto's AWS: what it asks for, shows, and ends with."""

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from io import BytesIO

import boto3
import botocore.client
import pytest
import upload
import watch
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    LoginRefreshRequired,
    ReadTimeoutError,
    UnauthorizedSSOTokenError,
)
from fake_aws import (
    ACCOUNT,
    BUCKET,
    INPUT,
    LOGS,
    OURS,
    OUTPUT,
    REGION,
    changing,
    client,
    fill,
    put_logs,
)
from helpers import ROOT
from moto.emr.models import emr_backends
from rules import spark_settings

WHERE = "--stack sparkify --region us-west-2"


@pytest.fixture
def lake_with_tables(account, published):
    fill(published)


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


def test_the_cluster_is_that_of_the_stack_and_ends_with_its_step(lake, requests, said):
    options = ["--count", "4", "--instance-types", "m5.xlarge,m6i.xlarge", "--max-hours", "1.5"]
    assert said("run", "--detach", *options, "--", "--force")[0] == 0
    request = asked(requests, "emr.run_job_flow")
    instances, (step,) = request["Instances"], request["Steps"]
    assert instances["KeepJobFlowAliveWhenNoSteps"] is False
    assert request["AutoTerminationPolicy"] == {"IdleTimeout": 3600}
    assert step["ActionOnFailure"] == "TERMINATE_CLUSTER"
    assert instances["Ec2SubnetIds"] == ["subnet-1", "subnet-2"]
    assert [fleet["TargetOnDemandCapacity"] for fleet in instances["InstanceFleets"]] == [1, 4]
    assert request["ReleaseLabel"] == "emr-spark-8.1.0"
    assert (request["JobFlowRole"], request["ServiceRole"]) == ("sparkify-job", "sparkify-service")
    command = command_of(request)
    assert command[-5:] == ["--input", INPUT, "--output", OUTPUT, "--force"]
    limit = command.index("timeout")
    assert command[limit + 2 : limit + 4] == ["5400", "spark-submit"]
    assert confs(command)["spark.yarn.maxAppAttempts"] == "1"


def test_the_driver_on_a_cluster_is_told_its_python_packages_and_region(lake, requests, said):
    said("run", "--detach", "--conf", "spark.executor.memory=20g")
    request = asked(requests, "emr.run_job_flow")
    command = command_of(request)
    assert command[:3] == [
        "env",
        "PYTHONPATH=/opt/sparkify/packages",
        "AWS_DEFAULT_REGION=us-west-2",
    ]
    assert confs(command)["spark.pyspark.driver.python"] == "/opt/sparkify/python3"
    assert confs(command)["spark.executor.memory"] == "20g"
    (bootstrap,) = request["BootstrapActions"]
    packages, folder = bootstrap["ScriptBootstrapAction"]["Args"]
    assert packages.endswith("packages.zip") and folder == "/opt/sparkify"


def test_the_code_goes_to_the_stacks_bucket_if_this_account_owns_it(lake, requests, said, run):
    said(*run, "--detach")
    uploads = [given for name, given in requests if name == "s3.put_object"]
    assert [given["Key"].rpartition("/")[2] for given in uploads] == [
        "etl.py",
        "packages.zip",
        "bootstrap.sh",
    ]
    assert {given["ExpectedBucketOwner"] for given in uploads} == {ACCOUNT}
    assert uploads[0]["Body"] == (ROOT / "etl.py").read_bytes()


def test_words_that_a_shell_would_split_reach_the_job_whole(lake, requests, said):
    words = ["--songs-partition-by", "year, artist_id; $HOME 'x'"]
    said("run", "--detach", "--", *words)
    assert command_of(asked(requests, "emr.run_job_flow"))[-2:] == words


@pytest.mark.parametrize(
    ("types", "architecture"),
    [("m7g.xlarge,m6g.xlarge", b"ARM64"), ("m5.xlarge", b"X86_64"), ("r6gd.2xlarge", b"ARM64")],
)
def test_the_packages_are_those_of_the_nodes_architecture(
    lake, requests, said, types, architecture
):
    said("run", "--detach", "--instance-types", types)
    assert architecture in [given["Body"] for name, given in requests if name == "s3.put_object"]


@pytest.mark.parametrize("count", ["1", "2", "3", "10"])
def test_a_serverless_run_starts_with_no_more_executors_than_it_may_have(
    lake, requests, said, count
):
    """The account's rules refuse such a request; the application in lake.yaml has the rest."""
    options = ["--count", count, "--conf", "spark.x=a b", "--max-hours", "2"]
    assert said("run", "--serverless", "--detach", *options)[0] == 0
    request = asked(requests, "emr-serverless.start_job_run")
    settings = spark_settings(request)
    assert settings["spark.dynamicAllocation.maxExecutors"] == count
    assert settings["spark.executor.instances"] == str(min(3, int(count)))
    assert settings["spark.archives"].endswith("/packages.zip#packages")
    assert settings["spark.x"] == "a b"
    assert request["executionTimeoutMinutes"] == 120
    assert request["applicationId"] == "00app"


def test_a_repeated_request_starts_no_second_serverless_run(account):
    """boto3 fills the token in, and AWS answers a repeated one with the first run."""
    model = client("emr-serverless").meta.service_model.operation_model("StartJobRun")
    assert "clientToken" in model.idempotent_members


# ── What it shows, and ends with ─────────────────────────────────────────────────────────────────


def test_a_run_shows_its_states_and_the_jobs_own_summary(lake_with_tables, runs, said, run):
    runs("pending", "running", "running", "done")
    code, out, err = said(*run)
    assert code == 0, err
    states = re.findall(r"UTC  (.*)", out)
    assert len(states) == len(set(states)) == 4
    assert re.search(r"1,041 +lines of events", out) and re.search(r"1 +malformed", out)
    assert re.search(r"users +96 +1 +4.20", out)
    assert f"The tables are in {OUTPUT} (commit 1)." in out


def test_a_run_that_publishes_nothing_says_so(lake, runs, said, run):
    old = {"exit": 0, "commit": 7}
    key = "out/_etl/runs/20000101T000000Z-00000000.json"
    client("s3").put_object(Bucket=BUCKET, Key=key, Body=json.dumps(old))
    runs("done")
    code, out, _ = said(*run)
    assert code == 0 and "published nothing new" in out and "python cloud/emr.py logs" in out


REFUSED = "log_data: 9 of 10 lines are malformed or invalid"


def test_a_refused_run_exits_as_the_job_did_and_says_what_it_said(lake, runs, said, run):
    reports = {
        # another run over the same OUTPUT, which ended well
        "29981231T235959Z-00000000": {"exit": 0, "commit": 9},
        "29991231T235959Z-00000000": {"exit": 3, "error": REFUSED, "commit": None},
    }
    for name, report in reports.items():
        key = f"out/_etl/runs/{name}.json"
        client("s3").put_object(Bucket=BUCKET, Key=key, Body=json.dumps(report))
    runs("failed", spark="INFO Client: noise", job="etl.py: warning: no\n")
    code, out, err = said(*run)
    assert (code, len(err.splitlines())) == (3, 1) and REFUSED in err and "noise" in out


def test_a_run_that_left_no_summary_exits_as_its_log_says(lake, runs, said, run):
    job = "etl.py: warning: no\netl.py: there is no such bucket\n"
    runs("failed", spark="Command exiting with ret '2'", job=job)
    code, _, err = said(*run)
    assert code == 2 and err.endswith("there is no such bucket\n")


def test_a_job_that_ran_too_long_says_so(lake, runs, said):
    runs("failed", spark="Command exiting with ret '124'")
    code, _, err = said("run")
    assert code == 124 and "longer than --max-hours" in err


ONE_NODE = "On the master instance (i-0abc), bootstrap action 1 returned a non-zero return code"
MORE_NODES = (
    "On 2 slave instances (including i-0abc and i-0def), bootstrap action 1 returned a "
    "non-zero return code"
)


@pytest.mark.parametrize("reason", [ONE_NODE, MORE_NODES])
def test_a_failed_bootstrap_shows_what_the_node_wrote(
    lake, runs, said, monkeypatch, started, reason
):
    runs("cancelled", reason=reason)
    move = watch.sleep

    def put_node_logs(seconds):
        move(seconds)
        nodes = f"{LOGS}/{started()}/node"
        put_logs(f"{nodes}/i-0aaa/bootstrap-actions/1", "", "quiet")
        put_logs(f"{nodes}/i-0abc/bootstrap-actions/1", "Could not connect to the endpoint", "")

    monkeypatch.setattr(watch, "sleep", put_node_logs)
    code, out, err = said("run")
    assert code == 1 and "Could not connect to the endpoint" in out
    assert reason in err and "gateway endpoint" in err
    assert "Could not connect" in said("logs", started())[1]


def test_without_a_log_the_way_to_it_is_said(lake, runs, said, run, started):
    runs("failed")
    code, _, err = said(*run)
    assert code == 1
    assert f"not on S3 yet. Try later: python cloud/emr.py logs {started()} {WHERE}" in err


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("The number of vCPUs for m7g.xlarge exceeds the EC2 service quota", "Service Quotas"),
        ("Insufficient capacity for instance type m7g.xlarge", "--instance-types A,B"),
        ("EMR BlockPublicAccess prevents this cluster: subnet-1", "private Subnets"),
    ],
)
def test_why_a_cluster_ended_is_said_with_a_hint(lake, runs, said, reason, hint):
    runs("cancelled", reason=reason)
    code, _, err = said("run")
    assert code == 1 and "not on S3 yet" not in err and reason in err and hint in err


# ── Runs that go on ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("signal", [2, 15], ids=["ctrl-c", "cancelled-by-ci"])
def test_an_interrupted_command_says_what_still_runs(lake, said, run, monkeypatch, started, signal):
    monkeypatch.setattr(watch, "sleep", lambda seconds: os.kill(os.getpid(), signal))
    if run != ["run"]:
        monkeypatch.setattr(watch, "kind_of", lambda id: os.kill(os.getpid(), signal))
    code, _, err = said(*run)
    assert (code, len(err.splitlines())) == (130, 1)
    for verb in ("wait", "terminate"):
        assert f"python cloud/emr.py {verb} {started()} {WHERE}" in err


def test_an_error_while_watching_says_what_still_runs(lake, said, run, monkeypatch, started):
    for operation in ("DescribeCluster", "GetJobRun"):
        fail(monkeypatch, operation, refusal("ExpiredTokenException", "expired"))
    code, _, err = said(*run)
    assert code == 2 and f"{started()} may still be running, and costs money" in err


def test_a_detached_run_is_watched_registered_and_ended_later(
    lake_with_tables, runs, said, run, started
):
    client("glue").create_database(DatabaseInput={"Name": "sparkify"})
    code, out, _ = said(*run, "--detach")
    assert code == 0 and f"python cloud/emr.py wait {started()} {WHERE}" in out
    assert said("status")[1].startswith(f"{started()} ")
    runs("done")
    code, out, err = said("wait", started(), "--register")
    assert code == 0, err
    assert "lines of events" in out and "users: new table" in out
    assert said("terminate", started())[0] == 0


def test_status_lists_what_runs_of_this_stack(lake, runs, said):
    other_cluster("sparkify-b-20260101T000000Z-1")
    assert said("status")[1] == f"Nothing of stack sparkify is running in {REGION}.\n"
    said("run", "--detach")
    said("run", "--serverless", "--detach")
    lines = said("status")[1].splitlines()
    assert len(lines) == 2
    assert all(re.search(r" since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$", line) for line in lines)


def other_cluster(name: str, *tags: str) -> str:
    made = client("emr").run_job_flow(
        Name=name,
        Instances={"MasterInstanceType": "m5.xlarge", "KeepJobFlowAliveWhenNoSteps": True},
        ReleaseLabel="emr-7.14.0",
        JobFlowRole="x",
        ServiceRole="y",
        Tags=[
            {"Key": "for-use-with-amazon-emr-managed-policies", "Value": "true"},
            *({"Key": "application", "Value": tag} for tag in tags),
        ],
        BootstrapActions=[],
        AutoTerminationPolicy={"IdleTimeout": 3600},
        Steps=[
            {
                "Name": "other",
                "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["bash", "-c", "echo it's"]},
            }
        ],
    )
    return made["JobFlowId"]


@pytest.mark.parametrize("verb", ["status", "logs", "wait"])
def test_a_cluster_of_another_stack_is_refused(lake, said, verb):
    code, _, err = said(verb, other_cluster("other", "other"))
    assert (code, len(err.splitlines())) == (2, 1) and "no run of stack sparkify" in err


def test_a_step_with_an_odd_quote_is_no_traceback(lake, said):
    assert said("status", other_cluster("sparkify-20260101T000000Z-1", "sparkify"))[0] == 0


# ── Before anything is billed ────────────────────────────────────────────────────────────────────


@pytest.fixture
def places(monkeypatch):
    """Changes the stack's outputs."""
    import stack

    describe = stack.Lake.describe

    def change(**outputs):
        def changed(self):
            found = describe(self)
            for item in found["Outputs"]:
                item["OutputValue"] = outputs.get(item["OutputKey"], item["OutputValue"])
            found["Outputs"] = [item for item in found["Outputs"] if item["OutputValue"]]
            return found

        monkeypatch.setattr(stack.Lake, "describe", changed)

    return change


def make_bucket(name: str, region: str) -> None:
    place = {"LocationConstraint": region}
    s3 = boto3.client("s3", region_name=region, config=OURS)
    s3.create_bucket(Bucket=name, CreateBucketConfiguration=place)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({"Input": "s3://sauce/in/"}, "Bucket sauce does not exist"),
        ({"Input": "s3://source/inn/"}, "s3://source/inn has no song_data/"),
        ({"Output": "s3://lakee/out"}, "Bucket lakee does not exist"),
        ({"Output": "s3://far/out"}, "Bucket far is in eu-west-1, the stack in us-west-2"),
        ({"Output": f"{INPUT}/log_data/x"}, "inside the input"),
        ({"Input": "s3://far/in"}, "out of reach for EMR Serverless in us-west-2"),
    ],
    ids=str,
)
def test_what_could_only_fail_is_found_out_before_anything_starts(
    lake, requests, said, places, outputs, words
):
    make_bucket("far", "eu-west-1")
    places(**outputs)
    code, _, err = said("run", "--serverless")
    assert (code, len(err.splitlines())) == (2, 1) and words in err
    assert not changing(requests)


def test_a_cluster_needs_subnets(lake, requests, said, places):
    places(Subnets="")
    code, _, err = said("run")
    assert code == 2 and "Subnets=" in err and not changing(requests)


def test_code_is_not_given_to_a_bucket_of_somebody_else(lake, requests, said, monkeypatch, run):
    answer = refusal("403", "Forbidden", 403)
    fail(monkeypatch, "HeadBucket", answer, when=lambda given: "ExpectedBucketOwner" in given)
    code, _, err = said(*run)
    assert code == 2 and "belongs to somebody else" in err and not changing(requests)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--region", "us-east-1"], "There is no stack sparkify in us-east-1."),
        (["--stack", "sparkifi"], "There is no stack sparkifi in us-west-2."),
        (["--instance-types", "m5.xlarge,m7g.xlarge"], "mixes Graviton and x86"),
    ],
)
def test_wrong_settings_are_one_line_and_nothing_is_started(lake, said, requests, arguments, words):
    code, _, err = said("run", *arguments)
    assert (code, len(err.splitlines())) == (2, 1) and words in err
    assert not changing(requests)


@pytest.mark.parametrize(
    "option", ["--count=0", "--max-hours=-3", "--conf=spark.x", "--output=s3://x"]
)
def test_options_that_cannot_be_are_refused(said, option):
    with pytest.raises(SystemExit) as ended:
        said("run", option)
    assert ended.value.code == 2


# ── Answers that are lost or refused ─────────────────────────────────────────────────────────────


def fail(monkeypatch, operation: str, error: BaseException, after=False, when=lambda given: True):
    """Lets an operation fail, before or after AWS carried it out."""
    send = botocore.client.BaseClient._make_api_call

    def answer(self, name, parameters):
        if name != operation or not when(parameters):
            return send(self, name, parameters)
        if after:
            send(self, name, parameters)
        raise error

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", answer)


def refusal(code: str, message: str, status: int = 400) -> ClientError:
    answer = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}},
    }
    return ClientError(answer, "RunJobFlow")


URL = "https://elasticmapreduce.us-west-2.amazonaws.com"
LOST = ReadTimeoutError(endpoint_url=URL)
NO_NETWORK = EndpointConnectionError(endpoint_url=URL)
STARTS = ("RunJobFlow", "StartJobRun")
LISTS = ("ListClusters", "ListJobRuns")


@pytest.mark.parametrize("error", [LOST, refusal("InternalServerError", "later", 500)], ids=str)
def test_a_run_whose_answer_was_lost_is_found_by_its_name(
    lake_with_tables, runs, said, run, monkeypatch, started, error
):
    for operation in STARTS:
        fail(monkeypatch, operation, error, after=True)
    code, out, _ = said(*run, "--detach")
    assert code == 0 and f"Started {started()}" in out


def test_ctrl_c_while_a_run_starts_ends_with_the_way_to_end_it(
    lake, runs, said, run, monkeypatch, started
):
    for operation in STARTS:
        fail(monkeypatch, operation, KeyboardInterrupt(), after=True)
    code, _, err = said(*run)
    assert code == 130 and f"python cloud/emr.py terminate {started()} {WHERE}" in err


@pytest.mark.parametrize(
    ("error", "then", "exit_code"),
    [(LOST, None, 1), (LOST, NO_NETWORK, 1), (KeyboardInterrupt(), KeyboardInterrupt(), 130)],
    ids=["not-listed", "no-network", "ctrl-c-twice"],
)
def test_a_run_that_may_yet_start_is_named(lake, said, run, monkeypatch, error, then, exit_code):
    for operation in STARTS:
        fail(monkeypatch, operation, error)
    for operation in LISTS:
        if then:
            fail(monkeypatch, operation, then)
    code, _, err = said(*run)
    named = rf"Run sparkify-\d+T\S+ may have started, and costs money.*status {WHERE}"
    assert code == exit_code and re.search(named, err)


@pytest.mark.parametrize(
    ("error", "exit_code", "hint"),
    [
        (refusal("ValidationException", "Invalid InstanceProfile: x."), 1, "up to a minute"),
        (refusal("ExpiredTokenException", "token is expired"), 2, "Sign in"),
        (refusal("UnrecognizedClientException", "token is invalid."), 2, "Sign in"),
        (refusal("AccessDeniedException", "not authorized: subnet/*"), 2, "launch policy"),
        (UnauthorizedSSOTokenError(), 2, "aws sso login"),
        (LoginRefreshRequired(), 2, "aws login"),
        (NO_NETWORK, 1, "Check the network and --region"),
    ],
    ids=lambda value: str(value)[-30:],
)
def test_what_goes_wrong_is_one_line_with_a_hint(lake, said, monkeypatch, error, exit_code, hint):
    fail(monkeypatch, "RunJobFlow", error)
    code, _, err = said("run")
    assert (code, len(err.splitlines())) == (exit_code, 1) and hint in err
    assert not emr_backends[ACCOUNT][REGION].clusters


def emr_py(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """The program in a process of its own, without anything of AWS but what is given."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        [sys.executable, str(ROOT / "cloud" / "emr.py"), *arguments],
        capture_output=True,
        text=True,
        env={**bare, "AWS_EC2_METADATA_DISABLED": "true", **environment},
        cwd=ROOT,
    )


def test_without_region_credentials_or_boto3_the_hint_is_said_and_the_code_is_2(tmp_path):
    home = str(tmp_path)
    (tmp_path / "boto3.py").write_text("raise ModuleNotFoundError('', name='boto3')")
    for done, hint in (
        (emr_py("status", HOME=home), "Give --region"),
        (emr_py("status", "--region", REGION, HOME=home), "Sign in with `aws login`"),
        (emr_py("--help", PYTHONPATH=home), "pip install -r cloud/requirements.txt"),
    ):
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert hint in done.stderr


USUAL = ["--stack", "--region", "--profile", "--serverless", "--count", "--register"]


def test_the_help_fits_a_terminal_and_begins_with_the_usual_options():
    for verb in ("", "run", "wait", "status", "logs", "terminate", "register", "check"):
        out = emr_py(*filter(None, [verb, "--help"]), COLUMNS="80").stdout
        assert out and max(map(len, out.splitlines())) <= 80
        if verb == "run":
            assert re.findall(r"^  (--[\w-]+)", out, re.MULTILINE)[:6] == USUAL


# ── Packages and bootstrap ───────────────────────────────────────────────────────────────────────


def test_the_packages_are_those_that_emrs_python_can_load():
    archive = zipfile.ZipFile(BytesIO(upload.packages("ARM64")))
    names = archive.namelist()
    (wheel,) = [name for name in names if re.match(r"obstore-[\d.]+\.dist-info/WHEEL", name)]
    # abi3: also for newer Pythons
    assert re.search(r"cp311-abi3-\w+aarch64", archive.read(wheel).decode())
    assert any(re.match(r"obstore/.*\.so", name) for name in names)
    assert any(name.startswith("boto3/") for name in names)


def test_packages_that_cannot_be_had_are_one_line(monkeypatch, tmp_path):
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\necho 'No module named pip' >&2; exit 1\n")
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(upload.Stop, match="No module named pip") as stopped:
        upload.packages("ARM64")
    assert stopped.value.code == 2


@pytest.mark.parametrize("version", ["3.12", "3.9"])
def test_the_bootstrap_gives_the_driver_a_python_and_its_packages(tmp_path, version):
    zip_file = tmp_path / "packages.zip"
    with zipfile.ZipFile(zip_file, "w") as archive:
        archive.writestr("sparkify_probe.py", "found = True")
    programs = {
        "sudo": '#!/bin/sh\nexec "$@"\n',
        "aws": f'#!/bin/sh\n[ "$4" = s3://lake/packages.zip ] && cp {zip_file} "$5"\n',
        f"python{version}": f'#!/bin/sh\nexec {sys.executable} "$@"\n',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    folder = tmp_path / "driver"
    script = ["bash", str(ROOT / "cloud" / "bootstrap.sh")]
    command = [*script, "s3://lake/packages.zip", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if version == "3.9" and not list_pythons():
        assert done.returncode == 1 and "no Python 3.11, 3.12 or 3.13" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    probe = [str(folder / "python3"), "-c", "import sparkify_probe"]
    subprocess.run(probe, check=True, env={**os.environ, "PYTHONPATH": str(folder / "packages")})


def list_pythons() -> list:
    """Pythons of this machine that the script would find."""
    from pathlib import Path

    return [
        path for name in ("3.13", "3.12", "3.11") for path in Path("/usr/bin").glob(f"python{name}")
    ]


def test_by_hand_the_same_packages_are_installed():
    """cloud/packages.sh names what requirements.txt does, but for Spark."""
    lines = (ROOT / "requirements.txt").read_text().split()
    script = (ROOT / "cloud" / "packages.sh").read_text()
    assert [line for line in lines if f"'{line}'" not in script] == ["pyspark==4.3.*"]
