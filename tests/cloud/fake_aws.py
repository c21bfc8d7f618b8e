"""AWS for the tests: requests on S3 written down, the template on ministack, the rest in moto."""

import functools
import gzip
import http.client
import http.server
import json
import shlex
import threading
import time
import urllib.parse
from fnmatch import fnmatchcase
from typing import NamedTuple
from xml.etree import ElementTree

import boto3
import botocore.client
import botocore.loaders
import yaml
from botocore import xform_name
from botocore.config import Config
from helpers import ROOT

REGION, ACCOUNT, STACK = "us-west-2", "123456789012", "sparkify"
BUCKET = "lake"
INPUT, OUTPUT, LOGS = "s3://source/in", "s3://lake/out", "emr/logs"
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


def client(service: str):
    return boto3.client(service, region_name=REGION, config=OURS)


# ── Requests on S3, as IAM is asked for them ─────────────────────────────────────────────────────


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


def refused(calls, policy: dict) -> list:
    """The calls that a policy does not allow."""
    statements = policy["Statement"]
    return [call for call in calls if not any(allows(item, call) for item in statements)]


def grants(policy: dict):
    """Each action on each resource of a policy, as a statement of its own."""
    for statement in policy["Statement"]:
        for action in as_list(statement["Action"]):
            for resource in as_list(statement["Resource"]):
                yield {**statement, "Action": action, "Resource": resource}


class Recorder:
    """Passes requests on to an S3 server and keeps what IAM would be asked for each."""

    def __init__(self, endpoint: str):
        self.calls, server = set(), urllib.parse.urlsplit(endpoint).netloc
        calls = self.calls

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                calls.update(calls_of(self.command, self.path, self.headers, body))
                onward = http.client.HTTPConnection(server, timeout=60)
                headers = {
                    name: value for name, value in self.headers.items() if name.lower() != "expect"
                }
                onward.request(self.command, self.path, body, headers)
                answer = onward.getresponse()
                content = answer.read()
                self.send_response_only(answer.status, answer.reason)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                        self.send_header(name, value)
                length = len(content)
                if self.command == "HEAD":
                    length = answer.getheader("Content-Length") or 0
                self.send_header("Content-Length", length)
                self.end_headers()
                self.wfile.write(content)
                onward.close()

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


# ── The template ─────────────────────────────────────────────────────────────────────────────────


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms, such as !Ref."""


def long_form(loader, name, node):
    make = {
        yaml.ScalarNode: loader.construct_scalar,
        yaml.SequenceNode: functools.partial(loader.construct_sequence, deep=True),
    }
    value = make[type(node)](node)
    if name == "GetAtt":
        value = value.split(".")
    return {name if name == "Ref" else f"Fn::{name}": value}


Loader.add_multi_constructor("!", long_form)


def template() -> dict:
    return yaml.load((ROOT / "cloud" / "lake.yaml").read_text(), Loader)


def without_unknown_types(whole: dict) -> dict:
    """The template without the two resources that ministack does not know."""
    resources = whole["Resources"]
    for name in ("ServerlessApplication", "Budget"):
        resources.pop(name, None)

    def named(value):
        if value == {"Ref": "ServerlessApplication"}:
            return "00app"
        if value == {"Fn::GetAtt": ["ServerlessApplication", "Arn"]}:
            return APPLICATION
        if isinstance(value, dict):
            return {key: named(part) for key, part in value.items()}
        if isinstance(value, list):
            return [named(part) for part in value]
        if isinstance(value, str):
            value = value.replace("${ServerlessApplication.Arn}", APPLICATION)
            return value.replace("${ServerlessApplication}", "00app")
        return value

    return named(whole)


def deploy(name: str, whole: dict | None = None, **parameters: str) -> dict:
    """Creates a stack on ministack and waits for its end; returns its description."""
    cloudformation = client("cloudformation")
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=json.dumps(without_unknown_types(whole or template())),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
        ],
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


def aws_cli(command: str) -> int:
    """Runs a command of the AWS CLI in this process, and returns its exit code."""
    from awscli.clidriver import create_clidriver

    return create_clidriver().main(shlex.split(command)[1:])


# ── Moto's account ───────────────────────────────────────────────────────────────────────────────

# service models are parsed once for all sessions
shared_loader = functools.cache(botocore.loaders.create_loader)


def fill(objects: dict) -> None:
    """The account's buckets: an input, and the lake."""
    s3 = client("s3")
    for bucket in ("source", BUCKET):
        place = {"LocationConstraint": REGION}
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=place)
    for dataset in ("song_data", "log_data"):
        s3.put_object(Bucket="source", Key=f"in/{dataset}/a.json", Body=b"{}")
    for key, content in objects.items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=content)


def put_logs(folder: str, spark: str, job: str) -> None:
    """Logs as EMR leaves them: spark-submit sends both streams of the job to its stdout."""
    for name, text in (("stderr", spark), ("stdout", job)):
        if spark or job:
            client("s3").put_object(
                Bucket=BUCKET, Key=f"{folder}/{name}.gz", Body=gzip.compress(text.encode())
            )


def record(monkeypatch) -> list:
    """Collects the requests that commands send from now on: [(service.operation, parameters)]."""
    sent, send = [], botocore.client.BaseClient._make_api_call

    def note(self, operation, parameters):
        if self.meta.config.user_agent_extra != OURS.user_agent_extra:
            service = self.meta.service_model.service_name
            # boto3 adds to the parameters while it sends them
            sent.append((f"{service}.{xform_name(operation)}", dict(parameters)))
        return send(self, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", note)
    return sent


def changing(requests: list) -> list:
    """Those requests that change something."""
    looks = ("get_", "list_", "describe_", "head_")
    return [item for item in requests if not item[0].partition(".")[2].startswith(looks)]
