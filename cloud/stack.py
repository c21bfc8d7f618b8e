"""The lake as its CloudFormation stack describes it; cloud/lake.yaml is the stack's template."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import Any

import boto3
from aws import SETTINGS, Json, Stop, error_code, pairs, split_s3
from botocore.config import Config
from botocore.exceptions import ClientError

DEPLOY = "Deploy cloud/lake.yaml as docs/emr.md says, or correct --stack or --region."


class Lake:
    """One lake in one account and region: where things are, and clients to reach them."""

    def __init__(self, stack: str, profile: str | None, region: str | None):
        # boto3 itself reads AWS_DEFAULT_REGION alone
        region = region or os.environ.get("AWS_REGION")
        self.session = boto3.Session(profile_name=profile, region_name=region)
        self.region = self.session.region_name
        self.profile = profile
        self.stack = stack
        if self.region is None:
            raise Stop(SETTINGS, "No region. Give --region, or set AWS_REGION.")
        found = self.describe()
        self.outputs = pairs(found.get("Outputs", []), "Output")
        self.parameters = pairs(found.get("Parameters", []), "Parameter")
        if "Output" not in self.outputs:
            state = found["StackStatus"]
            raise Stop(SETTINGS, f"Stack {stack} is {state}. Delete it, and deploy it again.")
        self.database = self.parameters["Database"]
        # s3:// URIs without a slash at the end
        self.input = self.outputs["Input"].rstrip("/")
        self.output = self.outputs["Output"]
        self.code = self.outputs["Code"]
        self.logs = self.outputs["Logs"]
        self.arguments = ["--input", self.input, "--output", self.output]
        # the stack's own tags go to each run, for the bill
        self.tags = {**pairs(found.get("Tags", [])), "application": stack}

    def describe(self) -> Json:
        try:
            answer = self.client("cloudformation").describe_stacks(StackName=self.stack)
        except ClientError as error:
            if error_code(error) != "ValidationError":
                raise
            text = f"There is no stack {self.stack} in {self.region}. {DEPLOY}"
            raise Stop(SETTINGS, text) from None
        stack: Json = answer["Stacks"][0]
        return stack

    @functools.cache  # noqa: B019 - one Lake lives as long as its command
    def client(self, service: str, attempts: int = 8) -> Any:
        retries = {"mode": "standard", "total_max_attempts": attempts}
        config = Config(retries=retries, connect_timeout=10)
        return self.session.client(service, region_name=self.region, config=config)

    def pages(self, service: str, operation: str, key: str, **request: Any) -> Iterator[Any]:
        """The items of all pages of an answer."""
        paginator = self.client(service).get_paginator(operation)
        for page in paginator.paginate(**request):
            yield from page.get(key, [])

    def read(self, uri: str) -> bytes:
        """An object's content; empty if there is no such object."""
        bucket, key = split_s3(uri)
        try:
            answer = self.client("s3").get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error_code(error) == "NoSuchKey":
                return b""
            raise
        return bytes(answer["Body"].read())

    def sizes(self, folder: str) -> dict[str, int]:
        """Name, from an s3:// folder on, and size of each object below it, in order."""
        bucket, prefix = split_s3(f"{folder}/")
        found = {}
        for item in self.pages("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=prefix):
            found[item["Key"].removeprefix(prefix)] = item["Size"]
        return found

    def command(self, *words: str) -> str:
        """A command for the user to copy, as the same identity in the same region."""
        command = f"python cloud/emr.py {' '.join(words)} --stack {self.stack}"
        command += f" --region {self.region}"
        if self.profile:
            command += f" --profile {self.profile}"
        return command
