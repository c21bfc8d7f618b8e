"""AWS for the tests: requests on S3 written down, and the template on ministack."""

import gzip
import json
import shlex
import time
import urllib.parse
from fnmatch import fnmatchcase
from typing import NamedTuple
from xml.etree import ElementTree

import boto3
from awscli.clidriver import create_clidriver
from botocore.config import Config
from botocore.exceptions import ClientError
from cfnlint.decode import cfn_yaml

from tests.helpers import ROOT

REGION, ACCOUNT, STACK, BUCKET = "us-west-2", "123456789012", "sparkify", "lake"
INPUT, OUTPUT, LOGS = "s3://source/in", "s3://lake/out", "emr/logs"
COMMIT = "out/_etl/commits/000000001.json"
# each option of the template chosen
PARAMETERS = {
    "Bucket": BUCKET,
    "Prefix": "out",
    "InputBucket": "source",
    "InputPrefix": "in/",
    "Subnets": "subnet-1,subnet-2",
    "AlarmEmail": "you@example.com",
    "KmsKey": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1",
    "DailyCode": "0123456789abcdef",
}
APPLICATION = f"arn:aws:emr-serverless:{REGION}:{ACCOUNT}:/applications/00app"
# marks the requests of the tests themselves
OURS = Config(user_agent_extra="tests")


def client(service: str, region: str = REGION):
    return boto3.client(service, region_name=region, config=OURS)


def put(key: str, content) -> None:
    """Puts an object into the lake's bucket."""
    client("s3").put_object(Bucket=BUCKET, Key=key, Body=content)


def put_logs(folder: str, spark: str, job: str) -> None:
    """Logs as EMR leaves them: spark-submit sends both streams of the job to its stdout."""
    if spark or job:
        put(f"{folder}/stderr.gz", gzip.compress(spark.encode()))
        put(f"{folder}/stdout.gz", gzip.compress(job.encode()))


def aws_cli(command: str) -> int:
    """Runs a command of the AWS CLI in this process, and returns its exit code."""
    return create_clidriver().main(shlex.split(command)[1:])


class Call(NamedTuple):
    """What IAM is asked for one request: an action on a resource, and for listings the prefix."""

    action: str
    resource: str
    prefix: str | None = None


def calls_of(method: str, target: str, headers, body: bytes):
    """The IAM actions that an S3 request needs, by S3's service authorization reference."""
    path, _, query = target.partition("?")
    bucket, _, key = urllib.parse.unquote(path).lstrip("/").partition("/")
    asked = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    thing = f"arn:aws:s3:::{bucket}" + (f"/{key}" if key else "")
    if not key and method == "GET" and "uploads" in asked:
        yield Call("s3:ListBucketMultipartUploads", thing, asked.get("prefix"))
    elif not key and method in ("GET", "HEAD") and not asked.keys() & {"versions", "policy"}:
        yield Call("s3:ListBucket", thing, asked.get("prefix"))
    elif not key and method == "POST" and "delete" in asked:
        for item in ElementTree.fromstring(body).iterfind(".//{*}Key"):
            yield Call("s3:DeleteObject", f"{thing}/{item.text}")
    elif key and method == "DELETE" and "uploadId" in asked:
        yield Call("s3:AbortMultipartUpload", thing)
    elif key and method in ("GET", "HEAD", "DELETE") and not asked.keys() - {"x-id", "partNumber"}:
        yield Call("s3:DeleteObject" if method == "DELETE" else "s3:GetObject", thing)
    elif key and (method == "PUT" or (method == "POST" and asked.keys() & {"uploads", "uploadId"})):
        yield Call("s3:PutObject", thing)
        if "x-amz-copy-source" in headers:
            source = urllib.parse.unquote(headers["x-amz-copy-source"]).lstrip("/")
            yield Call("s3:GetObject", f"arn:aws:s3:::{source}")
    else:
        raise ValueError(f"no IAM action is known for {method} {target}")


def as_list(value) -> list:
    return value if isinstance(value, list) else [value]


def allows(statement: dict, call: Call) -> bool:
    conditions = statement.get("Condition", {}).get("StringLikeIfExists", {})
    prefixes = as_list(conditions.get("s3:prefix", "*"))
    return (
        call.action in as_list(statement["Action"])
        and any(fnmatchcase(call.resource, each) for each in as_list(statement["Resource"]))
        and (call.prefix is None or any(fnmatchcase(call.prefix, each) for each in prefixes))
    )


def grants(policy: dict):
    """Each action on each resource of a policy, as a statement of its own."""
    for statement in policy["Statement"]:
        for action in as_list(statement["Action"]):
            for resource in as_list(statement["Resource"]):
                yield {**statement, "Action": action, "Resource": resource}


def template() -> dict:
    """The template, with CloudFormation's long forms, such as {"Ref": …}."""
    return json.loads(json.dumps(cfn_yaml.load(ROOT / "cloud" / "lake.yaml")))


def deployable() -> str:
    """The template, as JSON, without the two resources that ministack does not know."""
    whole = template()
    for name in ("ServerlessApplication", "Budget"):
        del whole["Resources"][name]
    text = json.dumps(whole)
    for reference, value in (
        ('{"Fn::GetAtt": ["ServerlessApplication", "Arn"]}', f'"{APPLICATION}"'),
        ('{"Ref": "ServerlessApplication"}', '"00app"'),
        ("${ServerlessApplication.Arn}", APPLICATION),
        ("${ServerlessApplication}", "00app"),
    ):
        text = text.replace(reference, value)
    return text


def athena(query: str, workgroup: str = STACK) -> str:
    """The last cell of a query's answer, in the stack's workgroup."""
    service = boto3.client("athena")
    started = service.start_query_execution(QueryString=query, WorkGroup=workgroup)
    execution = {"QueryExecutionId": started["QueryExecutionId"]}
    status = {"State": "QUEUED"}
    while status["State"] in ("QUEUED", "RUNNING"):
        time.sleep(0.2)
        status = service.get_query_execution(**execution)["QueryExecution"]["Status"]
    assert status["State"] == "SUCCEEDED", status
    answer = service.get_query_results(**execution)["ResultSet"]["Rows"]
    return answer[-1]["Data"][-1]["VarCharValue"]


def deploy(name: str, **parameters: str) -> dict:
    """Creates a stack on ministack and waits for its end; returns its description."""
    given = parameters.items()
    client("cloudformation").create_stack(
        StackName=name,
        TemplateBody=deployable(),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given],
        Tags=[{"Key": "team", "Value": "data"}],
    )
    return settled(name)


def settled(name: str) -> dict:
    """A stack's description, once its operation has ended."""
    while True:
        (stack,) = client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        if not stack["StackStatus"].endswith("IN_PROGRESS"):
            return stack
        time.sleep(0.05)


def refusal(code: str, message: str, status: int = 400) -> ClientError:
    answer = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}},
    }
    return ClientError(answer, "Operation")


def changing(requests: list) -> list:
    """Those requests that change something."""
    looks = ("get_", "list_", "describe_", "head_")
    return [item for item in requests if not item[0].partition(".")[2].startswith(looks)]
