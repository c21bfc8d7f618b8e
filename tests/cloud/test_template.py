"""cloud/lake.yaml: linted, deployed on ministack, changed, broken half way, deleted."""

import json
import time

import pytest
from botocore.exceptions import ClientError
from cfnlint.api import lint
from cfnlint.config import ManualArgs

from tests.helpers import ROOT
from .fake_aws import PARAMETERS, aws_cli, client, deploy, deployable, settled, template


def test_cfn_lint_finds_nothing():
    text = (ROOT / "cloud" / "lake.yaml").read_text()
    assert not lint(text, config=ManualArgs(regions=["us-west-2", "us-east-1", "eu-central-1"]))
    assert len(text.encode()) < 51_200, "more than CloudFormation takes in a request"


# place in the template -> a value that is wrong there, or None for no value
FAULTS = {
    "LakeBucket.Properties.BucketNames": "my-bucket",
    "LakeBucket.Properties.LifecycleConfiguration.Rules.0.Status": "On",
    "LakeBucket.Properties.BucketEncryption.ServerSideEncryptionConfiguration": "AES256",
    "LakeBucket.DeletionPolicy": "Keep",
    "JobRole.Properties.AssumeRolePolicyDocument": None,
    "JobRole.Properties.Policies.0.PolicyDocument.Statement.0.Action": "s3:ListBuckets",
    "JobRole.Properties.Policies.0.PolicyDocument.Statement.0.Effect": "Permit",
    "JobRole.Properties.Policies.0.PolicyDocument.Version": "2012-10-18",
    "JobProfile.Properties.Roles": "JobRole",
    "ServiceRole.Properties.ManagedPolicyArns.0": {"Fn::GetAtt": ["JobRole", "Arns"]},
    "LaunchPolicy.Properties.PolicyDocument.Statement.1.Resource": {"Ref": "Application"},
    "LaunchPolicy.Properties.PolicyDocument.Statement.2.Action": "elasticmapreduce:RunJobFlows",
    "ServerlessApplication.Properties.MaximumCapacity.Cpu": "sixteen",
    "ServerlessApplication.Properties.ReleaseLabel": None,
    "ServerlessApplication.Properties.Architecture": "ARM",
    "Workgroup.Properties.WorkGroupConfiguration.BytesScannedCutoffPerQuery": 1000,
    "Daily.Properties.FlexibleTimeWindow.Mode": "MAYBE",
    "FailedRun.Condition": "HasMail",
}


def test_cfn_lint_finds_the_faults_that_one_makes():
    whole = template()
    for place, value in FAULTS.items():
        *path, last = [int(name) if name.isdigit() else name for name in place.split(".")]
        part = whole["Resources"]
        for name in path:
            part = part[name]
        part[last] = value
        if value is None:
            del part[last]
    found = lint(json.dumps(whole), config=ManualArgs(regions=["us-west-2"]))
    assert len([item for item in found if item.rule.id != "W2001"]) >= 15


def names() -> set[str]:
    """What the account holds of the types that the template makes."""
    found = {item["Arn"] for item in client("iam").list_roles()["Roles"]}
    found |= {item["Arn"] for item in client("iam").list_policies()["Policies"]}
    found |= {item["Name"] for item in client("glue").get_databases()["DatabaseList"]}
    found |= {item["Arn"] for item in client("scheduler").list_schedules()["Schedules"]}
    found |= {item["TopicArn"] for item in client("sns").list_topics()["Topics"]}
    found |= {item["Arn"] for item in client("events").list_rules()["Rules"]}
    return found | {item["Name"] for item in client("athena").list_work_groups()["WorkGroups"]}


def delete(name: str) -> None:
    client("cloudformation").delete_stack(StackName=name)
    with pytest.raises(ClientError, match="does not exist"):
        settled(name)


@pytest.mark.parametrize("more", [{}, PARAMETERS], ids=["defaults", "all"])
def test_a_deleted_stack_leaves_its_bucket_and_nothing_else(cloud, more):
    before = names()
    name = f"music-{len(more)}"
    own = {"Bucket": f"{name}-bucket", "Database": f"music_{len(more)}"}
    assert deploy(name, **{**more, **own})["StackStatus"] == "CREATE_COMPLETE"
    assert names() != before
    delete(name)
    assert names() == before
    client("s3").head_bucket(Bucket=f"{name}-bucket")


def test_a_stack_that_fails_half_way_leaves_nothing(cloud, deployed):
    """Another lake in the account has the database's name: neither is taken over."""
    before = names()
    stack = deploy("second", **{**PARAMETERS, "Bucket": "second-bucket"})
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert names() == before
    delete("second")
    assert names() == before


def test_deleting_a_stack_of_that_name_in_another_region_deletes_nothing(cloud, deployed):
    before = names()
    client("cloudformation", "us-east-1").delete_stack(StackName="sparkify")
    assert names() == before
    assert settled("sparkify")["StackStatus"] == "CREATE_COMPLETE"


def test_an_existing_bucket_is_no_part_of_the_stack(cloud):
    deploy("site", Bucket="website", MakeBucket="no", Database="site")
    listed = client("cloudformation").list_stack_resources(StackName="site")
    kinds = {item["ResourceType"] for item in listed["StackResourceSummaries"]}
    assert "AWS::IAM::Role" in kinds and "AWS::S3::Bucket" not in kinds


def test_a_new_bucket_is_private_and_outlives_the_stack():
    bucket = template()["Resources"]["LakeBucket"]
    blocked = bucket["Properties"]["PublicAccessBlockConfiguration"]
    assert len(blocked) == 4 and all(blocked.values())
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"


def test_a_second_deployment_changes_nothing(cloud, capsys, tmp_path):
    # more workgroups than AWS lists on one page
    for number in range(60):
        client("athena").create_work_group(Name=f"other-{number}")
    file = tmp_path / "lake.json"
    file.write_text(deployable())
    command = (
        f"aws cloudformation deploy --stack-name again --template-file {file}"
        " --capabilities CAPABILITY_NAMED_IAM --no-fail-on-empty-changeset"
        " --parameter-overrides Bucket=again Database=again"
    )
    assert aws_cli(command) == 0
    assert "Successfully created" in capsys.readouterr().out
    # the CLI names its change sets for the second
    time.sleep(1)
    assert aws_cli(command) == 0
    assert "No changes to deploy" in capsys.readouterr().out
    time.sleep(1)
    assert aws_cli(f"{command} DailyCode=0123456789abcdef --no-execute-changeset") == 0
    listed = client("cloudformation").list_change_sets(StackName="again")["Summaries"]
    newest = max(listed, key=lambda item: item["CreationTime"])
    found = client("cloudformation").describe_change_set(ChangeSetName=newest["ChangeSetId"])
    changed = {item["ResourceChange"]["LogicalResourceId"] for item in found["Changes"]}
    assert {"Daily"} <= changed <= {"Daily", "DailyRole"}


def test_parameters_are_described_and_checked():
    for parameter in template()["Parameters"].values():
        assert len(parameter["Description"]) > 20
        assert {"AllowedPattern", "AllowedValues", "MinValue"} & parameter.keys()


WRONG = (
    "Bucket=My_Bucket Prefix=/lake InputPrefix=in Database=Spark-ify Release=emr-7.9.0 MaxVcpu=3"
)


@pytest.mark.parametrize("wrong", [*WRONG.split(), "DailyCode=latest"])
def test_a_wrong_parameter_is_refused(cloud, wrong):
    name, _, value = wrong.partition("=")
    with pytest.raises(ClientError, match=name):
        deploy("wrong", **{"Bucket": "wrong", name: value})
