"""On a real account: `pytest -m aws --bucket NAME`; docs/emr.md has the costs."""

import contextlib
import json
import time

import boto3
import emr
import pytest

from tests.helpers import ROOT, SAMPLE
from .fake_aws import athena, aws_cli

pytestmark = pytest.mark.aws

STACK, FOLDER, DATABASE = "sparkify-proof", "sparkify-proof", "sparkify_proof"


class Proof:
    """The stack on the account of the environment, and roles that hold one policy each."""

    def __init__(self, bucket: str):
        self.bucket = bucket
        self.session = boto3.Session()
        self.iam = self.session.client("iam")
        self.account = self.session.client("sts").get_caller_identity()["Account"]

    def deploy(self) -> int:
        tag = {"Name": "tag:for-use-with-amazon-emr-managed-policies", "Values": ["true"]}
        (subnet, *_) = self.session.client("ec2").describe_subnets(Filters=[tag])["Subnets"]
        return aws_cli(
            f"aws cloudformation deploy --stack-name {STACK} --no-fail-on-empty-changeset"
            f" --template-file {ROOT}/cloud/lake.yaml --capabilities CAPABILITY_NAMED_IAM"
            f" --parameter-overrides Bucket={self.bucket} MakeBucket=no Prefix={FOLDER}/lake"
            f" InputBucket={self.bucket} InputPrefix={FOLDER}/in/ Database={DATABASE}"
            f" Subnets={subnet['SubnetId']}"
        )

    @contextlib.contextmanager
    def acting_as(self, policy: str):
        """The environment of a role that holds that policy alone."""
        trust = {
            "Effect": "Allow",
            "Action": "sts:AssumeRole",
            "Principal": {"AWS": f"arn:aws:iam::{self.account}:root"},
        }
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        role = self.session.resource("iam").Role(f"{STACK}-as-{policy}")
        with contextlib.suppress(self.iam.exceptions.EntityAlreadyExistsException):
            self.iam.create_role(RoleName=role.name, AssumeRolePolicyDocument=document)
        role.attach_policy(PolicyArn=f"arn:aws:iam::{self.account}:policy/{STACK}-{policy}")
        # until IAM knows it everywhere
        time.sleep(20)
        wanted = {"RoleArn": role.arn, "RoleSessionName": policy}
        found = self.session.client("sts").assume_role(**wanted)["Credentials"]
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("AWS_PROFILE", raising=False)
            patch.setenv("AWS_ACCESS_KEY_ID", found["AccessKeyId"])
            patch.setenv("AWS_SECRET_ACCESS_KEY", found["SecretAccessKey"])
            patch.setenv("AWS_SESSION_TOKEN", found["SessionToken"])
            patch.setenv("AWS_DEFAULT_REGION", self.session.region_name)
            yield

    def remove(self) -> None:
        for policy in ("launch", "read"):
            role = self.session.resource("iam").Role(f"{STACK}-as-{policy}")
            with contextlib.suppress(self.iam.exceptions.NoSuchEntityException):
                for attached in role.attached_policies.all():
                    role.detach_policy(PolicyArn=attached.arn)
                role.delete()
        # until the application has stopped
        time.sleep(90)
        self.session.client("cloudformation").delete_stack(StackName=STACK)
        waiter = self.session.client("cloudformation").get_waiter("stack_delete_complete")
        waiter.wait(StackName=STACK)
        objects = self.session.resource("s3").Bucket(self.bucket).objects
        objects.filter(Prefix=f"{FOLDER}/").delete()


@pytest.fixture(scope="module")
def proof(request):
    made = Proof(request.config.getoption("--bucket") or pytest.skip("give --bucket"))
    yield made
    made.remove()


def test_the_stack_is_deployed_and_a_second_time_nothing_differs(proof, capsys):
    for path in SAMPLE.rglob("*.json"):
        key = f"{FOLDER}/in/{path.relative_to(SAMPLE)}"
        proof.session.client("s3").upload_file(str(path), proof.bucket, key)
    assert proof.deploy() == 0
    capsys.readouterr()
    assert proof.deploy() == 0
    assert "No changes to deploy" in capsys.readouterr().out


@pytest.mark.parametrize("more", [[], ["--serverless"]], ids=["cluster", "serverless"])
def test_who_has_the_launch_policy_alone_runs_the_job_and_registers(proof, capsys, more):
    with proof.acting_as("launch"):
        command = ["run", "--stack", STACK, "--register", "--max-hours", "0.7", *more]
        code = emr.main([*command, "--", "--force"])
        said = capsys.readouterr()
        assert code == 0 and "The tables are in" in said.out, said
        assert emr.main(["check", "--stack", STACK]) == 0


def test_who_has_the_read_policy_alone_counts_what_the_job_reported(proof):
    s3 = proof.session.client("s3")
    listed = s3.list_objects_v2(Bucket=proof.bucket, Prefix=f"{FOLDER}/lake/_etl/runs/")
    newest = max(item["Key"] for item in listed["Contents"])
    report = json.load(s3.get_object(Bucket=proof.bucket, Key=newest)["Body"])
    with proof.acting_as("read"):
        for table, made in report["tables"].items():
            assert athena(f"SELECT count(*) FROM {DATABASE}.{table}", STACK) == str(made["rows"])
        assert athena("SHOW DATABASES", STACK)
        key = f"{FOLDER}/lake/users/x.parquet"
        with pytest.raises(Exception, match="AccessDenied"):
            boto3.client("s3").put_object(Bucket=proof.bucket, Key=key, Body=b"x")


def test_runs_changed_nothing_and_the_deleted_stack_leaves_no_role(proof):
    cloudformation = proof.session.client("cloudformation")
    id = cloudformation.detect_stack_drift(StackName=STACK)["StackDriftDetectionId"]
    found: dict = {}
    while found.get("DetectionStatus", "DETECTION_IN_PROGRESS") == "DETECTION_IN_PROGRESS":
        time.sleep(5)
        found = cloudformation.describe_stack_drift_detection_status(StackDriftDetectionId=id)
    assert found["StackDriftStatus"] == "IN_SYNC", found
    proof.remove()
    roles = proof.session.resource("iam").roles.all()
    assert not [role.name for role in roles if role.name.startswith(STACK)]
