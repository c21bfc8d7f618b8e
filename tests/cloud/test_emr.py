"""cloud/emr.py on both kinds, against moto's AWS: what it asks for, shows, and ends with."""

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from io import BytesIO

import botocore.endpoint
import emr
import pytest
import stack
import upload
import watch
from aws import pairs
from botocore.exceptions import EndpointConnectionError, LoginRefreshRequired, ReadTimeoutError

from tests.helpers import ROOT
from .fake_aws import ACCOUNT, INPUT, LOGS, OUTPUT, REGION, changing, client, put, put_logs, refusal

WHERE = "--stack sparkify --region us-west-2"
TAGS = {"application": "sparkify", "team": "data"}


def check_uploads(requests: list, architecture: bytes) -> None:
    """The code goes to the stack's bucket, if this account owns it."""
    uploads = [given for name, given in requests if name == "s3.put_object"]
    files = {given["Key"].rpartition("/")[2]: given["Body"] for given in uploads}
    assert files.keys() == {"etl.py", "packages.zip", "bootstrap.sh"}
    assert files["etl.py"] == (ROOT / "etl.py").read_bytes()
    assert files["packages.zip"] == architecture
    assert {given["ExpectedBucketOwner"] for given in uploads} == {ACCOUNT}
    assert ("s3.head_bucket", {"Bucket": "lake", "ExpectedBucketOwner": ACCOUNT}) in requests


def test_the_cluster_is_that_of_the_stack_and_ends_with_its_step(lake, requests, said):
    options = ["--count", "4", "--instance-types", "m5.xlarge,m6i.xlarge", "--max-hours", "1.5"]
    conf = ["--conf", "spark.executor.memory=20g"]
    words = ["--songs-partition-by", "a shell; $HOME 'splits'"]
    assert said("run", "--detach", *options, *conf, "--", *words)[0] == 0
    request = dict(requests)["emr.run_job_flow"]
    instances, (step,) = request["Instances"], request["Steps"]
    assert instances["KeepJobFlowAliveWhenNoSteps"] is False
    assert request["AutoTerminationPolicy"] == {"IdleTimeout": 3600}
    assert step["ActionOnFailure"] == "TERMINATE_CLUSTER"
    assert instances["Ec2SubnetIds"] == ["subnet-1", "subnet-2"]
    assert [fleet["TargetOnDemandCapacity"] for fleet in instances["InstanceFleets"]] == [1, 4]
    assert request["ReleaseLabel"] == "emr-spark-8.1.0"
    assert (request["JobFlowRole"], request["ServiceRole"]) == ("sparkify-job", "sparkify-service")
    # EMR hands the words to a shell
    command = " ".join(shlex.split(" ".join(step["HadoopJarStep"]["Args"])))
    assert command.startswith("env PYTHONPATH=/opt/sparkify/packages AWS_DEFAULT_REGION=us-west-2 ")
    assert " timeout --kill-after=60 5400 spark-submit --deploy-mode client " in command
    assert " --conf spark.pyspark.driver.python=/opt/sparkify/python3 " in command
    assert " --conf spark.yarn.maxAppAttempts=1 " in command
    assert " --conf spark.executor.memory=20g " in command
    assert command.endswith(f"/etl.py --input {INPUT} --output {OUTPUT} {' '.join(words)}")
    # the stack's own tag, for the bill, and that of AmazonEMRServicePolicy_v2
    assert pairs(request["Tags"]) == {**TAGS, "for-use-with-amazon-emr-managed-policies": "true"}
    check_uploads(requests, b"X86_64")
    (bootstrap,) = request["BootstrapActions"]
    packages, folder = bootstrap["ScriptBootstrapAction"]["Args"]
    assert packages.endswith("packages.zip") and folder == "/opt/sparkify"


@pytest.mark.parametrize("count", ["1", "2", "3", "10"])
def test_a_serverless_run_starts_no_more_executors_than_it_may_have(lake, requests, said, count):
    options = ["--count", count, "--conf", "spark.x=a b", "--max-hours", "2"]
    assert said("run", "--serverless", "--detach", *options, "--", "--force")[0] == 0
    request = dict(requests)["emr-serverless.start_job_run"]
    submit = request["jobDriver"]["sparkSubmit"]
    words = shlex.split(submit["sparkSubmitParameters"])
    settings = dict(word.split("=", 1) for word in words if word != "--conf")
    assert settings["spark.dynamicAllocation.maxExecutors"] == count
    for name in ("spark.executor.instances", "spark.dynamicAllocation.initialExecutors"):
        assert settings[name] == str(min(3, int(count)))
    assert settings["spark.archives"].endswith("/packages.zip#packages")
    assert settings["spark.x"] == "a b"
    assert submit["entryPointArguments"] == ["--input", INPUT, "--output", OUTPUT, "--force"]
    assert (request["executionTimeoutMinutes"], request["applicationId"]) == (120, "00app")
    assert request["tags"] == TAGS
    check_uploads(requests, b"ARM64")


def test_a_run_shows_its_states_and_the_jobs_own_summary(published, runs, said, run):
    runs("pending", "running", "running", "done")
    code, out, err = said(*run)
    assert code == 0, err
    states = re.findall(r"UTC  (.*)", out)
    assert len(states) == len(set(states)) == 4
    assert "41 log lines" in out and re.search(r"1 +malformed", out)
    assert re.search(r"songs +2 +2 +\d\n", out) and "40 of 40 plays match a song." in out
    assert "The tables are in s3a://lake/out (commit 1)." in out


def test_a_run_that_publishes_nothing_says_so(lake, runs, said, run):
    put("out/_etl/runs/20000101T000000Z-0.json", json.dumps({"exit": 0, "commit": 7}))
    runs("done")
    code, out, _ = said(*run)
    assert code == 0 and "published nothing new" in out and "python cloud/emr.py logs" in out


def test_a_refused_run_exits_as_the_job_did_and_says_what_it_said(lake, runs, said, run):
    # another run over the same OUTPUT, which ended well, and this one
    for year, report in (
        (2998, {"exit": 0, "commit": 9}),
        (2999, {"exit": 3, "error": "9 of 10 lines are malformed", "commit": None}),
    ):
        put(f"out/_etl/runs/{year}1231T235959Z-00000000.json", json.dumps(report))
    runs("failed", spark="INFO Client: noise", job="etl.py: warning: no\n")
    code, out, err = said(*run)
    assert (code, len(err.splitlines())) == (3, 1) and "9 of 10 lines" in err and "noise" in out


def test_a_run_that_left_no_summary_exits_as_its_log_says(lake, runs, said):
    job = "etl.py: there is no such bucket\netl.py: warning: no\n"
    runs("failed", spark="Command exiting with ret '2'", job=job)
    code, _, err = said("run")
    assert code == 2 and err.endswith("there is no such bucket\n")
    runs("failed", spark="Command exiting with ret '124'")
    code, _, err = said("run")
    assert code == 124 and "longer than --max-hours" in err


def test_a_failed_bootstrap_shows_what_the_node_wrote(lake, runs, said, monkeypatch, started):
    reason = "On 2 slave instances (including i-b and i-c), bootstrap action 1 returned a non-zero"
    runs("cancelled", reason=reason)
    move = watch.sleep

    def put_node_logs(seconds):
        move(seconds)
        folder = f"{LOGS}/{started()[0]}/node"
        put_logs(f"{folder}/i-a/bootstrap-actions/1", "", "quiet")
        put_logs(f"{folder}/i-b/bootstrap-actions/1", "Could not connect to the endpoint", "")

    monkeypatch.setattr(watch, "sleep", put_node_logs)
    code, out, err = said("run")
    assert code == 1 and "Could not connect to the endpoint" in out
    assert reason in err and "gateway endpoint" in err
    assert "Could not connect" in said("logs", *started())[1]


def test_without_a_log_the_services_reason_is_said(lake, runs, said, run, started):
    runs("failed", reason="Insufficient capacity for instance type m7g.xlarge.")
    code, _, err = said(*run)
    later = f"not on S3 yet. Try later: python cloud/emr.py logs {started()[0]} {WHERE}"
    assert code == 1 and "Insufficient capacity" in err and later in err
    assert "Name several with --instance-types A,B" in err


@pytest.mark.parametrize("signal", [2, 15], ids=["ctrl-c", "cancelled-by-ci"])
def test_an_interrupted_command_says_what_runs(lake, runs, said, run, monkeypatch, started, signal):
    monkeypatch.setattr(watch, "sleep", lambda seconds: os.kill(os.getpid(), signal))
    code, _, err = said(*run)
    assert (code, len(err.splitlines())) == (130, 1)
    for verb in ("wait", "terminate"):
        assert f"python cloud/emr.py {verb} {started()[0]} {WHERE}" in err


def test_an_error_while_watching_says_what_still_runs(lake, said, run, fail, started):
    for operation in ("DescribeCluster", "GetJobRun"):
        fail(operation, refusal("ExpiredTokenException", "expired"))
    code, _, err = said(*run)
    assert code == 2 and f"{started()[0]} may still be running, and costs money" in err


def test_a_detached_run_is_watched_registered_and_ended_later(published, runs, said, run, started):
    code, out, _ = said(*run, "--detach")
    (id,) = started()
    assert code == 0 and f"python cloud/emr.py wait {id} {WHERE}" in out
    runs("done")
    code, out, err = said("wait", id, "--register")
    assert code == 0, err
    assert "41 log lines" in out and "users: new table" in out
    assert said("terminate", id)[0] == 0


def cluster(name: str, tag: str) -> str:
    """A cluster with a step that another program might start."""
    step = {"Jar": "command-runner.jar", "Args": ["bash", "-c", "echo it's"]}
    made = client("emr").run_job_flow(
        Name=name,
        Instances={"MasterInstanceType": "m5.xlarge", "KeepJobFlowAliveWhenNoSteps": True},
        ReleaseLabel="emr-7.14.0",
        Steps=[{"Name": "other", "HadoopJarStep": step}],
        Tags=[{"Key": "application", "Value": tag}],
    )
    return made["JobFlowId"]


def test_status_lists_what_runs_of_this_stack(lake, runs, said):
    cluster("sparkify-b-20260101T000000Z-1", "sparkify-b")
    assert said("status")[1] == f"Nothing of stack sparkify is running in {REGION}.\n"
    said("run", "--detach")
    said("run", "--serverless", "--detach")
    lines = said("status")[1].splitlines()
    assert len(lines) == 2
    assert all(re.search(r" since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$", line) for line in lines)


def test_a_cluster_of_another_stack_is_refused(lake, said):
    code, _, err = said("wait", cluster("other", "other"))
    assert (code, len(err.splitlines())) == (2, 1) and "no run of stack sparkify" in err
    # a step with an odd quote is no traceback
    assert said("status", cluster("sparkify-20260101T000000Z-1", "sparkify"))[0] == 0


@pytest.mark.parametrize(
    ("options", "changes", "words"),
    [
        ("", {"Input": "s3://sauce/in/"}, "Bucket sauce does not exist"),
        ("", {"Input": "s3://source/inn/"}, "s3://source/inn has no song_data/"),
        ("", {"Output": "s3://lakee/out"}, "Bucket lakee does not exist"),
        ("", {"Output": "s3://far/out"}, "Bucket far is in eu-west-1, the stack in us-west-2"),
        ("", {"Output": f"{INPUT}/log_data/x"}, "inside the input"),
        ("", {"Subnets": ""}, "has no subnets for a cluster"),
        ("--serverless", {"Input": "s3://far/in"}, "out of reach for EMR Serverless in us-west-2"),
        ("--region us-east-1", {}, "There is no stack sparkify in us-east-1."),
        ("--stack sparkifi", {}, "There is no stack sparkifi in us-west-2."),
        ("--instance-types m5.xlarge,m7g.xlarge", {}, "mixes Graviton and x86"),
    ],
)
def test_what_must_fail_starts_nothing(lake, requests, said, monkeypatch, options, changes, words):
    describe = stack.Lake.describe

    def changed(self):
        """The stack with other outputs."""
        found = describe(self)
        for item in found["Outputs"]:
            item["OutputValue"] = changes.get(item["OutputKey"], item["OutputValue"])
        found["Outputs"] = [item for item in found["Outputs"] if item["OutputValue"]]
        return found

    monkeypatch.setattr(stack.Lake, "describe", changed)
    place = {"LocationConstraint": "eu-west-1"}
    client("s3", "eu-west-1").create_bucket(Bucket="far", CreateBucketConfiguration=place)
    code, _, err = said("run", *options.split())
    assert (code, len(err.splitlines())) == (2, 1) and words in err
    assert not changing(requests)


def test_code_is_not_given_to_a_bucket_of_somebody_else(lake, requests, said, fail, run):
    fail("HeadBucket", refusal("403", "Forbidden", 403))
    code, _, err = said(*run)
    assert code == 2 and "belongs to somebody else" in err and not changing(requests)


URL = "https://elasticmapreduce.us-west-2.amazonaws.com"
LOST, NO_NETWORK = ReadTimeoutError(endpoint_url=URL), EndpointConnectionError(endpoint_url=URL)
BROKEN, CTRL_C = refusal("InternalServerError", "later", 500), KeyboardInterrupt()
STARTS, LISTS = ("RunJobFlow", "StartJobRun"), ("ListClusters", "ListJobRuns")


@pytest.mark.parametrize("error", [LOST, BROKEN, CTRL_C], ids=repr)
def test_a_run_whose_answer_was_lost_is_found(lake, runs, said, run, fail, started, error):
    for operation in STARTS:
        fail(operation, error, after=True)
    code, out, err = said(*run, "--detach")
    (id,) = started()
    if error is CTRL_C:
        assert code == 130 and f"python cloud/emr.py terminate {id} {WHERE}" in err
    else:
        assert code == 0 and f"Started {id}" in out


def test_a_cluster_is_asked_for_once_even_if_no_answer_comes(lake, said, monkeypatch, started):
    send = botocore.endpoint.Endpoint._do_get_response

    def lose(self, request, operation, context):
        found = send(self, request, operation, context)
        return (None, LOST) if operation.name == "RunJobFlow" else found

    monkeypatch.setattr(botocore.endpoint.Endpoint, "_do_get_response", lose)
    said("run", "--detach")
    assert len(started()) == 1


@pytest.mark.parametrize(
    ("error", "then", "exit_code"),
    [(LOST, None, 1), (LOST, NO_NETWORK, 1), (CTRL_C, CTRL_C, 130)],
)
def test_a_run_that_may_yet_start_is_named(lake, said, run, fail, error, then, exit_code):
    for operation in STARTS:
        fail(operation, error)
    for operation in LISTS if then else ():
        fail(operation, then)
    code, _, err = said(*run)
    named = rf"Run sparkify-\d+T\S+ may have started, and costs money.*status {WHERE}"
    assert code == exit_code and re.search(named, err)


@pytest.mark.parametrize(
    ("error", "exit_code", "hint"),
    [
        (refusal("ExpiredTokenException", "token is expired"), 2, "Sign in"),
        (refusal("AccessDeniedException", "not authorized: subnet/*"), 2, "launch policy"),
        (LoginRefreshRequired(), 2, "aws login"),
        (NO_NETWORK, 1, "Check the network and --region"),
    ],
)
def test_what_goes_wrong_is_one_line_with_a_hint(lake, said, fail, started, error, exit_code, hint):
    fail("RunJobFlow", error)
    code, _, err = said("run")
    assert (code, len(err.splitlines())) == (exit_code, 1) and hint in err
    assert not started()


def test_without_region_credentials_or_boto3_the_code_is_2_with_a_hint(tmp_path):
    (tmp_path / "boto3.py").write_text("raise ModuleNotFoundError('', name='boto3')")
    bare = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    bare |= {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    for arguments, more, hint in (
        (["status"], {}, "Give --region"),
        (["status", "--region", REGION], {}, "Sign in with `aws login`"),
        (["--help"], {"PYTHONPATH": str(tmp_path)}, "pip install -r cloud/requirements.txt"),
    ):
        command = [sys.executable, ROOT / "cloud" / "emr.py", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env={**bare, **more})
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert hint in done.stderr


def test_the_help_fits_a_terminal_and_begins_with_the_usual_options(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for verb in ("", "run", "wait", "status", "logs", "terminate", "register", "check"):
        with pytest.raises(SystemExit):
            emr.main(list(filter(None, [verb, "--help"])))
        out = capsys.readouterr().out
        assert out and max(map(len, out.splitlines())) <= 80
        if verb == "run":
            usual = "--stack --region --profile --serverless --count --register"
            assert re.findall(r"^  (--[\w-]+)", out, re.MULTILINE)[:6] == usual.split()


def test_the_packages_are_those_that_emrs_python_can_load():
    archive = zipfile.ZipFile(BytesIO(upload.packages("ARM64")))
    names = archive.namelist()
    (wheel,) = [name for name in names if re.match(r"obstore-[\d.]+\.dist-info/WHEEL", name)]
    # abi3: also for newer Pythons
    assert re.search(r"cp311-abi3-\w+aarch64", archive.read(wheel).decode())
    assert any(name.startswith("boto3/") for name in names)


def test_the_bootstrap_gives_the_driver_a_python_and_its_packages(tmp_path):
    packages = tmp_path / "packages.zip"
    with zipfile.ZipFile(packages, "w") as archive:
        archive.writestr("sparkify_probe.py", "found = True")
    for name, text in {
        "sudo": 'exec "$@"',
        "aws": f'[ "$4" = s3://lake/packages.zip ] && cp {packages} "$5"',
        # there is no 3.13
        "python3.12": f'exec {sys.executable} "$@"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:/bin"}
    folder = tmp_path / "driver"
    for zip_file, expected in (("packages.zip", 0), ("other.zip", 1)):
        script = ["bash", ROOT / "cloud" / "bootstrap.sh", f"s3://lake/{zip_file}", folder]
        assert subprocess.run(script, env=environment).returncode == expected
    probe = [folder / "python3", "-c", "import sparkify_probe"]
    subprocess.run(probe, check=True, env={**os.environ, "PYTHONPATH": str(folder / "packages")})


def test_by_hand_the_same_packages_are_installed():
    wanted = (ROOT / "requirements.txt").read_text().replace("[crt]", "")
    script = (ROOT / "cloud" / "packages.sh").read_text()
    assert set(re.findall(r"'(.+?)'", script)) == set(re.findall("^(?:boto3|obs).+", wanted, re.M))
