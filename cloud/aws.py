"""What the programs in this folder share: requests to AWS, names on S3, one line for an error."""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# common.py holds what these programs share with those in analytics/
sys.path.append(str(ROOT / "analytics"))

from common import FAILED, INTERRUPTED, SETTINGS, Stop, needed_packages, run_main  # noqa: E402

with needed_packages("cloud/requirements.txt"):
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

# the other modules here take these from this one
__all__ = ["FAILED", "INTERRUPTED", "SETTINGS", "BotoCoreError", "ClientError", "Stop"]

# roles, clusters, applications and tags begin with it, unless --name says otherwise
NAME = "sparkify-etl"


# ── Requests ─────────────────────────────────────────────────────────────────────────────────────


class Unknown(dict):
    """Stands for the answer to a change that a dry run did not make: each value is its name."""

    def __missing__(self, key: str) -> str:
        return f"<{key}>"


class Aws:
    """Requests as one identity to one region.

    `ask`, `find` and `each` look; `change` changes.  A dry run looks, changes nothing, and keeps
    all requests, so that it shows what this command would send to the account as it is now.
    """

    def __init__(self, profile: str | None, region: str | None, dry_run: bool = False):
        # boto3 itself reads AWS_DEFAULT_REGION alone
        region = region or os.environ.get("AWS_REGION")
        self.session = boto3.Session(profile_name=profile, region_name=region)
        self.region = self.session.region_name
        self.profile = profile
        self.dry_run = dry_run
        # (service.operation, parameters) of every request, in order
        self.requests: list[tuple[str, dict]] = []
        check_region(self.session, self.region)

    @functools.cache  # noqa: B019 - one Aws lives as long as its command
    def client(self, service: str, attempts: int = 8):
        retries = {"mode": "standard", "total_max_attempts": attempts}
        # the price list is kept in few regions
        region = "us-east-1" if service == "pricing" else self.region
        config = Config(retries=retries, connect_timeout=10)
        return self.session.client(service, region_name=region, config=config)

    def ask(self, service: str, operation: str, **request) -> dict:
        """The answer to a request that changes nothing."""
        self.requests.append((f"{service}.{operation}", request))
        return getattr(self.client(service), operation)(**request)

    def find(self, service: str, operation: str, **request) -> dict | None:
        """The same, or None if what it asks about does not exist."""
        try:
            return self.ask(service, operation, **request)
        except ClientError as error:
            if re.search("NoSuch|NotFound|^404$", error_code(error)):
                return None
            raise

    def each(self, service: str, operation: str, key: str, **request) -> Iterator[Any]:
        """The items of all pages of an answer."""
        self.requests.append((f"{service}.{operation}", request))
        pages = self.client(service).get_paginator(operation).paginate(**request)
        return (item for page in pages for item in page.get(key, []))

    def change(self, service: str, operation: str, *, attempts: int = 8, **request) -> dict:
        """The answer to a request that changes something; a dry run keeps it unsent."""
        self.requests.append((f"{service}.{operation}", request))
        if self.dry_run:
            return Unknown()
        return getattr(self.client(service, attempts), operation)(**request)

    def say(self, text: str) -> None:
        """Prints what came of the requests; nothing came of those that a dry run keeps."""
        if not self.dry_run:
            print(text, flush=True)

    @functools.cached_property
    def account(self) -> str:
        return self.ask("sts", "get_caller_identity")["Account"]

    def command_line(self, verb: str, *arguments: str) -> str:
        """A command for the user to copy, as this identity in this region."""
        words = ["python cloud/emr.py", verb, *arguments]
        if self.profile:
            words.append(f"--profile {self.profile}")
        return " ".join([*words, f"--region {self.region}"])


def check_region(session: boto3.Session, region: str | None) -> None:
    if not region:
        raise Stop(SETTINGS, "no region; name one with --region, or set AWS_REGION")
    if region in session.get_available_regions("emr"):
        return
    elsewhere = session.get_available_regions("emr", "aws-cn")
    elsewhere += session.get_available_regions("emr", "aws-us-gov")
    if region in elsewhere:
        remedy = "run etl.py by hand there, as docs/emr.md says"
        raise Stop(SETTINGS, f"{region}: China and GovCloud are not supported; {remedy}")
    remedy = "correct --region, or update boto3"
    raise Stop(SETTINGS, f"{region}: no EMR there as far as boto3 knows; {remedy}")


def error_code(error: ClientError) -> str:
    return error.response["Error"]["Code"]


def printed(requests: list[tuple[str, dict]]) -> str:
    """Requests as JSON, one object each; a policy as a document, a file as its size."""

    def readable(value):
        if isinstance(value, dict):
            return {
                name: json.loads(part) if name.endswith("Document") else readable(part)
                for name, part in value.items()
            }
        if isinstance(value, list):
            return [readable(part) for part in value]
        if isinstance(value, bytes):
            return f"<{len(value):,} bytes>"
        return value

    texts = [
        json.dumps({name: readable(request)}, indent=1, default=str) for name, request in requests
    ]
    return "\n".join(texts)


def pause(seconds: float) -> None:
    time.sleep(seconds)


# ── Names on S3 ──────────────────────────────────────────────────────────────────────────────────


def split_s3(uri: str) -> tuple[str, str]:
    """Bucket and prefix, without slashes at its ends, of an s3:// or s3a:// URI."""
    found = re.fullmatch(r"s3a?://([a-z0-9][a-z0-9.-]+)(?:/(.*))?", uri)
    if not found:
        raise Stop(SETTINGS, f"{uri}: not on S3; name a place as s3://bucket/prefix")
    return found[1], (found[2] or "").strip("/")


def join_key(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def place(value: str) -> str:
    """An S3 place as EMR and Athena read it."""
    return f"s3://{join_key(*split_s3(value))}"


# ── Errors ───────────────────────────────────────────────────────────────────────────────────────

# What an error's text holds, and what to do about it; the first that matches is said.
HINTS = {
    "BlockPublicAccess|block public access": (
        "EMR's block public access stops it; choose a private subnet with --subnet"
    ),
    # before the others, because such an error names who asked and what for
    "AccessDenied|not authorized|UnauthorizedOperation|Forbidden": (
        "this identity may not do that; attach the policy that `emr.py setup` makes"
    ),
    r"\bSSO\b|Token has expired and refresh failed": (
        "the SSO session has expired; `aws sso login` with the same --profile"
    ),
    "ExpiredToken|RequestExpired|token included in the request is expired": (
        "the credentials expired; sign in again"
    ),
    "Unable to locate credentials": (
        "no AWS credentials; `aws configure sso`, then name its profile with --profile"
    ),
    "config profile": "no such profile; `aws configure list-profiles` shows those there are",
    "InvalidClientTokenId|UnrecognizedClient|InvalidAccessKeyId|AuthFailure": (
        "AWS does not know this key, or the account has not enabled the region; sign in, "
        "or choose another --region"
    ),
    "Throttl|Rate exceeded|SlowDown": ("AWS limits how often it is asked; try again in a minute"),
    "[Ii]nsufficient.{0,20}capacity|not supported in the requested|InsufficientInstanceCapacity": (
        "AWS has none of these there now; name several with --instance-types A,B, "
        "or more subnets with --subnet"
    ),
    "vCPU|[Qq]uota|LimitExceeded|limit exceeded": (
        "raise this quota of the account in the console's Service Quotas, "
        "or choose fewer (--count) or smaller (--instance-types) instances"
    ),
    "bootstrap action": (
        "the nodes could not fetch their packages from S3; the subnet needs an S3 gateway "
        "endpoint or another way out"
    ),
    "[Ss]ubnet|VPC": "name a subnet with --subnet; `emr.py setup --subnet` tags it for EMR",
    "[Rr]elease ?[Ll]abel": ("not offered in this region; choose another --release or --region"),
    r"InstanceProfile|[Rr]ole\b|-service is invalid": (
        "the account lacks the job's roles, or this identity may not pass them; "
        "`emr.py setup` creates them, and IAM takes up to a minute to know them everywhere"
    ),
    "NoSuchBucket": "no such bucket; `emr.py setup` creates it, or correct the name",
    "PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocation": (
        "the bucket is in another region; name that one with --region"
    ),
    "Could not connect|timed? ?out|Connection was closed": (
        "no answer; check the network and --region"
    ),
}


def explain(error: object) -> str:
    """What went wrong in one line, with its remedy if it is known."""
    text = " ".join(str(error).split())
    for known, remedy in HINTS.items():
        if re.search(known, text):
            return f"{text}: {remedy}"
    return text


# ── Command lines ────────────────────────────────────────────────────────────────────────────────


def add_command(verbs, action: Callable, text: str) -> argparse.ArgumentParser:
    """The parser of one subcommand, which is named for the function that it runs."""
    name = action.__name__.strip("_")
    verb = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    verb.set_defaults(command=action)
    group = verb.add_argument_group("AWS")
    group.add_argument(
        "--profile",
        help="profile of ~/.aws, such as one that `aws configure sso` made",
    )
    group.add_argument("--region", help="where to run (default: the profile's, or AWS_REGION)")
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="print the requests as JSON, and send only those that change nothing",
    )
    return verb


def database(value: str) -> str:
    """A database's name as Athena takes it."""
    if not re.fullmatch(r"[a-z0-9_]{1,255}", value):
        raise Stop(SETTINGS, f"--database {value}: Athena takes lower case letters, digits and _")
    return value


def main(parser: argparse.ArgumentParser, parse: Callable[[], argparse.Namespace]) -> int:
    """Runs the chosen command, and returns the exit code."""

    def run() -> int:
        options = parse()
        aws = Aws(options.profile, options.region, options.dry_run)
        try:
            return options.command(aws, options) or 0
        finally:
            if aws.dry_run:
                print(printed(aws.requests))

    def end(number, frame):
        raise KeyboardInterrupt

    # what a CI system sends when it cancels a job is told to the user like Ctrl-C
    usual = signal.signal(signal.SIGTERM, end)
    try:
        return run_main(parser.prog, run, explained)
    finally:
        signal.signal(signal.SIGTERM, usual)


def explained(error: Exception) -> Stop | None:
    if isinstance(error, BotoCoreError | ClientError):
        return Stop(FAILED, explain(error))
    return None
