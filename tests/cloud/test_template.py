"""cloud/lake.yaml: linted, deployed on ministack, and deleted."""

import pytest
from botocore.exceptions import ClientError
from cfnlint.api import lint
from cfnlint.config import ManualArgs

from tests.helpers import ROOT
from .fake_aws import PARAMETERS, client, deploy, settled, template


def test_cfn_lint_finds_nothing():
    text = (ROOT / "cloud" / "lake.yaml").read_text()
    assert not lint(text, config=ManualArgs(regions=["us-west-2", "us-east-1", "eu-central-1"]))
    assert len(text.encode()) < 51_200, "more than CloudFormation takes in a request"


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


WRONG = (
    "Bucket=My_Bucket Prefix=/lake InputPrefix=in Database=Spark-ify Release=emr-7.9.0 MaxVcpu=3"
)


@pytest.mark.parametrize("wrong", [*WRONG.split(), "DailyCode=latest"])
def test_a_wrong_parameter_is_refused(cloud, wrong):
    name, _, value = wrong.partition("=")
    with pytest.raises(ClientError, match=name):
        deploy("wrong", **{"Bucket": "wrong", name: value})
