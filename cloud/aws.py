"""What the cloud commands share: one way to send a request to AWS, and one line for what goes wrong."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

FAILED, SETTINGS, INTERRUPTED = 1, 2, 130  # exit codes, as etl.py's
NAME = "sparkify-etl"  # roles, clusters, applications and tags begin with it


class Stop(Exception):
    """Ends the command with an exit code and one line that names the thing, the place and the remedy."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


class Pending(str):
    """Stands for an answer, or a value in one, that a dry run has not asked for: <InstanceId>."""

    def __getitem__(self, key):
        return Pending(f"<{key}>" if isinstance(key, str) else self)

    def get(self, key, default=None):
        return self[key]

    def __iter__(self):
        return iter([Pending()])

    def __format__(self, spec):
        return str(self)


class Aws:
    """Requests as one identity to one region.  A dry run prints each as JSON and sends none."""

    def __init__(self, profile: str | None, region: str | None, dry_run: bool):
        region = region or os.environ.get(
            "AWS_REGION"
        )  # boto3 itself reads AWS_DEFAULT_REGION alone
        self.session = boto3.Session(profile_name=profile, region_name=region)
        self.region, self.dry_run, self.profile = self.session.region_name, dry_run, profile
        if not self.region:
            raise Stop(SETTINGS, "no region; name one with --region, or set AWS_REGION")
        if self.region not in {
            name for part in PARTITIONS for name in self.session.get_available_regions("emr", part)
        }:
            raise Stop(
                SETTINGS,
                f"{self.region}: no EMR there as far as boto3 knows; correct --region, or update boto3",
            )
        self.clients = {}

    @property
    def partition(self) -> str:
        return self.session.get_partition_for_region(self.region)

    def client(self, service: str, attempts: int = 8):
        if (service, attempts) not in self.clients:
            config = Config(
                retries={"mode": "standard", "total_max_attempts": attempts}, connect_timeout=10
            )
            region = (
                "us-east-1" if service == "pricing" else self.region
            )  # the price list is kept in few regions
            self.clients[service, attempts] = self.session.client(
                service, region_name=region, config=config
            )
        return self.clients[service, attempts]

    def send(self, service: str, operation: str, *, attempts: int = 8, **request):
        """The answer to one request; throttling and lost connections are tried again."""
        if self.dry_run:
            print(json.dumps({f"{service}.{operation}": request}, indent=1, default=str))
            return Pending()
        return getattr(self.client(service, attempts), operation)(**request)

    def say(self, text: str) -> None:
        """Prints what came of the requests; of a dry run's nothing did."""
        if not self.dry_run:
            print(text, flush=True)

    def each(self, service: str, operation: str, key: str, **request):
        """The items of all pages of an answer."""
        if self.dry_run:
            return self.send(service, operation, **request)[key]
        pages = self.client(service).get_paginator(operation).paginate(**request)
        return (item for page in pages for item in page.get(key, []))

    def account(self) -> str:
        return self.send("sts", "get_caller_identity")["Account"]


PARTITIONS = ("aws", "aws-cn", "aws-us-gov")
HINTS = {  # what an error's text holds, and what to do; the first that matches is said
    # first, as such an error names who asked (assumed-role/AWSReservedSSO_…) and what for
    "AccessDenied|not authorized|UnauthorizedOperation|Forbidden": "this identity may not do that; attach the policy "
    "that `emr.py setup` makes",
    r"\bSSO\b|Token has expired and refresh failed": "the SSO session has expired; `aws sso login` with the same "
    "--profile",
    "ExpiredToken|RequestExpired|token included in the request is expired": "the credentials expired; sign in again",
    "Unable to locate credentials": "no AWS credentials; `aws configure sso`, then name its profile with --profile",
    "config profile": "no such profile; `aws configure list-profiles` shows those there are",
    "InvalidClientTokenId|UnrecognizedClient|InvalidAccessKeyId|AuthFailure": "AWS does not know this key, or the "
    "account has not enabled the region; sign in, or choose another --region",
    "Throttl|Rate exceeded|SlowDown": "AWS limits how often it is asked; try again in a minute",
    "vCPU|[Qq]uota|LimitExceeded|limit exceeded": "raise this quota of the account in the console's Service Quotas, "
    "or choose fewer (--count) or smaller (--instance-types) instances",
    "[Ss]ubnet|VPC": "name a subnet with --subnet; `emr.py setup --subnet` tags it for EMR",
    "[Rr]elease ?[Ll]abel": "not offered in this region; choose another --release or --region",
    f"InstanceProfile|[Rr]ole|{NAME}-(job|service)": "the account lacks the job's roles, or this identity may "
    "not pass them; `emr.py setup` creates them",
    "NoSuchBucket": "no such bucket; `emr.py setup` creates it, or correct the name",
    "PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocation": "the bucket is in another region; name that one "
    "with --region",
    "Could not connect|timed? ?out|Connection was closed": "no answer; check the network and --region",
}


def explain(error: object) -> str:
    """What went wrong in one line, with its remedy where it is known."""
    text = " ".join(str(error).split())
    remedy = next((remedy for known, remedy in HINTS.items() if re.search(known, text)), "")
    return f"{text}: {remedy}" if remedy else text


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


def pause(seconds: float) -> None:
    time.sleep(seconds)


def add_command(verbs, action, text: str) -> argparse.ArgumentParser:
    """The parser of one subcommand, which is named for the function that it runs."""
    verb = verbs.add_parser(action.__name__, help=text, description=f"{text[0].upper()}{text[1:]}.")
    verb.set_defaults(command=action)
    return verb


def add_common(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("AWS")
    group.add_argument(
        "--profile", help="profile of ~/.aws, such as one that `aws configure sso` made"
    )
    group.add_argument("--region", help="where to run (default: the profile's, or AWS_REGION)")
    group.add_argument(
        "--dry-run", action="store_true", help="print the requests as JSON and send none"
    )


def main(parser: argparse.ArgumentParser, parse) -> int:
    """Runs the chosen command; returns the exit code, and says what is wrong in one line on stderr."""
    try:
        options = parse(parser)
        return options.command(Aws(options.profile, options.region, options.dry_run), options) or 0
    except Stop as stop:
        code, message = stop.code, str(stop)
    except KeyboardInterrupt:
        code, message = INTERRUPTED, "interrupted; nothing was left running by this command"
    except (BotoCoreError, ClientError) as error:
        code, message = FAILED, explain(error)
    print(f"{parser.prog}: {message}", file=sys.stderr)
    return code
