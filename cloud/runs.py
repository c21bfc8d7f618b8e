"""A run of the job on either kind: its state, and what is said if AWS's answer was lost."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import NamedTuple

from aws import FAILED, INTERRUPTED, Stop
from botocore.exceptions import ClientError, HTTPClientError
from stack import Lake


class State(NamedTuple):
    """Where a run is.  `reason` is the service's own text."""

    text: str
    ended: bool
    succeeded: bool
    reason: str
    # when the job itself began
    started: datetime
    # s3:// folder of the driver's log
    log: str


class Running(NamedTuple):
    """A run that has not ended, as the service lists it."""

    id: str
    name: str
    state: str
    since: datetime

    def __str__(self) -> str:
        return f"{self.id} {self.state} since {self.since.astimezone(UTC):%F %T} UTC"


def new_name(lake: Lake) -> str:
    """A name that no other run has, by which a run is found if AWS's answer was lost."""
    return f"{lake.stack}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def unwatched(lake: Lake, id: str) -> str:
    text = f"{id} may still be running, and costs money."
    watch, end = lake.command("wait", id), lake.command("terminate", id)
    return f"{text} Watch it with `{watch}`, or end it with `{end}`."


def may_have_started(error: BaseException) -> bool:
    """Whether AWS may have done what was asked, although no answer says so."""
    if isinstance(error, ClientError):
        return bool(error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500)
    return isinstance(error, HTTPClientError | KeyboardInterrupt)


def answer_lost(lake: Lake, error: BaseException, name: str) -> Stop:
    code = INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED
    text = f"AWS did not answer. Run {name} may have started, and costs money."
    look = f"Look for it with `{lake.command('status')}`, and end it with `terminate ID`."
    return Stop(code, f"{text} {look}")
