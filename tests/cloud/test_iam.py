"""cloud/iam.py: the policies against the requests that the job and the commands really make."""

import json

import catalog
import emr
import iam
from botocore import xform_name
from fake_aws import ACCOUNT, INPUT, OUTPUT, REGION, Call, allows, client, dry_requests

NAMES = iam.Names("aws", REGION, ACCOUNT, INPUT, OUTPUT, "s3://lake/emr", "s3://lake/emr/logs")
BY_EMR = (
    "arn:aws:s3:::lake/emr/code/*",
    "arn:aws:s3:::lake/emr/logs/*",
)  # fetched and written on the nodes, by EMR itself
ONLY_WHEN_CUT_OFF = "s3:AbortMultipartUpload"


def test_the_job_asks_for_nothing_outside_its_policy(recorded):
    statements = iam.job_policy(NAMES)["Statement"]
    refused = [
        call
        for call in recorded.calls
        if not any(allows(statement, call) for statement in statements)
    ]
    assert recorded.calls and not refused


def test_the_jobs_policy_holds_nothing_that_it_does_not_ask_for(recorded):
    for statement in iam.job_policy(NAMES)["Statement"]:
        for action in statement["Action"]:
            for resource in statement["Resource"]:
                if resource in BY_EMR or action == ONLY_WHEN_CUT_OFF:
                    continue
                alone = {**statement, "Action": [action], "Resource": [resource]}
                assert any(allows(alone, call) for call in recorded.calls), (
                    f"{action} on {resource} is not used"
                )


PLACES = ["--input", INPUT, "--output", OUTPUT]
COMMANDS = [
    (emr, "run", *PLACES),
    (emr, "run", *PLACES, "--serverless"),
    (emr, "status"),
    (emr, "status", "j-1"),
    (emr, "logs", "a/b"),
    (emr, "terminate", "j-1"),
    (emr, "terminate", "a/b"),
    (emr, "cost"),
    (catalog, "ddl", "--output", OUTPUT),
    (catalog, "register", "--output", OUTPUT),
    (catalog, "check", "--output", OUTPUT),
]
PREFIXES = {"emr": "elasticmapreduce"}
OTHER_ACTIONS = {  # operations whose IAM action is named otherwise, or that need more than one
    "s3:ListObjectsV2": ["s3:ListBucket"],
    "sts:GetCallerIdentity": [],  # everybody may
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


def asked_by_the_commands(capsys):
    """[(action, parameters)] of all that a launcher's commands send."""
    for module, *command in COMMANDS:
        for request, parameters in dry_requests(module, capsys, *command):
            service, _, method = request.partition(".")
            names = client(service).meta.service_model.operation_names
            (operation,) = [name for name in names if xform_name(name) == method]
            action = f"{PREFIXES.get(service, service)}:{operation}"
            for needed in OTHER_ACTIONS.get(action, [action]):
                yield needed, parameters


def test_the_launchers_policy_holds_just_the_actions_of_the_commands(account, capsys):
    asked = {action for action, _ in asked_by_the_commands(capsys)}
    held = [
        action
        for statement in iam.launch_policy(NAMES)["Statement"]
        for action in statement["Action"]
    ]
    assert set(held) == asked


def test_the_launchers_s3_requests_are_inside_the_policy_and_use_all_of_it(account, capsys):
    statements = [
        item
        for item in iam.launch_policy(NAMES)["Statement"]
        if item["Action"][0].startswith("s3:")
    ]
    calls = {
        Call(
            action,
            f"arn:aws:s3:::{'/'.join(filter(None, (given['Bucket'], given.get('Key'))))}",
            given.get("Prefix"),
        )
        for action, given in asked_by_the_commands(capsys)
        if action.startswith("s3:")
        and given["Bucket"] not in ("log", "output")  # unknown to a dry run of status
    }
    calls.add(Call("s3:GetObject", "arn:aws:s3:::lake/emr/logs/j-1/steps/s-1/stderr.gz"))
    calls.add(
        Call(
            "s3:ListBucket",
            "arn:aws:s3:::lake",
            "emr/logs/j-1/containers/application_1_1/container_",
        )
    )
    assert not [
        call for call in calls if not any(allows(statement, call) for statement in statements)
    ]
    for statement in statements:
        for resource in statement["Resource"]:
            alone = {**statement, "Resource": [resource]}
            assert any(allows(alone, call) for call in calls), (
                f"{statement['Action']} on {resource} is not used"
            )


def test_policies_are_documents_that_iam_takes_and_hold_no_star_for_s3(account):
    for make in (iam.job_policy, iam.service_policy, iam.launch_policy):
        text = json.dumps(make(NAMES))
        client("iam").create_policy(
            PolicyName=make.__name__, PolicyDocument=text
        )  # refuses malformed documents
        assert len(text) < 6144  # IAM's limit
        for statement in make(NAMES)["Statement"]:
            assert not any("*" in action for action in statement["Action"])
            assert "*" not in statement["Resource"] or not statement["Action"][0].startswith(
                ("s3:", "iam:")
            )


def test_names_fill_the_policies_of_another_bucket_root_and_partition():
    names = iam.Names(
        "aws-cn", "cn-north-1", ACCOUNT, "s3://source", "s3://lake", "s3://lake/emr", "s3://logs/x"
    )
    assert "arn:aws-cn:s3:::lake/*" in json.dumps(iam.job_policy(names))
    assert "arn:aws:" not in json.dumps(
        [make(names) for make in (iam.job_policy, iam.service_policy, iam.launch_policy)]
    )
