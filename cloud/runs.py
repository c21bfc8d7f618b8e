"""A run of the job on either kind: its ID, its state, and what is said if AWS's answer was lost.

ID is j-… or j-…/s-… for a cluster, and APPLICATION/RUN for EMR Serverless.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from aws import FAILED, INTERRUPTED, SETTINGS, Aws, ClientError, Stop
from botocore.exceptions import HTTPClientError

POLL_SECONDS = 15


class State(NamedTuple):
    """Where a run is.  `reason` is the service's own words."""

    text: str
    ended: bool
    succeeded: bool
    reason: str
    # when the job itself began, in UTC
    started: datetime
    # what the job was given
    arguments: list[str]
    # prefix of the driver's logs on S3; empty if this run keeps none
    logs: str

    @property
    def output(self) -> str:
        return words_after(self.arguments, "--output")

    @property
    def is_dry_run(self) -> bool:
        return "--dry-run" in self.arguments


def words_after(arguments: list[str], flag: str) -> str:
    """The word after a flag; empty if the flag is not there."""
    pairs = itertools.pairwise(arguments)
    return next((value for name, value in pairs if name == flag), "")


def run_id(value: str) -> str:
    if not re.fullmatch(r"j-\w+(/s-\w+)?|\w+/\w+", value):
        remedy = "name j-… or APPLICATION/RUN, as `emr.py status` prints it"
        raise Stop(SETTINGS, f"{value}: no run has such an ID; {remedy}")
    return value


def is_cluster(id: str) -> bool:
    return id.startswith("j-")


def new_name(name: str) -> str:
    """A name that no other cluster has, by which one is found whose answer was lost."""
    return f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def key_values(tags: dict[str, str]) -> list[dict]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def job_arguments(options) -> list[str]:
    return ["--input", options.input, "--output", options.output, *options.job]


def an_hour_ago() -> datetime:
    return datetime.now(UTC) - timedelta(hours=1)


def in_utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%F %T} UTC"


# ── Answers that were lost ───────────────────────────────────────────────────────────────────────


def was_refused(error: BaseException) -> bool:
    """Whether AWS surely did not do what was asked for; after a lost answer nobody knows."""
    if not isinstance(error, ClientError):
        return False
    return error.response["ResponseMetadata"]["HTTPStatusCode"] < 500


def unwatched(aws: Aws, id: str) -> str:
    end = f"`{aws.command_line('terminate', id)}` ends it"
    watch = f"`{aws.command_line('wait', id)}` watches it again"
    return f"no longer watched, but {id} may still run and be billed; {end}, {watch}"


def answer_lost(aws: Aws, error: BaseException, request: str, what: str) -> Stop:
    code = INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED
    look = f"look with `{aws.command_line('status')}`, and terminate it"
    return Stop(code, f"the answer to {request} was lost: {what} may yet start; {look}")


@contextmanager
def lost_answers_said(aws: Aws, request: str, what: str) -> Iterator[None]:
    """Around a request that starts something: says that it may have, if its answer is lost."""
    try:
        yield
    except (HTTPClientError, ClientError, KeyboardInterrupt) as error:
        if was_refused(error):
            raise
        raise answer_lost(aws, error, request, what) from None
