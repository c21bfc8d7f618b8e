"""The policies of cloud/lake.yaml against the requests that the job and the commands send."""

import json

import pytest
from aws import pairs
from botocore import xform_name
from fake_aws import (
    ACCOUNT,
    APPLICATION,
    Call,
    allows,
    as_list,
    client,
    fill,
    grants,
    refused,
)

# what EMR itself reads and writes with the job's role, by its management guide
BY_EMR = {
    ("s3:GetObject", "arn:aws:s3:::lake/emr/code/*"),
    ("s3:PutObject", "arn:aws:s3:::lake/emr/logs/*"),
}
# for what an interrupted run left, and for EMR's own committer, by the guide of S3A
SELDOM = {
    ("s3:AbortMultipartUpload", "arn:aws:s3:::lake/out/*"),
    ("s3:ListMultipartUploadParts", "arn:aws:s3:::lake/out/*"),
    ("s3:ListBucketMultipartUploads", "arn:aws:s3:::lake"),
}
# with a key of KMS, by its developer guide for S3
BY_KMS = {
    ("kms:Decrypt", f"arn:aws:kms:us-west-2:{ACCOUNT}:key/1"),
    ("kms:GenerateDataKey", f"arn:aws:kms:us-west-2:{ACCOUNT}:key/1"),
}


def held(policy: dict) -> set[tuple[str, str]]:
    """Each action and resource of a policy."""
    return {(item["Action"], item["Resource"]) for item in grants(policy)}


def test_the_job_sends_what_its_policy_allows_and_nothing_else(deployed, recorded):
    policy = deployed.policies["job"]
    assert recorded.calls and not refused(recorded.calls, policy)
    used = set()
    for grant in grants(policy):
        if any(allows(grant, call) for call in recorded.calls):
            used.add((grant["Action"], grant["Resource"]))
    assert held(policy) == used | BY_EMR | SELDOM | BY_KMS


# ── The person who launches ──────────────────────────────────────────────────────────────────────

PREFIXES = {"emr": "elasticmapreduce"}
# operations whose IAM action has another name, or that need more than one
OTHER_ACTIONS = {
    "s3:ListObjectsV2": ["s3:ListBucket"],
    "s3:HeadBucket": ["s3:ListBucket"],
    "elasticmapreduce:RunJobFlow": [
        "elasticmapreduce:RunJobFlow",
        "elasticmapreduce:AddTags",
        "elasticmapreduce:PutAutoTerminationPolicy",
        "iam:PassRole",
        "iam:CreateServiceLinkedRole",
    ],
    "emr-serverless:StartJobRun": [
        "emr-serverless:StartJobRun",
        "emr-serverless:TagResource",
        "iam:PassRole",
    ],
}


def iam_action(service: str, method: str) -> str:
    """An operation of boto3 as IAM names it."""
    known = client(service).meta.service_model.operation_names
    (operation,) = [each for each in known if xform_name(each) == method]
    return f"{PREFIXES.get(service, service)}:{operation}"


def test_the_commands_send_what_the_launchers_policy_allows_and_nothing_else(
    deployed, account, requests, runs, said, published
):
    fill(published)
    glue = client("glue")
    glue.create_database(DatabaseInput={"Name": "sparkify"})
    for more in ([], ["--serverless"]):
        runs("failed", spark="INFO")
        said("run", *more)
    clusters = client("emr").list_clusters()["Clusters"]
    for verb in ("status", "wait", "logs", "terminate"):
        said(verb, clusters[0]["Id"])
        said(verb, job_run())
    said("status")
    said("register")
    part = {"DatabaseName": "sparkify", "TableName": "time"}
    first = glue.get_partitions(**part)["Partitions"][0]
    stray = {"Values": ["1999", "1"], "StorageDescriptor": first["StorageDescriptor"]}
    glue.create_partition(**part, PartitionInput=stray)
    users = {"Name": "users", "StorageDescriptor": first["StorageDescriptor"]}
    glue.update_table(DatabaseName="sparkify", TableInput=users)
    said("register")
    asked, calls = set(), set()
    for name, given in requests:
        service, _, method = name.partition(".")
        action = iam_action(service, method)
        actions = OTHER_ACTIONS.get(action, [action])
        asked |= set(actions)
        if service == "s3":
            thing = "/".join(filter(None, (given["Bucket"], given.get("Key"))))
            calls.add(Call(actions[0], f"arn:aws:s3:::{thing}", given.get("Prefix")))
    policy = deployed.policies["sparkify-launch"]
    assert {action for action, _ in held(policy)} == asked | {action for action, _ in BY_KMS}
    assert not refused(calls, policy)
    for grant in grants(policy):
        if grant["Action"].startswith("s3:"):
            assert any(allows(grant, call) for call in calls), grant


def job_run() -> str:
    return client("emr-serverless").list_job_runs(applicationId="00app")["jobRuns"][0]["id"]


def statements_of(policy: dict, action: str) -> list[dict]:
    return [item for item in policy["Statement"] if action in as_list(item["Action"])]


@pytest.mark.parametrize(
    "action",
    ["DescribeCluster", "ListSteps", "TerminateJobFlows", "AddTags", "PutAutoTerminationPolicy"],
)
def test_only_clusters_of_this_lake_are_read_ended_or_tagged(deployed, action):
    """Who may tag any cluster may end any cluster."""
    policy = deployed.policies["sparkify-launch"]
    (statement,) = statements_of(policy, f"elasticmapreduce:{action}")
    (conditions,) = statement["Condition"].values()
    assert conditions["aws:ResourceTag/application"] == "sparkify"
    assert statement["Resource"].endswith(":cluster/*")


def test_serverless_runs_are_those_of_this_lakes_application(deployed):
    policy = deployed.policies["sparkify-launch"]
    resources = {item["Resource"] for item in grants(policy) if "serverless" in item["Action"]}
    assert resources == {APPLICATION, f"{APPLICATION}/jobruns/*"}


def test_what_a_run_makes_carries_the_tag_that_the_policy_wants(
    lake, requests, said, run, deployed
):
    said(*run, "--detach")
    sent = dict(requests)
    for name, action in (
        ("emr.run_job_flow", "elasticmapreduce:RunJobFlow"),
        ("emr-serverless.start_job_run", "emr-serverless:TagResource"),
    ):
        if name in sent:
            given = sent[name].get("tags") or pairs(sent[name]["Tags"])
            (statement,) = statements_of(deployed.policies["sparkify-launch"], action)
            (conditions,) = statement["Condition"].values()
            assert given["application"] == conditions["aws:RequestTag/application"]
            # the stack's own tags, for the bill
            assert given["team"] == "data"


# ── The others ───────────────────────────────────────────────────────────────────────────────────

ATHENA = f"arn:aws:athena:us-west-2:{ACCOUNT}"
GLUE = f"arn:aws:glue:us-west-2:{ACCOUNT}"
IN_GLUE = [f"{GLUE}:catalog", f"{GLUE}:database/*", f"{GLUE}:table/sparkify/*"]
# by Athena's user guide: "Fine-grained access to databases and tables in the AWS Glue Data
# Catalog", "Managed policies", and what its console asks for
READ = {
    "GetWorkGroup StartQueryExecution StopQueryExecution GetQueryExecution BatchGetQueryExecution"
    " ListQueryExecutions GetQueryResults GetQueryResultsStream": [f"{ATHENA}:workgroup/sparkify"],
    "ListWorkGroups ListDataCatalogs ListEngineVersions": ["*"],
    "GetDataCatalog ListDatabases GetDatabase ListTableMetadata GetTableMetadata": [
        f"{ATHENA}:datacatalog/AwsDataCatalog"
    ],
}
READ_GLUE = (
    "GetDatabase GetDatabases GetTable GetTables GetPartition GetPartitions BatchGetPartition"
)
READ_S3 = {
    ("s3:GetBucketLocation", "arn:aws:s3:::lake"),
    ("s3:ListBucket", "arn:aws:s3:::lake"),
    ("s3:GetObject", "arn:aws:s3:::lake/out/*"),
    ("s3:GetObject", "arn:aws:s3:::lake/emr/athena/*"),
    ("s3:PutObject", "arn:aws:s3:::lake/emr/athena/*"),
    ("s3:AbortMultipartUpload", "arn:aws:s3:::lake/emr/athena/*"),
    ("s3:ListMultipartUploadParts", "arn:aws:s3:::lake/emr/athena/*"),
}


def test_the_people_who_query_may_do_what_athenas_guide_asks_for(deployed):
    wanted = READ_S3 | BY_KMS
    for names, resources in READ.items():
        wanted |= {(f"athena:{name}", each) for name in names.split() for each in resources}
    wanted |= {(f"glue:{name}", each) for name in READ_GLUE.split() for each in IN_GLUE}
    assert held(deployed.policies["sparkify-read"]) == wanted


JOB_ROLE = f"arn:aws:iam::{ACCOUNT}:role/sparkify-job"


def test_emr_and_the_scheduler_may_pass_the_jobs_role_and_start_a_run(deployed):
    assert held(deployed.policies["give-the-job-role-to-the-nodes"]) == {("iam:PassRole", JOB_ROLE)}
    assert held(deployed.policies["start-a-run"]) == {
        ("emr-serverless:StartJobRun", APPLICATION),
        ("emr-serverless:TagResource", f"{APPLICATION}/jobruns/*"),
        ("iam:PassRole", JOB_ROLE),
    }


def test_policies_fit_into_iams_limits_and_hold_no_wildcard_action(deployed):
    for name, policy in deployed.policies.items():
        text = json.dumps(policy, separators=(",", ":"))
        # a managed policy's limit; those in a role may have 10,240 characters
        assert len(text) < 5000, name
        assert not any("*" in grant["Action"] for grant in grants(policy))


def test_the_daily_run_is_the_run_of_the_command(lake, requests, said, deployed):
    said("run", "--serverless", "--detach")
    sent = dict(requests)["emr-serverless.start_job_run"]
    daily = deployed.daily
    assert daily["Tags"] == {"application": "sparkify"}
    assert daily["ExecutionTimeoutMinutes"] == sent["executionTimeoutMinutes"]
    assert daily["ExecutionRoleArn"] == sent["executionRoleArn"]
    theirs, ours = daily["JobDriver"]["SparkSubmit"], sent["jobDriver"]["sparkSubmit"]
    given = [word.rstrip("/") for word in theirs["EntryPointArguments"]]
    assert given == ours["entryPointArguments"]
    code = "s3://lake/emr/code/0123456789abcdef"
    assert theirs["EntryPoint"] == f"{code}/etl.py"
    assert theirs["SparkSubmitParameters"] == f"--conf spark.archives={code}/packages.zip#packages"
    assert ours["entryPoint"].rpartition("/")[2] == "etl.py"
