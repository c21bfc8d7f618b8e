"""cloud/iam.py: the policies against the requests that the job and the commands really make."""

import iam
from cloud_fixtures import ACCOUNT, INPUT, OUTPUT, REGION, allows

NAMES = iam.Names("aws", REGION, ACCOUNT, INPUT, OUTPUT, "s3://lake/emr", "s3://lake/emr/logs")
BY_EMR = (
    "arn:aws:s3:::lake/emr/code/*",
    "arn:aws:s3:::lake/emr/logs/*",
)  # fetched and written on the nodes, by EMR itself
ONLY_WHEN_CUT_OFF = "s3:AbortMultipartUpload"


def test_the_job_asks_for_nothing_outside_its_policy(recorded):
    statements = iam.job_policy(NAMES)["Statement"]
    refused = [call for call in recorded.calls if not any(allows(statement, call) for statement in statements)]
    assert recorded.calls and not refused


def test_the_jobs_policy_holds_nothing_that_it_does_not_ask_for(recorded):
    for statement in iam.job_policy(NAMES)["Statement"]:
        for action in statement["Action"]:
            for resource in statement["Resource"]:
                if resource in BY_EMR or action == ONLY_WHEN_CUT_OFF:
                    continue
                alone = {**statement, "Action": [action], "Resource": [resource]}
                assert any(allows(alone, call) for call in recorded.calls), f"{action} on {resource} is not used"
