"""cloud/iam.py: the policies against the requests that the job and the commands really make."""

import json
import re

import catalog
import iam
import pytest
from botocore import xform_name
from fake_aws import ACCOUNT, INPUT, OUTPUT, Call, Recorder, allows, client, fill, fill_input
from helpers import KEY, ROOT, SECRET, play, run_process, song, write_input
from test_account import NAMES

# fetched and written on the nodes, by EMR itself
BY_EMR = ("arn:aws:s3:::lake/emr/code/*", "arn:aws:s3:::lake/emr/logs/*")
# for what a run leaves that was cut off, and for EMR's own committer
SELDOM = {
    "s3:AbortMultipartUpload",
    "s3:ListBucketMultipartUploads",
    "s3:ListMultipartUploadParts",
}


def refused(calls, policy: dict) -> list:
    statements = policy["Statement"]
    return [call for call in calls if not any(allows(item, call) for item in statements)]


def test_the_job_asks_for_nothing_outside_its_policy(recorded):
    assert recorded.calls and not refused(recorded.calls, iam.job_policy(NAMES))


def test_the_jobs_policy_holds_nothing_that_it_does_not_ask_for(recorded):
    for statement in iam.job_policy(NAMES)["Statement"]:
        for action in statement["Action"]:
            for resource in statement["Resource"]:
                if resource in BY_EMR or action in SELDOM:
                    continue
                alone = {**statement, "Action": [action], "Resource": [resource]}
                used = any(allows(alone, call) for call in recorded.calls)
                assert used, f"{action} on {resource} is not used"


# ── The person who launches ──────────────────────────────────────────────────────────────────────

# modules whose requests the launcher sends; account.py's are sent by who may make roles
OF_LAUNCHER = ("catalog", "cluster", "cost", "preflight", "runs", "serverless", "upload", "watch")
PREFIXES = {"emr": "elasticmapreduce"}
# operations whose IAM action is named otherwise, or that need more than one
OTHER_ACTIONS = {
    "s3:ListObjectsV2": ["s3:ListBucket"],
    "s3:HeadBucket": ["s3:ListBucket"],
    "elasticmapreduce:RunJobFlow": [
        "elasticmapreduce:RunJobFlow",
        "elasticmapreduce:AddTags",
        "elasticmapreduce:PutAutoTerminationPolicy",
        "iam:PassRole",
    ],
    "emr-serverless:CreateApplication": [
        "emr-serverless:CreateApplication",
        "emr-serverless:TagResource",
    ],
    "emr-serverless:StartJobRun": [
        "emr-serverless:StartJobRun",
        "emr-serverless:TagResource",
        "iam:PassRole",
    ],
}


def operations_of_the_launcher() -> set[tuple[str, str]]:
    """(service, operation) of every request in the launcher's modules."""
    found = {("glue", operation) for operation in catalog.BATCH}
    found |= {("glue", "create_table"), ("glue", "update_table")}
    for module in OF_LAUNCHER:
        text = (ROOT / "cloud" / f"{module}.py").read_text()
        found |= set(re.findall(r"aws\.\w+\(\s*\"([\w-]+)\", \"(\w+)\"", text))
    return found


def test_the_launchers_policy_holds_just_the_actions_of_the_commands(account):
    asked = set()
    for service, method in operations_of_the_launcher():
        names = client(service).meta.service_model.operation_names
        (operation,) = [name for name in names if xform_name(name) == method]
        action = f"{PREFIXES.get(service, service)}:{operation}"
        asked |= set(OTHER_ACTIONS.get(action, [action]))
    held = {
        action
        for statement in iam.launch_policy(NAMES)["Statement"]
        for action in statement["Action"]
    }
    assert held == asked


def s3_calls(requests: list):
    """What IAM is asked for the S3 requests that were sent."""
    for name, given in requests:
        service, _, method = name.partition(".")
        if service != "s3":
            continue
        action = {
            "list_objects_v2": "s3:ListBucket",
            "head_bucket": "s3:ListBucket",
            "get_object": "s3:GetObject",
            "put_object": "s3:PutObject",
        }[method]
        thing = "/".join(filter(None, (given["Bucket"], given.get("Key"))))
        yield Call(action, f"arn:aws:s3:::{thing}", given.get("Prefix"))


def test_the_launchers_s3_requests_are_inside_the_policy_and_use_all_of_it(
    account, requests, clusters, said, recorded
):
    fill_input()
    fill(recorded.objects)
    clusters.spark = "application_1_0002\nCommand exiting with ret '1'"
    clusters(("TERMINATING", "FAILED"))
    places = ["--input", INPUT, "--output", OUTPUT, "--subnet", "subnet-1"]
    requests.clear()
    said("run", *places, "--deploy-mode", "cluster")
    said("register", "--output", OUTPUT, program=catalog)
    sent = [item for item in requests if "steps" not in str(item[1].get("Key", ""))
            or item[0] == "s3.get_object"]  # fmt: skip
    calls = set(s3_calls(sent))
    calls.add(Call("s3:ListBucket", "arn:aws:s3:::lake", "emr/code/"))
    policy = iam.launch_policy(NAMES)
    test_logs = {call for call in calls if call.action == "s3:PutObject" and "/logs/" in call[1]}
    assert not refused(calls - test_logs, policy)
    for statement in policy["Statement"]:
        if not statement["Action"][0].startswith("s3:"):
            continue
        for resource in statement["Resource"]:
            alone = {**statement, "Resource": [resource]}
            used = any(allows(alone, call) for call in calls)
            assert used, f"{statement['Action']} on {resource} is not used"


def statement_of(policy: dict, action: str) -> dict:
    (found,) = [item for item in policy["Statement"] if action in item["Action"]]
    return found


@pytest.mark.parametrize("action", ["elasticmapreduce:AddTags", "emr-serverless:TagResource"])
def test_a_tag_does_not_take_over_what_carries_anothers(action):
    """Who may tag any cluster may end any cluster."""
    statement = statement_of(iam.launch_policy(NAMES), action)
    assert statement["Resource"] != ["*"]
    mine = {"aws:ResourceTag/application": "sparkify-etl"}
    assert statement["Condition"]["StringEqualsIfExists"] == mine


def test_the_launcher_changes_this_lakes_tables_alone():
    for policy in (iam.launch_policy(NAMES), iam.read_policy(NAMES)):
        resources = {
            resource
            for statement in policy["Statement"]
            for resource in statement["Resource"]
            if ":glue:" in resource
        }
        assert {resource.rpartition(f":{ACCOUNT}:")[2] for resource in resources} == {
            "catalog",
            "database/sparkify",
            "table/sparkify/*",
        }


def test_what_is_ended_or_described_must_carry_this_lakes_tag():
    for action in (
        "elasticmapreduce:TerminateJobFlows",
        "elasticmapreduce:AddJobFlowSteps",
        "emr-serverless:CancelJobRun",
    ):
        condition = statement_of(iam.launch_policy(NAMES), action)["Condition"]
        assert condition == {"StringEquals": {"aws:ResourceTag/application": "sparkify-etl"}}


def test_what_runs_make_carries_the_tag_that_the_policy_asks_for(lake, dry):
    places = ["--input", INPUT, "--output", OUTPUT]
    cluster = dict(dry("run", *places, "--subnet", "subnet-1", "--tag", "team=data"))
    serverless = dict(dry("run", *places, "--serverless", "--tag", "team=data"))
    pairs = cluster["emr.run_job_flow"]["Tags"]
    given = [
        {pair["Key"]: pair["Value"] for pair in pairs},
        serverless["emr-serverless.create_application"]["tags"],
        serverless["emr-serverless.start_job_run"]["tags"],
    ]
    actions = [
        "elasticmapreduce:RunJobFlow",
        "emr-serverless:CreateApplication",
        "emr-serverless:TagResource",
    ]
    for action, tags in zip(actions, given):
        asked = statement_of(iam.launch_policy(NAMES), action)["Condition"]["StringEquals"]
        for key, value in asked.items():
            assert tags[key.removeprefix("aws:RequestTag/")] == value


# ── All of them ──────────────────────────────────────────────────────────────────────────────────

MAKERS = (iam.job_policy, iam.service_policy, iam.launch_policy, iam.read_policy)


def test_policies_are_documents_that_iam_takes_and_hold_no_star_for_s3(account):
    for make in MAKERS:
        text = json.dumps(make(NAMES))
        # refuses malformed and long documents
        client("iam").create_policy(PolicyName=make.__name__, PolicyDocument=text)
        for statement in make(NAMES)["Statement"]:
            assert not any("*" in action for action in statement["Action"])
            of_objects = statement["Action"][0].startswith(("s3:", "iam:"))
            assert not (of_objects and "*" in statement["Resource"])


def test_the_launchers_policy_is_short_enough_with_long_names_and_a_key(account):
    long = "s3://" + "b" * 63
    key = f"arn:aws:kms:us-west-2:{ACCOUNT}:key/" + "1" * 36
    places = [f"{long}/{part}" for part in ("in", "out", "emr", "log")]
    names = iam.Names(ACCOUNT, "n" * 40, *places, "d" * 40, (key,))
    for make in (iam.launch_policy, iam.read_policy):
        text = json.dumps(make(names))
        client("iam").create_policy(PolicyName=make.__name__, PolicyDocument=text)


def test_names_fill_the_policies_of_a_bucket_root():
    names = NAMES._replace(input="s3://source", output="s3://lake", log="s3://logs/x")
    text = json.dumps(iam.job_policy(names))
    assert "arn:aws:s3:::lake/*" in text and "arn:aws:s3:::source/song_data/*" in text


# ── As on EMR ────────────────────────────────────────────────────────────────────────────────────

AS_ON_EMR = """
import os, sys, etl
etl.ON_EMR = True
packages = etl.s3a_packages(etl.hadoop_version())
confs = " ".join(f"--conf {name}={value}" for name, value in packages.items())
os.environ["PYSPARK_SUBMIT_ARGS"] = f"{confs} {os.environ['CONFS']} pyspark-shell"
sys.exit(etl.main(sys.argv[1:]))
"""
S3A = {
    "spark.master": "local-cluster[1,2,1024]",
    "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
    "spark.hadoop.fs.s3a.path.style.access": "true",
    "spark.hadoop.fs.s3a.endpoint.region": "us-east-1",
}
# the committer that EMR's own is made from; Maven has its binding for Spark 4.1.2 only
BINDING = "org/apache/spark/spark-hadoop-cloud_2.13/4.1.2/spark-hadoop-cloud_2.13-4.1.2.jar"
CLOUD = "org.apache.spark.internal.io.cloud"
MAGIC = {
    "spark.jars": f"https://repo1.maven.org/maven2/{BINDING}",
    "spark.hadoop.fs.s3a.committer.name": "magic",
    "spark.hadoop.mapreduce.outputcommitter.factory.scheme.s3": (
        "org.apache.hadoop.fs.s3a.commit.S3ACommitterFactory"
    ),
    "spark.sql.sources.commitProtocolClass": f"{CLOUD}.PathOutputCommitProtocol",
    "spark.sql.parquet.output.committer.class": f"{CLOUD}.BindingParquetOutputCommitter",
}


@pytest.mark.long
@pytest.mark.parametrize("committer", [{}, MAGIC], ids=["default", "magic"])
def test_the_job_asks_for_nothing_more_with_the_settings_of_emr(committer, s3, tmp_path, request):
    """Without etl.py's own S3A options, over s3://, and with the committer of EMR's kind."""
    number = request.node.callspec.indices["committer"]
    source, lake = f"source-emr-{number}", f"lake-emr-{number}"
    uploader = s3.bucket(source)
    s3.bucket(lake)
    write_input(tmp_path, [song()], [[play(itemInSession=each) for each in range(20)]])
    for path in tmp_path.rglob("*.json"):
        uploader.upload_file(str(path), source, f"in/{path.relative_to(tmp_path)}")
    recorder = Recorder(s3.endpoint)
    places = (f"s3://{source}/in", f"s3://{lake}/out")
    config = s3.config(tmp_path, *places, key="", secret="", endpoint=recorder.endpoint)
    confs = {**S3A, "spark.hadoop.fs.s3a.endpoint": recorder.endpoint, **committer}
    identity = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "CONFS": " ".join(f"--conf {name}={value}" for name, value in confs.items()),
    }
    done = run_process("--config", config, cwd=tmp_path, timeout=500, env=identity, code=AS_ON_EMR)
    assert done.returncode == 0, done.stderr[-3000:]
    names = NAMES._replace(input=places[0], output=places[1], work=f"s3://{lake}/emr")
    assert len(recorder.calls) > 100 and not refused(recorder.calls, iam.job_policy(names))
    listed = {call.action for call in recorder.calls}
    assert ("s3:ListBucketMultipartUploads" in listed) == bool(committer)
