"""The job on an EMR cluster that is made for it and ends with it."""

from __future__ import annotations

import re
import shlex
from argparse import Namespace
from collections.abc import Iterator

from aws import SETTINGS, Json, Stop, pairs
from runs import Running, State
from stack import Lake
from upload import upload_code

# where bootstrap.sh puts the driver's Python and its packages
FOLDER = "/opt/sparkify"
IDLE_SECONDS = 3600
STEP_ENDED = {"COMPLETED", "FAILED", "CANCELLED", "INTERRUPTED"}
CLUSTER_ENDED = {"TERMINATED", "TERMINATED_WITH_ERRORS"}
CLUSTER_ACTIVE = ["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING", "TERMINATING"]


def architecture(instance_types: str) -> str:
    """Graviton's instance types have a g after their number, as in m7g."""
    names = instance_types.split(",")
    graviton = [name for name in names if re.match(r"[a-z]+\d+g", name)]
    if graviton and len(graviton) < len(names):
        text = f"--instance-types {instance_types} mixes Graviton and x86. Name types of one kind."
        raise Stop(SETTINGS, text)
    return "ARM64" if graviton else "X86_64"


def fleet(kind: str, instance_types: str, count: int) -> Json:
    """The primary node, or the others: any of the instance types that AWS has."""
    types = instance_types.split(",")
    return {
        "InstanceFleetType": kind,
        "TargetOnDemandCapacity": count,
        "InstanceTypeConfigs": [{"InstanceType": name, "WeightedCapacity": 1} for name in types],
    }


def spark_submit(lake: Lake, options: Namespace, code: str) -> list[str]:
    """The step's command, each word quoted because EMR hands it to a shell."""
    settings = {
        "spark.pyspark.driver.python": f"{FOLDER}/python3",
        # YARN would run a failed job a second time
        "spark.yarn.maxAppAttempts": "1",
    }
    settings.update(options.conf)
    command = ["env", f"PYTHONPATH={FOLDER}/packages", f"AWS_DEFAULT_REGION={lake.region}"]
    command += ["timeout", "--kill-after=60", str(round(options.max_hours * 3600))]
    command += ["spark-submit", "--deploy-mode", "client"]
    for name, value in settings.items():
        command += ["--conf", f"{name}={value}"]
    command += [f"{code}/etl.py", *lake.arguments, *options.job]
    return [shlex.quote(word) for word in command]


def prepare(lake: Lake, options: Namespace, name: str) -> Json:
    """RunJobFlow: a cluster that ends with its one step, and after an idle hour in any case."""
    if "Subnets" not in lake.outputs:
        text = f"Stack {lake.stack} has no subnets for a cluster. Deploy it with Subnets=…"
        raise Stop(SETTINGS, f"{text} as docs/emr.md says, or use --serverless.")
    code = upload_code(lake, architecture(options.instance_types))
    tags = {**lake.tags, "for-use-with-amazon-emr-managed-policies": "true"}
    bootstrap = {"Path": f"{code}/bootstrap.sh", "Args": [f"{code}/packages.zip", FOLDER]}
    step = {"Jar": "command-runner.jar", "Args": spark_submit(lake, options, code)}
    return {
        "Name": name,
        "ReleaseLabel": lake.parameters["Release"],
        "Applications": [{"Name": "Spark"}],
        "LogUri": f"{lake.logs}/",
        "ServiceRole": lake.outputs["ServiceRole"],
        "JobFlowRole": lake.outputs["JobProfile"],
        "Instances": {
            "InstanceFleets": [
                fleet("MASTER", options.instance_types, 1),
                fleet("CORE", options.instance_types, options.count),
            ],
            "Ec2SubnetIds": lake.outputs["Subnets"].split(","),
            "KeepJobFlowAliveWhenNoSteps": False,
            "TerminationProtected": False,
        },
        "AutoTerminationPolicy": {"IdleTimeout": IDLE_SECONDS},
        "BootstrapActions": [{"Name": "packages", "ScriptBootstrapAction": bootstrap}],
        "Steps": [
            {"Name": "etl.py", "ActionOnFailure": "TERMINATE_CLUSTER", "HadoopJarStep": step}
        ],
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
    }


def start(lake: Lake, request: Json) -> str:
    # once only: RunJobFlow has no token that keeps a repeated request from starting another
    answer = lake.client("emr", attempts=1).run_job_flow(**request)
    return str(answer["JobFlowId"])


def state(lake: Lake, id: str) -> State:
    """Where the job is on its cluster."""
    cluster = lake.client("emr").describe_cluster(ClusterId=id)["Cluster"]
    if pairs(cluster.get("Tags", [])).get("application") != lake.stack:
        raise Stop(SETTINGS, f"{id} is no run of stack {lake.stack}. Correct the ID or --stack.")
    step = lake.client("emr").list_steps(ClusterId=id)["Steps"][0]
    reason = cluster["Status"].get("StateChangeReason", {}).get("Message", "")
    failure = step["Status"].get("FailureDetails", {}).get("Message", "")
    created = cluster["Status"]["Timeline"]["CreationDateTime"]
    cluster_state = cluster["Status"]["State"]
    step_state = step["Status"]["State"]
    return State(
        text=f"cluster {cluster_state}, step {step_state}",
        ended=step_state in STEP_ENDED or cluster_state in CLUSTER_ENDED,
        succeeded=step_state == "COMPLETED",
        reason=f"{reason} {failure}".strip(),
        started=step["Status"].get("Timeline", {}).get("StartDateTime") or created,
        log=f"{lake.logs}/{id}/steps/{step['Id']}",
    )


def running(lake: Lake) -> Iterator[Running]:
    for item in lake.pages("emr", "list_clusters", "Clusters", ClusterStates=CLUSTER_ACTIVE):
        if re.match(rf"{re.escape(lake.stack)}-\d{{8}}T", item["Name"]):
            status = item["Status"]
            since = status["Timeline"]["CreationDateTime"]
            yield Running(item["Id"], item["Name"], status["State"], since)


def terminate(lake: Lake, id: str) -> None:
    lake.client("emr").terminate_job_flows(JobFlowIds=[id])
