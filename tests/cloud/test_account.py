"""emr.py setup and teardown: what they make in an account, and that they take it away again."""

import json

import iam
import pytest
from fake_aws import (
    ACCOUNT,
    BUCKET,
    INPUT,
    OUTPUT,
    REGION,
    changing,
    client,
    fill,
    fill_input,
    is_change,
)
from moto.emr.models import emr_backends
from proof import Proof

PLACES = ["--input", INPUT, "--output", OUTPUT]
SETUP = ["setup", *PLACES]
TEARDOWN = ["teardown", "--output", OUTPUT]
NAMES = iam.Names(
    ACCOUNT,
    "sparkify-etl",
    INPUT,
    OUTPUT,
    "s3://lake/emr",
    "s3://lake/emr/logs",
    "sparkify",
)


def default_policy(name: str) -> dict:
    arn, roles = NAMES.policy(name), client("iam")
    version = roles.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    return roles.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]


def subnets_with(key: str) -> list[str]:
    found = client("ec2").describe_subnets(Filters=[{"Name": "tag-key", "Values": [key]}])
    return sorted(subnet["SubnetId"] for subnet in found["Subnets"])


def test_setup_makes_roles_policies_a_private_bucket_and_a_workgroup(account, said, requests):
    code, out, _ = said(*SETUP)
    s3, roles = client("s3"), client("iam")
    assert code == 0
    assert all(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values())
    assert s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
    (rule,) = s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert rule["Status"] == "Enabled"
    held = roles.get_role_policy(RoleName=NAMES.job_role, PolicyName=NAMES.job_role)
    assert held["PolicyDocument"] == iam.job_policy(NAMES)
    assert default_policy(NAMES.launch_policy) == iam.launch_policy(NAMES)
    assert default_policy(NAMES.read_policy) == iam.read_policy(NAMES)
    profile = roles.get_instance_profile(InstanceProfileName=NAMES.job_role)["InstanceProfile"]
    assert [role["RoleName"] for role in profile["Roles"]] == [NAMES.job_role]
    group = client("athena").get_work_group(WorkGroup="sparkify-etl")["WorkGroup"]
    results = group["Configuration"]["ResultConfiguration"]["OutputLocation"]
    assert results == "s3://lake/emr/athena/"
    assert not {"iam.create_access_key", "iam.create_user"} & {name for name, _ in requests}
    for said_of in (BUCKET, "vpc-", "subnet-", "attach-user-policy", "policy/sparkify-etl-launch"):
        assert said_of in out


def test_setup_changes_nothing_the_second_time(account, said, requests):
    said(*SETUP)
    requests.clear()
    code, out, _ = said(*SETUP)
    # whether a service's own role is there is IAM's to say
    changes = [name for name, _ in changing(requests) if "service_linked" not in name]
    assert code == 0 and changes == [] and "there already" in out


def test_setup_brings_a_policy_up_to_date(account, said, requests):
    said(*SETUP)
    requests.clear()
    assert said("setup", "--input", "s3://source/other", "--output", OUTPUT)[0] == 0
    moved = NAMES._replace(input="s3://source/other")
    assert default_policy(NAMES.launch_policy) == iam.launch_policy(moved)
    held = client("iam").get_role_policy(RoleName=NAMES.job_role, PolicyName=NAMES.job_role)
    assert held["PolicyDocument"] == iam.job_policy(moved)


def test_a_second_lake_does_not_take_the_first_ones_roles(account, said, requests):
    said(*SETUP)
    requests.clear()
    other = ["--input", INPUT, "--output", "s3://music/out"]
    code, _, err = said("setup", *other)
    assert code == 2 and "is for s3://lake/out" in err and "--name" in err
    assert not changing(requests)
    assert said("setup", *other, "--name", "music")[0] == 0
    assert default_policy(NAMES.launch_policy) == iam.launch_policy(NAMES)


def test_a_run_of_another_region_can_be_ended_with_the_same_policy(account):
    text = json.dumps(iam.launch_policy(NAMES))
    assert REGION not in text and f"arn:aws:elasticmapreduce:*:{ACCOUNT}:cluster/*" in text


def test_setup_leaves_what_a_bucket_says_already(account, said):
    fill({})
    mine = {"ID": "mine", "Status": "Enabled", "Prefix": "x", "Expiration": {"Days": 3}}
    client("s3").put_bucket_lifecycle_configuration(
        Bucket=BUCKET, LifecycleConfiguration={"Rules": [mine]}
    )
    assert said(*SETUP)[0] == 0
    (rule,) = client("s3").get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert rule["ID"] == "mine"


def test_keys_of_encrypted_buckets_may_be_used(account, said):
    key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1-2"
    assert said(*SETUP, "--kms-key", key)[0] == 0
    for policy in (default_policy(NAMES.launch_policy), default_policy(NAMES.read_policy)):
        (statement,) = [item for item in policy["Statement"] if "kms:Decrypt" in item["Action"]]
        assert statement["Resource"] == [key]


# ── Network ──────────────────────────────────────────────────────────────────────────────────────


def make_subnet(**tags) -> tuple[str, str]:
    """A subnet in a VPC of its own."""
    ec2 = client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    if tags:
        pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
        ec2.create_tags(Resources=[subnet], Tags=pairs)
    return vpc, subnet


def test_setup_tags_the_security_groups_that_an_earlier_cluster_left(account, said):
    ec2 = client("ec2")
    vpc = ec2.describe_subnets()["Subnets"][0]["VpcId"]
    for name in ("ElasticMapReduce-master", "mine"):
        ec2.create_security_group(GroupName=name, Description="-", VpcId=vpc)
    assert said(*SETUP)[0] == 0
    tagged = ec2.describe_security_groups(
        Filters=[{"Name": "tag-key", "Values": list(iam.FOR_EMR)}]
    )
    assert [group["GroupName"] for group in tagged["SecurityGroups"]] == ["ElasticMapReduce-master"]


def test_a_run_starts_in_the_subnets_of_its_setup_and_in_nobody_elses(account, said, dry):
    fill_input()
    make_subnet(**iam.FOR_EMR)
    _, mine = make_subnet()
    said(*SETUP, "--subnet", mine)
    request = dict(dry("run", *PLACES))["emr.run_job_flow"]
    assert request["Instances"]["Ec2SubnetIds"] == [mine]


def test_a_later_setup_takes_runs_out_of_the_earlier_subnets(account, said):
    said(*SETUP)
    assert len(subnets_with("sparkify-etl-subnet")) > 1
    _, private = make_subnet()
    code, out, _ = said(*SETUP, "--subnet", private)
    assert code == 0 and "runs no longer start in" in out
    assert subnets_with("sparkify-etl-subnet") == [private]


def test_subnets_of_several_networks_are_refused(account, said):
    subnets = [make_subnet()[1], make_subnet()[1]]
    code, _, err = said(*SETUP, "--subnet", subnets[0], "--subnet", subnets[1])
    assert code == 2 and "several VPCs" in err


# ── Teardown ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def used(account, said, clusters):
    """An account where two lakes were set up, and one was used on both kinds."""
    fill_input()
    said(*SETUP)
    said("setup", "--input", INPUT, "--output", "s3://music/out", "--name", "music")
    clusters(("TERMINATED", "COMPLETED"))
    said("run", *PLACES)
    said("run", *PLACES, "--serverless")
    return client("iam")


def names_of_all(roles) -> set[str]:
    found = {role["RoleName"] for role in roles.list_roles()["Roles"]}
    return found | {item["PolicyName"] for item in roles.list_policies(Scope="Local")["Policies"]}


def test_teardown_lists_what_it_would_remove_and_removes_nothing(used, said, requests):
    requests.clear()
    code, out, _ = said(*TEARDOWN)
    assert code == 0 and not changing(requests)
    for text in (
        "serverless application sparkify-etl-emr-spark-8.1.0-arm64",
        "Athena workgroup sparkify-etl",
        "policy sparkify-etl-launch",
        "policy sparkify-etl-read",
        "instance profile sparkify-etl-job",
        "role sparkify-etl-job",
        "role sparkify-etl-service",
        "files in s3://lake/emr/code",
        "tags of subnet-",
        "teardown --yes",
    ):
        assert text in out


def test_teardown_removes_what_setup_and_runs_made_and_leaves_the_tables(used, said):
    fill_more = client("s3")
    fill_more.put_object(Bucket=BUCKET, Key="out/users/a.parquet", Body=b"x")
    user = used.create_user(UserName="ada")["User"]["UserName"]
    used.attach_user_policy(UserName=user, PolicyArn=NAMES.policy(NAMES.launch_policy))
    code, out, err = said(*TEARDOWN, "--yes")
    assert code == 0, err
    assert not [name for name in names_of_all(used) if name.startswith("sparkify-etl")]
    assert {"music-job", "music-service", "music-launch"} <= names_of_all(used)
    assert subnets_with("sparkify-etl-subnet") == [] and subnets_with("music-subnet")
    keys = [item["Key"] for item in fill_more.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert "out/users/a.parquet" in keys and not [key for key in keys if "/code/" in key]
    assert "nothing of sparkify-etl is left" in out and "left: s3://lake/out" in out
    assert "nothing of sparkify-etl is there" in said(*TEARDOWN)[1]


def test_teardown_waits_for_what_still_runs(used, said, requests):
    for cluster in emr_backends[ACCOUNT][REGION].clusters.values():
        cluster.state = "RUNNING"
    requests.clear()
    code, _, err = said(*TEARDOWN, "--yes")
    assert code == 2 and "still running: j-" in err
    assert not [name for name, _ in requests if is_change(name)]


def test_the_proof_for_a_real_account_goes_through_an_emulation(
    account, clusters, recorded, monkeypatch
):
    """All but the counts: moto's Athena reads no tables."""
    fill({})
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    proof = Proof(BUCKET)
    proof.setup()
    for key, content in recorded.objects.items():
        client("s3").put_object(Bucket=BUCKET, Key=f"sparkify-proof/{key}", Body=content)
    summary = "sparkify-proof/out/_etl/runs/29991231T235959Z-00000000.json"
    client("s3").put_object(Bucket=BUCKET, Key=summary, Body=recorded.report)
    clusters(("TERMINATED", "COMPLETED"))
    proof.run()
    proof.run("--serverless")
    proof.register()
    assert proof.report()["exit"] == 0
    proof.teardown()
    assert "Contents" not in client("s3").list_objects_v2(Bucket=BUCKET)
    assert not [name for name in names_of_all(client("iam")) if name.startswith("sparkify-proof")]
