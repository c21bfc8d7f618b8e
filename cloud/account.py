"""What a lake needs in an account: roles, policies, a bucket, tagged subnets, a workgroup.

`setup` looks first and changes what differs, so that it may be repeated; `teardown` removes what
`setup` and the runs made, and names what it leaves.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

import aws as cloud
import cluster
import iam
import serverless
from aws import SETTINGS, Aws, ClientError, Stop, error_code, join_key, split_s3
from preflight import bucket_region, check_apart, check_output_region
from runs import POLL_SECONDS, key_values

# IAM needs some seconds until EMR knows a new role
IAM_SECONDS = 20
SERVICE_POLICY = "arn:aws:iam::aws:policy/service-role/AmazonEMRServicePolicy_v2"


def names_of(aws: Aws, options) -> iam.Names:
    places = (options.input, options.output, options.work, options.log)
    return iam.Names(aws.account, options.name, *places, options.database, tuple(options.kms_key))


# ── Setup ────────────────────────────────────────────────────────────────────────────────────────


def setup(aws: Aws, options) -> int:
    """Makes what a run needs in an account, or brings it up to date."""
    check_apart(options.input, options.output)
    names = names_of(aws, options)
    check_lake(aws, names)
    make_bucket(aws, split_s3(names.output)[0])
    is_new = make_roles(aws, names)
    make_linked_roles(aws)
    for policy, held in policies_of(names).items():
        make_policy(aws, names, policy, held)
    make_workgroup(aws, names)
    tag_network(aws, names, options.subnet)
    if is_new and not aws.dry_run:
        aws.say(f"waiting {IAM_SECONDS} seconds until IAM knows the new roles everywhere")
        cloud.pause(IAM_SECONDS)
    aws.say(
        "ready.  The person who launches needs the first policy, who queries the second:\n"
        f"    {names.policy(names.launch_policy)}\n"
        f"    {names.policy(names.read_policy)}\n"
        "in IAM Identity Center as a customer managed policy of their permission set, or\n"
        "    aws iam attach-user-policy --user-name NAME --policy-arn POLICY"
    )
    return 0


def check_lake(aws: Aws, names: iam.Names) -> None:
    """Refuses to take the roles of another lake, whose running job would lose its rights."""
    role = aws.find("iam", "get_role", RoleName=names.job_role)
    if role is None:
        return
    tags = {tag["Key"]: tag["Value"] for tag in role["Role"].get("Tags", [])}
    other = tags.get("output", names.output)
    if other != names.output:
        remedy = "give this lake a name of its own with --name, or run `emr.py teardown` first"
        raise Stop(SETTINGS, f"role {names.job_role} is for {other}; {remedy}")


def policies_of(names: iam.Names) -> dict[str, dict]:
    return {
        names.launch_policy: iam.launch_policy(names),
        names.read_policy: iam.read_policy(names),
    }


def make_bucket(aws: Aws, bucket: str) -> None:
    """A private, encrypted bucket whose unfinished uploads end.

    What a bucket that is there already says, it keeps.
    """
    region = bucket_region(aws, bucket, ExpectedBucketOwner=aws.account)
    if region is None:
        place = {}
        if aws.region != "us-east-1":
            place = {"CreateBucketConfiguration": {"LocationConstraint": aws.region}}
        aws.change("s3", "create_bucket", Bucket=bucket, **place)
    else:
        check_output_region(aws, region, f"s3://{bucket}")
    private = {
        "BlockPublicAcls": True,
        "IgnorePublicAcls": True,
        "BlockPublicPolicy": True,
        "RestrictPublicBuckets": True,
    }
    encrypted = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    abort = {
        "ID": "abort-unfinished-uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    }
    wanted = {
        "public_access_block": {"PublicAccessBlockConfiguration": private},
        "bucket_encryption": {"ServerSideEncryptionConfiguration": {"Rules": [encrypted]}},
        "bucket_lifecycle_configuration": {"LifecycleConfiguration": {"Rules": [abort]}},
    }
    for what, request in wanted.items():
        if region is None or aws.find("s3", f"get_{what}", Bucket=bucket) is None:
            aws.change("s3", f"put_{what}", Bucket=bucket, **request)
    aws.say(f"bucket {bucket}: {'there already' if region else 'made, private and encrypted'}")


def make_roles(aws: Aws, names: iam.Names) -> bool:
    """The job's role, its instance profile, and EMR's role; whether any is new."""
    to_job = iam.trust(names, "ec2.amazonaws.com", "emr-serverless.amazonaws.com")
    to_emr = iam.trust(names, "elasticmapreduce.amazonaws.com")
    is_new = make_role(aws, names, names.job_role, to_job, iam.job_policy(names))
    profile = {"InstanceProfileName": names.job_role}
    there = aws.find("iam", "get_instance_profile", **profile)
    if there is None:
        is_new = True
        aws.change("iam", "create_instance_profile", **profile)
    if there is None or not there["InstanceProfile"]["Roles"]:
        aws.change("iam", "add_role_to_instance_profile", **profile, RoleName=names.job_role)
    is_new |= make_role(aws, names, names.service_role, to_emr, iam.service_policy(names))
    attach = {"RoleName": names.service_role, "PolicyArn": SERVICE_POLICY}
    if SERVICE_POLICY not in attached(aws, names.service_role):
        aws.change("iam", "attach_role_policy", **attach)
    return is_new


def make_role(aws: Aws, names: iam.Names, name: str, trust: dict, policy: dict) -> bool:
    """A role with one policy in it, which has its name; whether the role is new."""
    tags = key_values({**iam.own_tag(names.name), "output": names.output})
    there = aws.find("iam", "get_role", RoleName=name)
    held = None
    said = "there already"
    if there is None:
        said = "made"
        document = json.dumps(trust)
        request = {"AssumeRolePolicyDocument": document, "Tags": tags}
        aws.change("iam", "create_role", RoleName=name, **request)
    else:
        if there["Role"]["AssumeRolePolicyDocument"] != trust:
            document = json.dumps(trust)
            aws.change("iam", "update_assume_role_policy", RoleName=name, PolicyDocument=document)
        if any(tag not in there["Role"].get("Tags", []) for tag in tags):
            aws.change("iam", "tag_role", RoleName=name, Tags=tags)
        held = aws.find("iam", "get_role_policy", RoleName=name, PolicyName=name)
    if held is None or held["PolicyDocument"] != policy:
        said = f"{said}, its policy is new"
        document = json.dumps(policy)
        aws.change(
            "iam", "put_role_policy", RoleName=name, PolicyName=name, PolicyDocument=document
        )
    aws.say(f"role {name}: {said}")
    return there is None


def attached(aws: Aws, role: str) -> list[str]:
    """ARNs of the policies that are attached to a role, which may not be there yet."""
    answer = aws.find("iam", "list_attached_role_policies", RoleName=role)
    return [policy["PolicyArn"] for policy in (answer or {}).get("AttachedPolicies", [])]


LINKED_ROLES = {
    "elasticmapreduce.amazonaws.com": "AWSServiceRoleForEMRCleanup",
    "ops.emr-serverless.amazonaws.com": "AWSServiceRoleForAmazonEMRServerless",
    "spot.amazonaws.com": "AWSServiceRoleForEC2Spot",
}


def make_linked_roles(aws: Aws) -> None:
    """The services' own roles, so that the person who launches need not be allowed to make them."""
    for service, role in LINKED_ROLES.items():
        if aws.find("iam", "get_role", RoleName=role):
            continue
        try:
            aws.change("iam", "create_service_linked_role", AWSServiceName=service)
        except ClientError as error:
            # IAM's answer if the role is there under another name
            if error_code(error) not in ("InvalidInput", "EntityAlreadyExists"):
                raise


def make_policy(aws: Aws, names: iam.Names, name: str, policy: dict) -> None:
    """A policy for people, or its only version made what it is to say now."""
    arn = names.policy(name)
    text = json.dumps(policy)
    there = aws.find("iam", "get_policy", PolicyArn=arn)
    if there is None:
        tags = key_values(iam.own_tag(names.name))
        aws.change("iam", "create_policy", PolicyName=name, PolicyDocument=text, Tags=tags)
        aws.say(f"policy {name}: made")
        return
    current = {"PolicyArn": arn, "VersionId": there["Policy"]["DefaultVersionId"]}
    version = aws.ask("iam", "get_policy_version", **current)["PolicyVersion"]
    if version["Document"] == policy:
        aws.say(f"policy {name}: there already")
        return
    # IAM keeps five versions at most
    delete_old_versions(aws, arn)
    request = {"PolicyArn": arn, "PolicyDocument": text, "SetAsDefault": True}
    aws.change("iam", "create_policy_version", **request)
    aws.say(f"policy {name}: brought up to date")


def delete_old_versions(aws: Aws, arn: str) -> None:
    for version in aws.each("iam", "list_policy_versions", "Versions", PolicyArn=arn):
        if not version["IsDefaultVersion"]:
            old = {"PolicyArn": arn, "VersionId": version["VersionId"]}
            aws.change("iam", "delete_policy_version", **old)


def workgroups(aws: Aws) -> list[str]:
    return [group["Name"] for group in aws.ask("athena", "list_work_groups")["WorkGroups"]]


def make_workgroup(aws: Aws, names: iam.Names) -> None:
    """Where Athena puts results: a new account has no such place, and no query works without."""
    if names.name in workgroups(aws):
        aws.say(f"Athena workgroup {names.name}: there already")
        return
    results = {"OutputLocation": f"{names.results}/"}
    settings = {"ResultConfiguration": results, "EnforceWorkGroupConfiguration": True}
    tags = key_values(iam.own_tag(names.name))
    aws.change("athena", "create_work_group", Name=names.name, Configuration=settings, Tags=tags)
    aws.say(f"Athena workgroup {names.name}: made, with results in {names.results}")


# ── Network ──────────────────────────────────────────────────────────────────────────────────────


def tag_network(aws: Aws, names: iam.Names, wanted: list[str] | None) -> None:
    """Tags the subnets that runs are to use, and what EMR's own policy touches with a tag only."""
    default = [{"Name": "default-for-az", "Values": ["true"]}]
    chosen = {"SubnetIds": wanted} if wanted else {"Filters": default}
    subnets = list(aws.each("ec2", "describe_subnets", "Subnets", **chosen))
    if not subnets:
        raise Stop(SETTINGS, f"{aws.region}: there is no default subnet; name yours with --subnet")
    networks = sorted({subnet["VpcId"] for subnet in subnets})
    if len(networks) > 1:
        remedy = "name subnets of one with --subnet"
        raise Stop(SETTINGS, f"the subnets are in several VPCs ({', '.join(networks)}); {remedy}")
    ids = [subnet["SubnetId"] for subnet in subnets]
    forget_subnets(aws, names, ids)
    tag(aws, {**iam.subnet_tag(names.name), **iam.FOR_EMR}, "Subnet", subnets)
    vpcs = list(aws.each("ec2", "describe_vpcs", "Vpcs", VpcIds=networks))
    tag(aws, iam.FOR_EMR, "Vpc", vpcs)
    # an earlier cluster's, which EMR takes again
    filters = [
        {"Name": "vpc-id", "Values": networks},
        {"Name": "group-name", "Values": ["ElasticMapReduce-*"]},
    ]
    groups = aws.each("ec2", "describe_security_groups", "SecurityGroups", Filters=filters)
    tag(aws, iam.FOR_EMR, "Group", list(groups))
    aws.say(f"runs start in {networks[0]}: {', '.join(ids)}")


def tag(aws: Aws, tags: dict[str, str], kind: str, items: list[dict]) -> None:
    """Gives those tags to the items that lack them; `kind` is as in their SubnetId."""
    lacking = [
        item[f"{kind}Id"]
        for item in items
        if any(wanted not in item.get("Tags", []) for wanted in key_values(tags))
    ]
    if lacking:
        aws.change("ec2", "create_tags", Resources=lacking, Tags=key_values(tags))


def forget_subnets(aws: Aws, names: iam.Names, kept: list[str]) -> None:
    """Takes this lake's tag from subnets that an earlier setup chose."""
    old = [subnet for subnet in cluster.tagged_subnets(aws, names.name) if subnet not in kept]
    if old:
        tags = key_values(iam.subnet_tag(names.name))
        aws.change("ec2", "delete_tags", Resources=old, Tags=tags)
        aws.say(f"runs no longer start in {', '.join(old)}")


# ── Teardown ─────────────────────────────────────────────────────────────────────────────────────


class Made(NamedTuple):
    """Something that setup or a run made, and how it is removed."""

    text: str
    remove: Callable[[], None]


def teardown(aws: Aws, options) -> int:
    """Removes what setup and runs made; without --yes it lists it only."""
    names = names_of(aws, options)
    running = cluster.listed(aws, names.name) + serverless.listed(aws, names.name)
    if running:
        remedy = "wait for it, or end it with `emr.py terminate ID`"
        raise Stop(SETTINGS, f"still running: {', '.join(running)}; {remedy}")
    found = made(aws, names)
    if not found:
        aws.say(f"nothing of {names.name} is there")
    for item in found:
        aws.say(item.text)
    if found and not options.yes:
        aws.say("nothing is removed yet; `teardown --yes` removes these")
        return 0
    for item in found:
        item.remove()
    if not aws.dry_run:
        check_gone(aws, names)
    aws.say(
        f"left: {names.output} with the tables, the logs in {names.log}, results in "
        f"{names.results}, the Glue database, the services' own roles, and the tags "
        f"{next(iter(iam.FOR_EMR))}; docs/emr.md says how to remove them"
    )
    return 0


def check_gone(aws: Aws, names: iam.Names) -> None:
    left = [item.text for item in made(aws, names)]
    if left:
        raise Stop(cloud.FAILED, f"still there: {', '.join(left)}; run teardown again")
    aws.say(f"nothing of {names.name} is left besides")


def made(aws: Aws, names: iam.Names) -> list[Made]:
    """What there is of this lake, in the order in which it can be removed."""
    found = []

    def note(text: str, remove: Callable, *arguments) -> None:
        found.append(Made(text, lambda: remove(aws, *arguments)))

    for item in serverless.applications(aws, names.name):
        note(f"serverless application {item['name']}", delete_application, item)
    if names.name in workgroups(aws):
        note(f"Athena workgroup {names.name}", delete_workgroup, names.name)
    for policy in policies_of(names):
        if aws.find("iam", "get_policy", PolicyArn=names.policy(policy)):
            note(f"policy {policy}", delete_policy, names.policy(policy))
    profile = aws.find("iam", "get_instance_profile", InstanceProfileName=names.job_role)
    if profile:
        note(f"instance profile {names.job_role}", delete_profile, profile["InstanceProfile"])
    for role in (names.job_role, names.service_role):
        if aws.find("iam", "get_role", RoleName=role):
            note(f"role {role}", delete_role, role)
    subnets = cluster.tagged_subnets(aws, names.name)
    if subnets:
        note(f"tags of {', '.join(subnets)}", forget_subnets, names, [])
    code = code_of(aws, names)
    if code:
        note(f"{len(code)} files in {names.work}/code", delete_code, names, code)
    return found


def delete_application(aws: Aws, item: dict) -> None:
    """An application is stopped before it can be deleted."""
    wanted = {"applicationId": item["id"]}
    if item["state"] not in ("CREATED", "STOPPED"):
        aws.change("emr-serverless", "stop_application", **wanted)
        while not aws.dry_run:
            there = aws.ask("emr-serverless", "get_application", **wanted)["application"]
            if there["state"] in ("CREATED", "STOPPED", "TERMINATED"):
                break
            cloud.pause(POLL_SECONDS)
    aws.change("emr-serverless", "delete_application", **wanted)


def delete_workgroup(aws: Aws, name: str) -> None:
    aws.change("athena", "delete_work_group", WorkGroup=name, RecursiveDeleteOption=True)


def delete_policy(aws: Aws, arn: str) -> None:
    """A policy is taken from all who hold it before it can be deleted."""
    holders = aws.ask("iam", "list_entities_for_policy", PolicyArn=arn)
    for kind in ("User", "Group", "Role"):
        for holder in holders[f"Policy{kind}s"]:
            name = {f"{kind}Name": holder[f"{kind}Name"]}
            aws.change("iam", f"detach_{kind.lower()}_policy", **name, PolicyArn=arn)
    delete_old_versions(aws, arn)
    aws.change("iam", "delete_policy", PolicyArn=arn)


def delete_profile(aws: Aws, profile: dict) -> None:
    name = {"InstanceProfileName": profile["InstanceProfileName"]}
    for role in profile["Roles"]:
        role_name = {"RoleName": role["RoleName"]}
        aws.change("iam", "remove_role_from_instance_profile", **name, **role_name)
    aws.change("iam", "delete_instance_profile", **name)


def delete_role(aws: Aws, role: str) -> None:
    for name in aws.each("iam", "list_role_policies", "PolicyNames", RoleName=role):
        aws.change("iam", "delete_role_policy", RoleName=role, PolicyName=name)
    for arn in attached(aws, role):
        aws.change("iam", "detach_role_policy", RoleName=role, PolicyArn=arn)
    aws.change("iam", "delete_role", RoleName=role)


def code_of(aws: Aws, names: iam.Names) -> list[str]:
    """Keys of the code that runs uploaded; none if the bucket is gone."""
    bucket, prefix = split_s3(names.work)
    below = join_key(prefix, "code") + "/"
    if bucket_region(aws, bucket, ExpectedBucketOwner=aws.account) is None:
        return []
    found = aws.each("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=below)
    return [item["Key"] for item in found]


def delete_code(aws: Aws, names: iam.Names, keys: list[str]) -> None:
    bucket = split_s3(names.work)[0]
    for start in range(0, len(keys), 1000):
        objects = [{"Key": key} for key in keys[start : start + 1000]]
        aws.change("s3", "delete_objects", Bucket=bucket, Delete={"Objects": objects})
