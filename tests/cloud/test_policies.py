"""The policies of cloud/lake.yaml against the requests that the job and the commands send."""

import pytest
from botocore import xform_name

from .fake_aws import ACCOUNT, APPLICATION, Call, allows, as_list, client, grants


def parsed(text: str) -> set[tuple[str, str]]:
    """Lines of `action action -> resource` as pairs."""
    pairs = [line.strip().split(" -> ") for line in text.strip().splitlines()]
    return {(action, resource) for actions, resource in pairs for action in actions.split()}


# what EMR itself reads and writes with the job's role, by its management guide
BY_EMR = parsed("""
    s3:GetObject -> arn:aws:s3:::lake/emr/code/*
    s3:PutObject -> arn:aws:s3:::lake/emr/logs/*
""")
# for what an interrupted run left, and for EMR's own committer, by the guide of S3A
SELDOM = parsed("""
    s3:AbortMultipartUpload s3:ListMultipartUploadParts -> arn:aws:s3:::lake/out/*
    s3:ListBucketMultipartUploads -> arn:aws:s3:::lake
""")
# with a key of KMS, by its developer guide for S3
BY_KMS = parsed(f"kms:Decrypt kms:GenerateDataKey -> arn:aws:kms:us-west-2:{ACCOUNT}:key/1")


def held(policy: dict) -> set[tuple[str, str]]:
    """Each action and resource of a policy."""
    return {(item["Action"], item["Resource"]) for item in grants(policy)}


def assert_equal(policy: dict, calls: set[Call], besides: set = frozenset()) -> None:
    """Every call is allowed, and every permission for S3 is used, or is one of `besides`."""
    statements = policy["Statement"]
    refused = [call for call in calls if not any(allows(item, call) for item in statements)]
    assert calls and not refused
    for grant in grants(policy):
        if grant["Action"].startswith("s3:"):
            is_used = any(allows(grant, call) for call in calls)
            is_known = (grant["Action"], grant["Resource"]) in besides
            assert is_used != is_known, grant


def test_the_jobs_policy_allows_what_the_job_sends_and_nothing_else(deployed, recorded):
    policy = deployed.policies["job"]
    assert_equal(policy, recorded.calls, BY_EMR | SELDOM)
    assert {grant for grant in held(policy) if grant[0].startswith("kms")} == BY_KMS
    assert held(policy) >= BY_EMR | SELDOM


# operations whose IAM action has another name, or that need more than one
OTHER_ACTIONS = {
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:HeadBucket": "s3:ListBucket",
    "elasticmapreduce:RunJobFlow": "elasticmapreduce:RunJobFlow elasticmapreduce:AddTags "
    "elasticmapreduce:PutAutoTerminationPolicy iam:PassRole iam:CreateServiceLinkedRole",
    "emr-serverless:StartJobRun": "emr-serverless:StartJobRun emr-serverless:TagResource "
    "iam:PassRole",
}


def iam_actions(name: str) -> list[str]:
    """What IAM calls a request of boto3."""
    service, _, method = name.partition(".")
    known = client(service).meta.service_model.operation_names
    (operation,) = [each for each in known if xform_name(each) == method]
    prefix = "elasticmapreduce" if service == "emr" else service
    action = f"{prefix}:{operation}"
    return OTHER_ACTIONS.get(action, action).split()


def test_the_launcher_may_do_what_commands_do(deployed, requests, runs, said, published, started):
    runs("failed", spark="INFO")
    said("run")
    said("run", "--serverless")
    for id in started():
        said("logs", id)
        said("terminate", id)
    said("status")
    said("register")
    # the next ones update a table, and replace its partitions
    part = {"DatabaseName": "sparkify", "TableName": "time"}
    glue = client("glue")
    descriptor = glue.get_partitions(**part)["Partitions"][0]["StorageDescriptor"]
    stray = {"Values": ["1999", "1"], "StorageDescriptor": descriptor}
    glue.create_partition(**part, PartitionInput=stray)
    users = {"Name": "users", "StorageDescriptor": descriptor}
    glue.update_table(DatabaseName="sparkify", TableInput=users)
    said("register")
    actions, calls = set(), set()
    for name, given in requests:
        actions |= set(iam_actions(name))
        if name.startswith("s3."):
            thing = "/".join(filter(None, (given["Bucket"], given.get("Key"))))
            calls.add(Call(iam_actions(name)[0], f"arn:aws:s3:::{thing}", given.get("Prefix")))
    policy = deployed.policies["sparkify-launch"]
    assert {action for action, _ in held(policy)} == actions | {action for action, _ in BY_KMS}
    assert held(policy) > LAUNCH
    assert_equal(policy, calls)


@pytest.mark.parametrize(
    ("action", "key"),
    [
        ("elasticmapreduce:RunJobFlow", "aws:RequestTag/application"),
        ("elasticmapreduce:AddTags", "aws:RequestTag/application"),
        # who may tag any cluster may end any cluster
        ("elasticmapreduce:AddTags", "aws:ResourceTag/application"),
        ("elasticmapreduce:DescribeCluster", "aws:ResourceTag/application"),
        ("elasticmapreduce:TerminateJobFlows", "aws:ResourceTag/application"),
        ("emr-serverless:TagResource", "aws:RequestTag/application"),
    ],
)
def test_the_launcher_reaches_what_carries_the_tag_of_this_lake(deployed, action, key):
    statements = deployed.policies["sparkify-launch"]["Statement"]
    (found,) = [item for item in statements if action in as_list(item["Action"])]
    (conditions,) = found["Condition"].values()
    assert conditions[key] == "sparkify"


ATHENA = f"arn:aws:athena:us-west-2:{ACCOUNT}"
GLUE = f"arn:aws:glue:us-west-2:{ACCOUNT}"
READ_GLUE = "glue:GetDatabase glue:GetDatabases glue:GetTable glue:GetTables glue:GetPartition "
READ_GLUE += f"glue:GetPartitions glue:BatchGetPartition -> {GLUE}"
# by Athena's user guide: "Fine-grained access to databases and tables in the AWS Glue Data
# Catalog", "Managed policies", and what its console asks for
READ = parsed(f"""
    athena:GetWorkGroup athena:StartQueryExecution -> {ATHENA}:workgroup/sparkify
    athena:StopQueryExecution athena:GetQueryExecution -> {ATHENA}:workgroup/sparkify
    athena:BatchGetQueryExecution athena:ListQueryExecutions -> {ATHENA}:workgroup/sparkify
    athena:GetQueryResults athena:GetQueryResultsStream -> {ATHENA}:workgroup/sparkify
    athena:ListWorkGroups athena:ListDataCatalogs athena:ListEngineVersions -> *
    athena:GetDataCatalog athena:ListDatabases -> {ATHENA}:datacatalog/AwsDataCatalog
    athena:GetDatabase athena:ListTableMetadata -> {ATHENA}:datacatalog/AwsDataCatalog
    athena:GetTableMetadata -> {ATHENA}:datacatalog/AwsDataCatalog
    {READ_GLUE}:catalog
    {READ_GLUE}:database/*
    {READ_GLUE}:table/sparkify/*
    s3:GetBucketLocation s3:ListBucket -> arn:aws:s3:::lake
    s3:GetObject -> arn:aws:s3:::lake/out/*
    s3:GetObject s3:PutObject s3:AbortMultipartUpload -> arn:aws:s3:::lake/emr/athena/*
    s3:ListMultipartUploadParts -> arn:aws:s3:::lake/emr/athena/*
""")
PASS_ROLE = parsed(f"iam:PassRole -> arn:aws:iam::{ACCOUNT}:role/sparkify-job")
START = parsed(f"""
    emr-serverless:StartJobRun -> {APPLICATION}
    emr-serverless:TagResource -> {APPLICATION}/jobruns/*
""")
# each resource of the launcher's, besides S3's, with one of its actions
LAUNCH = parsed(f"""
    iam:PassRole -> arn:aws:iam::{ACCOUNT}:role/sparkify-service
    glue:GetTables -> {GLUE}:catalog
    glue:GetTables -> {GLUE}:database/sparkify
    glue:GetTables -> {GLUE}:table/sparkify/*
""").union(PASS_ROLE, START)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("sparkify-read", READ | BY_KMS),
        ("give-the-job-role-to-the-nodes", PASS_ROLE),
        ("start-a-run", PASS_ROLE | START),
    ],
)
def test_the_other_policies_hold_what_awss_guides_ask_for(deployed, name, wanted):
    assert held(deployed.policies[name]) == wanted


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
