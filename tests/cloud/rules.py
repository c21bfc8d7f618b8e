"""What AWS refuses, by its own documents; an emulation that takes anything would hide it."""

import re
import shlex
from typing import NamedTuple

from botocore.exceptions import ClientError


class Rule(NamedTuple):
    """A condition on one operation's parameters, and where AWS says so."""

    operation: str
    text: str
    source: str
    # a function of the parameters
    holds: object


def spark_settings(request: dict) -> dict:
    """The --conf of a serverless run."""
    words = shlex.split(request["jobDriver"]["sparkSubmit"]["sparkSubmitParameters"])
    pairs = [word.partition("=") for word in words if word != "--conf"]
    return {name: value for name, _, value in pairs}


def starts_no_more_executors_than_it_may_have(request):
    settings = spark_settings(request)
    most = int(settings["spark.dynamicAllocation.maxExecutors"])
    first = int(settings["spark.dynamicAllocation.initialExecutors"])
    return max(first, int(settings["spark.executor.instances"])) <= most


def bootstrap_arguments_are_plain(request):
    actions = [action["ScriptBootstrapAction"] for action in request["BootstrapActions"]]
    words = [word for action in actions for word in action["Args"]]
    return not any(re.search(r"[\s<>|&;$`'\"*?()]", word) for word in words)


RULES = [
    Rule(
        "StartJobRun",
        "initialExecutors must be between minExecutors and maxExecutors",
        "github.com/aws-samples/aws-emr-utilities, pull request 175",
        starts_no_more_executors_than_it_may_have,
    ),
    Rule(
        "RunJobFlow",
        "AmazonEMRServicePolicy_v2 may not act on this cluster",
        "EMR Management Guide, Service role for Amazon EMR",
        lambda request: (
            {"Key": "for-use-with-amazon-emr-managed-policies", "Value": "true"} in request["Tags"]
        ),
    ),
    Rule(
        "RunJobFlow",
        "a shell may read the arguments of a bootstrap action",
        "not documented either way",
        bootstrap_arguments_are_plain,
    ),
    Rule(
        "RunJobFlow",
        "IdleTimeout is out of range",
        "EMR API Reference, AutoTerminationPolicy",
        lambda request: 60 <= request["AutoTerminationPolicy"]["IdleTimeout"] <= 604_800,
    ),
]


def breaches(shape, value, where=""):
    """What botocore's own model says against a value: it has patterns, limits and enumerations."""
    if shape.type_name == "structure":
        for name, part in value.items():
            yield from breaches(shape.members[name], part, f"{where}.{name}")
    elif shape.type_name == "list":
        for part in value:
            yield from breaches(shape.member, part, f"{where}[]")
    elif shape.type_name == "map":
        for name, part in value.items():
            yield from breaches(shape.key, name, where)
            yield from breaches(shape.value, part, f"{where}.{name}")
    if shape.type_name == "string":
        allowed = shape.metadata.get("enum")
        if allowed and value not in allowed:
            yield f"{where}: {value} is none of {allowed}"
        if len(value) > shape.metadata.get("max", len(value)):
            yield f"{where}: longer than {shape.metadata['max']}"
        # those with \u are Java's, and too wide to be broken here
        pattern = shape.metadata.get("pattern", "")
        is_known = "\\u" not in pattern and "\\p" not in pattern
        if pattern and is_known and not re.search(f"^(?:{pattern})$", value, re.DOTALL):
            yield f"{where}: {value} does not match {pattern}"
    elif shape.type_name in ("list", "map") and len(value) > shape.metadata.get("max", len(value)):
        yield f"{where}: more than {shape.metadata['max']}"


def enforce(service_model, operation: str, parameters: dict) -> None:
    """Raises what AWS answers to parameters that it does not take."""
    shape = service_model.operation_model(operation).input_shape
    found = list(breaches(shape, parameters)) if shape else []
    for rule in RULES:
        if rule.operation == operation and not rule.holds(parameters):
            found.append(f"{rule.text} ({rule.source})")
    if found:
        answer = {
            "Error": {"Code": "ValidationException", "Message": "; ".join(found)},
            "ResponseMetadata": {"HTTPStatusCode": 400},
        }
        raise ClientError(answer, operation)
