"""What the tests of cloud/ share: requests on S3 written down, and AWS in this process."""

import functools
import gzip
import http.client
import http.server
import json
import re
import threading
import urllib.parse
from fnmatch import fnmatchcase
from typing import NamedTuple
from xml.etree import ElementTree

import boto3
import botocore.client
import botocore.loaders
import botocore.session
from botocore import xform_name

REGION, ACCOUNT = "us-west-2", "123456789012"
INPUT, OUTPUT, BUCKET = "s3://source/in", "s3://lake/out", "lake"
LOG = "emr/logs"


class Call(NamedTuple):
    """What IAM is asked for one request: an action on a resource, and for listings the prefix."""

    action: str
    resource: str
    prefix: str | None = None


# queries of a bucket that are no listing
UNKNOWN = {"location", "versions", "policy"}


def calls_of(method: str, target: str, headers, body: bytes):
    """The IAM actions that an S3 request needs, by S3's service authorization reference."""
    path, _, query = target.partition("?")
    bucket, _, key = urllib.parse.unquote(path).lstrip("/").partition("/")
    asked = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    thing = f"arn:aws:s3:::{bucket}" + (f"/{key}" if key else "")
    if not key and method == "GET" and "uploads" in asked:
        yield Call("s3:ListBucketMultipartUploads", thing, asked.get("prefix"))
    elif not key and method in ("GET", "HEAD") and not asked.keys() & UNKNOWN:
        yield Call("s3:ListBucket", thing, asked.get("prefix"))
    elif not key and method == "POST" and "delete" in asked:
        for item in ElementTree.fromstring(body).iterfind(".//{*}Key"):  # iter() knows no {*}
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


def allows(statement: dict, call: Call) -> bool:
    conditions = statement.get("Condition", {}).get("StringLikeIfExists", {})
    prefix = conditions.get("s3:prefix", "*")
    return (
        call.action in statement["Action"]
        and any(fnmatchcase(call.resource, pattern) for pattern in statement["Resource"])
        and (call.prefix is None or fnmatchcase(call.prefix, prefix))
    )


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
                length = (
                    answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
                )
                self.send_header("Content-Length", length or 0)
                self.end_headers()
                self.wfile.write(content)
                onward.close()

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Recorded(NamedTuple):
    """A run of the job from bucket `source` to `lake`: its requests, and what it left there."""

    calls: set
    objects: dict  # key -> content
    endpoint: str

    @property
    def report(self) -> bytes:
        return next(
            content for key, content in self.objects.items() if key.startswith("out/_etl/runs/")
        )


# service models are parsed once for all sessions
shared_loader = functools.cache(botocore.loaders.create_loader)


def client(service: str):
    return boto3.client(service, region_name=REGION)


def fill(objects: dict) -> None:
    """Puts a lake into the account's bucket."""
    s3 = client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    for key, content in objects.items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=content)


def fill_input() -> None:
    """A bucket that holds both sides of an input."""
    s3 = client("s3")
    s3.create_bucket(Bucket="source", CreateBucketConfiguration={"LocationConstraint": REGION})
    for side in ("song_data", "log_data"):
        s3.put_object(Bucket="source", Key=f"in/{side}/a.json", Body=b"{}")


def put_logs(folder: str, spark: str, job: str) -> None:
    """Logs as EMR leaves them: spark-submit sends both streams of the job to its stdout."""
    for name, text in (("stderr", spark), ("stdout", job)):
        if spark or job:
            client("s3").put_object(
                Bucket=BUCKET, Key=f"{folder}/{name}.gz", Body=gzip.compress(text.encode())
            )


def record(monkeypatch) -> list:
    """Collects the requests that are really sent from now on: [(service.operation, parameters)]."""
    sent, send = [], botocore.client.BaseClient._make_api_call

    def note(self, operation, parameters):
        service = self.meta.service_model.service_name
        # boto3 adds to the parameters while it sends them
        sent.append((f"{service}.{xform_name(operation)}", dict(parameters)))
        return send(self, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", note)
    return sent


def is_change(name: str) -> bool:
    return not re.match("get_|list_|describe_|head_", name.partition(".")[2])


def changing(requests: list) -> list:
    """Those requests that change something."""
    return [(name, parameters) for name, parameters in requests if is_change(name)]


def parsed(text: str) -> list:
    """The requests that a dry run printed: [(service.operation, parameters)]."""
    decoder, found = json.JSONDecoder(), []
    while "{\n" in text:
        text = text[text.index("{\n") :]
        request, end = decoder.raw_decode(text)
        found += request.items()
        text = text[end:]
    return found
