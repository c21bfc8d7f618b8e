"""What the modules here share: exit codes, errors in one line with a hint, names on S3."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

try:
    import boto3  # noqa: F401
    from botocore import exceptions as failures
    from botocore.exceptions import BotoCoreError, ClientError
except ModuleNotFoundError as error:
    print(f"{error.name} is missing. Run: pip install -r cloud/requirements.txt", file=sys.stderr)
    sys.exit(2)

ROOT = Path(__file__).resolve().parents[1]
# as etl.py's
FAILED, SETTINGS, INTERRUPTED = 1, 2, 130
# a part of a request or of an answer
Json = dict[str, Any]


class Stop(Exception):
    """Ends the program with an exit code and one line that says what to do."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


def split_s3(uri: str) -> tuple[str, str]:
    """Bucket and key of an s3:// URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def pairs(items: Iterable[Json], kind: str = "") -> dict[str, str]:
    """AWS's lists of tags, outputs and parameters as a dictionary."""
    return {item[f"{kind}Key"]: item[f"{kind}Value"] for item in items}


SIGN_IN = "Sign in with `aws login`, `aws sso login` or `aws configure`, or give --profile."
DENIED = "You lack this right. The stack's launch policy has all the rights that you need."

SIGN_IN_ERRORS = (
    failures.NoCredentialsError,
    failures.PartialCredentialsError,
    failures.CredentialRetrievalError,
    failures.LoginError,
    failures.ProfileNotFound,
    failures.SSOError,
    failures.TokenRetrievalError,
)
# AWS's error codes of the same, and of missing rights
SIGN_IN_CODES = (
    "AuthFailure|Expired|InvalidAccessKey|InvalidClientToken|Signature|UnrecognizedClient"
)
DENIED_CODES = "AccessDenied|UnauthorizedOperation|403"

# EMR gives most of its reasons as text alone.  A hint follows the text and decides nothing.
HINTS = {
    "[Bb]lock ?[Pp]ublic ?[Aa]ccess": "Give the stack private Subnets.",
    "[Ii]nsufficient.{0,20}capacity|not supported in the requested": (
        "AWS is out of these instances. Name several with --instance-types A,B, or add Subnets."
    ),
    "vCPU|[Qq]uota|[Ll]imit exceeded": "Raise the quota in Service Quotas, or lower --count.",
    "bootstrap action": "The nodes need a route to S3, for example a gateway endpoint.",
    "InstanceProfile|service is invalid": "New roles take a minute to reach EMR. Try again.",
    "[Ss]ubnet|VPC": "Tag the subnets and their VPC as docs/emr.md says.",
}


def error_code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def sentence(text: str) -> str:
    """A text of AWS in one line, with a full stop."""
    text = " ".join(text.split())
    return text if text.endswith((".", "!")) else f"{text}."


def with_hint(text: str) -> str:
    """The text of an error or a reason, and what to do about it if that is known."""
    text = sentence(text)
    for pattern, hint in HINTS.items():
        if re.search(pattern, text):
            return f"{text} {hint}"
    return text


def explain(error: BotoCoreError | ClientError) -> Stop:
    """The exit code and the line of an error of AWS or boto3."""
    text = sentence(str(error))
    code = error_code(error) if isinstance(error, ClientError) else ""
    if isinstance(error, SIGN_IN_ERRORS) or re.search(SIGN_IN_CODES, code):
        return Stop(SETTINGS, f"{text} {SIGN_IN}")
    if re.search(DENIED_CODES, code):
        return Stop(SETTINGS, f"{text} {DENIED}")
    if isinstance(error, failures.ConnectionError | failures.HTTPClientError):
        return Stop(FAILED, f"{text} Check the network and --region.")
    return Stop(FAILED, with_hint(text))


def run_main(program: str, main: Callable[[], int]) -> int:
    """Runs a program's main, says on stderr what went wrong, and returns the exit code."""
    # a CI system that cancels its job sends SIGTERM; it is to act like Ctrl-C
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return main()
    except KeyboardInterrupt:
        stop = Stop(INTERRUPTED, "Interrupted.")
    except Stop as error:
        stop = error
    except (BotoCoreError, ClientError) as error:
        stop = explain(error)
    print(f"{program}: {stop}", file=sys.stderr)
    return stop.code
