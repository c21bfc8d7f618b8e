"""What AWS refuses, by its own documents; a simulator that takes anything would hide it."""

import json
import re
import shlex
from typing import NamedTuple

from botocore.exceptions import ClientError


class Rule(NamedTuple):
    """A condition on one operation's parameters, and where AWS says so."""

    operation: str
    text: str
    source: str
    holds: object  # a function of the parameters


def spark_settings(request: dict) -> dict:
    """The --conf of a serverless run."""
    words = shlex.split(request["jobDriver"]["sparkSubmit"]["sparkSubmitParameters"])
    pairs = [word.partition("=") for word in words if word != "--conf"]
    return {name: value for name, _, value in pairs}


def starts_no_more_executors_than_it_may_have(request):
    settings = spark_settings(request)
    most = int(settings.get("spark.dynamicAllocation.maxExecutors", 1000))
    first = int(settings.get("spark.dynamicAllocation.initialExecutors", 3))
    instances = int(settings.get("spark.executor.instances", 3))
    return max(first, instances) <= most


def has_workers_of_a_known_size(request):
    settings = spark_settings(request)
    memory = {4: range(8, 31), 8: range(16, 61, 4)}
    for worker in ("driver", "executor"):
        cores = int(settings[f"spark.{worker}.cores"])
        heap = int(settings[f"spark.{worker}.memory"].removesuffix("g"))
        overhead = max(0.1 * heap, 0.375)
        if -(-(heap + overhead) // 1) not in memory[cores]:
            return False
    return True


def has_disks_of_a_known_size(request):
    settings = spark_settings(request)
    for worker in ("driver", "executor"):
        size = int(settings.get(f"spark.emr-serverless.{worker}.disk", "20g").removesuffix("g"))
        kind = settings.get(f"spark.emr-serverless.{worker}.disk.type", "standard")
        if not 20 <= size <= (2000 if kind == "shuffle_optimized" else 200):
            return False
    return True


def is_plain(word: str) -> bool:
    return not re.search(r"[\s<>|&;$`'\"*?()]", word)


def bootstrap_arguments_are_plain(request):
    actions = request.get("BootstrapActions", [])
    words = [word for action in actions for word in action["ScriptBootstrapAction"]["Args"]]
    return all(map(is_plain, words))


def is_tagged_for_emr(request):
    tag = {"Key": "for-use-with-amazon-emr-managed-policies", "Value": "true"}
    return tag in request["Tags"]


def spot_waits_within_limits(request):
    for fleet in request["Instances"].get("InstanceFleets", []):
        spot = fleet.get("LaunchSpecifications", {}).get("SpotSpecification")
        if spot and not 5 <= spot["TimeoutDurationMinutes"] <= 1440:
            return False
    return True


def size(document: str) -> int:
    """IAM does not count white space outside texts."""
    return len(json.dumps(json.loads(document), separators=(",", ":")))


def tags_are_short_and_plain(request):
    tags = request.get("Tags", [])
    return all(
        re.fullmatch(r"[\w\s.:/=+\-@]{1,128}", tag["Key"])
        and re.fullmatch(r"[\w\s.:/=+\-@]{0,256}", tag["Value"])
        for tag in tags
    )


SERVERLESS = "EMR Serverless User Guide, "
EMR = "EMR API Reference, "
IAM = "IAM User Guide, IAM and AWS STS quotas"
RULES = [
    Rule(
        "StartJobRun",
        "initialExecutors must be between minExecutors and maxExecutors",
        "github.com/aws-samples/aws-emr-utilities, pull request 175",
        starts_no_more_executors_than_it_may_have,
    ),
    Rule(
        "StartJobRun",
        "the worker's size is not supported",
        SERVERLESS + "Supported worker configurations",
        has_workers_of_a_known_size,
    ),
    Rule(
        "StartJobRun",
        "the worker's disk is not supported",
        SERVERLESS + "Using shuffle-optimized disks",
        has_disks_of_a_known_size,
    ),
    Rule(
        "RunJobFlow",
        "VisibleToAllUsers is no longer supported",
        EMR + "RunJobFlow",
        lambda request: "VisibleToAllUsers" not in request,
    ),
    Rule(
        "RunJobFlow",
        "AmazonEMRServicePolicy_v2 may not act on this cluster",
        "EMR Management Guide, Service role for Amazon EMR",
        is_tagged_for_emr,
    ),
    Rule(
        "RunJobFlow",
        "the spot timeout is out of range",
        EMR + "SpotProvisioningSpecification",
        spot_waits_within_limits,
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
        EMR + "AutoTerminationPolicy",
        lambda request: 60 <= request["AutoTerminationPolicy"]["IdleTimeout"] <= 604_800,
    ),
    Rule(
        "CreatePolicy",
        "a managed policy has 6,144 characters at most",
        IAM,
        lambda request: size(request["PolicyDocument"]) <= 6144,
    ),
    Rule(
        "PutRolePolicy",
        "the policies in a role have 10,240 characters at most",
        IAM,
        lambda request: size(request["PolicyDocument"]) <= 10_240,
    ),
    Rule("CreateRole", "a tag is not valid", IAM, tags_are_short_and_plain),
    Rule(
        "StartQueryExecution",
        "a query has 262,144 bytes at most",
        "Athena User Guide, Service Quotas",
        lambda request: len(request["QueryString"].encode()) <= 262_144,
    ),
    Rule(
        "CreateDatabase",
        "Athena takes lower case letters, digits and _",
        "Athena User Guide, Name databases, tables, and columns",
        lambda request: re.fullmatch(r"[a-z0-9_]+", request["DatabaseInput"]["Name"]),
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
