"""The job on an EMR cluster: one that is made for it and ends with it, or one that runs already."""

from __future__ import annotations

import re
import shlex
from contextlib import suppress

import iam
from aws import INTERRUPTED, SETTINGS, Aws, BotoCoreError, ClientError, Stop
from botocore.exceptions import HTTPClientError
from runs import (
    State,
    an_hour_ago,
    answer_lost,
    in_utc,
    job_arguments,
    key_values,
    lost_answers_said,
    new_name,
    unwatched,
    was_refused,
)
from upload import PYTHON, Code, upload_code

# of a new cluster's nodes
PACKAGES = "/opt/sparkify"
IDLE_SECONDS = 3600
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "INTERRUPTED"}
CLUSTER_ENDED = {"TERMINATED", "TERMINATED_WITH_ERRORS"}
CLUSTER_ACTIVE = ["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING", "TERMINATING"]


# ── What is asked for ────────────────────────────────────────────────────────────────────────────


def architecture(instance_types: str) -> str:
    """Of the nodes: the names of Graviton's families have a g after their number, as in m7g."""
    names = instance_types.split(",")
    kinds = {"ARM64" if re.match(r"[a-z]+\d+g", name) else "X86_64" for name in names}
    if len(kinds) > 1:
        remedy = "name types of one architecture"
        raise Stop(SETTINGS, f"--instance-types {instance_types}: Graviton and x86; {remedy}")
    return kinds.pop()


def fleet(kind: str, options, on_demand: int, spot: int) -> dict:
    """The master's or the other nodes: any of the instance types, whichever there are."""
    types = []
    for name in options.instance_types.split(","):
        each = {"InstanceType": name, "WeightedCapacity": 1}
        if options.disk:
            volume = {"VolumeType": "gp3", "SizeInGB": options.disk}
            devices = [{"VolumeSpecification": volume, "VolumesPerInstance": 1}]
            each["EbsConfiguration"] = {"EbsBlockDeviceConfigs": devices}
        types.append(each)
    asked = {
        "Name": kind.lower(),
        "InstanceFleetType": kind,
        "InstanceTypeConfigs": types,
        "TargetOnDemandCapacity": on_demand,
        "TargetSpotCapacity": spot,
    }
    if spot:
        # if there are none within ten minutes, on-demand instances take their place
        patience = {
            "TimeoutDurationMinutes": 10,
            "TimeoutAction": "SWITCH_TO_ON_DEMAND",
            "AllocationStrategy": "price-capacity-optimized",
        }
        asked["LaunchSpecifications"] = {"SpotSpecification": patience}
    return asked


def spark_submit(options, code: Code, region: str) -> list[str]:
    """The step's command, quoted for a shell, to which EMR hands it as its own tool assumes."""
    # YARN would run a job that failed a second time
    settings = {"spark.yarn.maxAppAttempts": "1"}
    if options.deploy_mode == "client":
        settings["spark.pyspark.driver.python"] = PYTHON
        command = ["env", f"PYTHONPATH={PACKAGES}", f"AWS_DEFAULT_REGION={region}"]
    else:
        settings["spark.yarn.dist.archives"] = f"{code.packages}#packages"
        settings["spark.yarn.appMasterEnv.PYTHONPATH"] = "packages"
        settings["spark.yarn.appMasterEnv.AWS_DEFAULT_REGION"] = region
        settings["spark.yarn.appMasterEnv.PYSPARK_PYTHON"] = PYTHON
        command = ["env"]
    if options.driver_memory:
        settings["spark.driver.memory"] = options.driver_memory
    settings.update(options.conf)
    seconds = round(options.max_hours * 3600)
    command += ["timeout", "--kill-after=60", str(seconds)]
    command += ["spark-submit", "--deploy-mode", options.deploy_mode]
    for name, value in settings.items():
        command += ["--conf", f"{name}={value}"]
    return [shlex.quote(word) for word in [*command, code.script, *job_arguments(options)]]


def step(options, code: Code, region: str, on_failure: str) -> dict:
    return {
        "Name": options.name,
        "ActionOnFailure": on_failure,
        "HadoopJarStep": {
            "Jar": "command-runner.jar",
            "Args": spark_submit(options, code, region),
        },
    }


def cluster_request(options, region: str, subnets: list[str], code: Code) -> dict:
    """RunJobFlow: a cluster that ends with its one step, and after an idle hour anyhow."""
    spot = round(options.count * options.spot)
    tags = {**iam.all_tags(options.name), **dict(options.tag)}
    request = {
        "Name": new_name(options.name),
        "ReleaseLabel": options.release,
        "Applications": [{"Name": "Spark"}],
        "LogUri": f"{options.log}/",
        "ServiceRole": f"{options.name}-service",
        "JobFlowRole": f"{options.name}-job",
        "Instances": {
            "InstanceFleets": [
                fleet("MASTER", options, 1, 0),
                fleet("CORE", options, options.count - spot, spot),
            ],
            "Ec2SubnetIds": subnets,
            "KeepJobFlowAliveWhenNoSteps": False,
            "TerminationProtected": False,
        },
        "AutoTerminationPolicy": {"IdleTimeout": IDLE_SECONDS},
        "Steps": [step(options, code, region, "TERMINATE_CLUSTER")],
        "Tags": key_values(tags),
    }
    if options.deploy_mode == "client":
        install = {"Path": code.bootstrap, "Args": [code.packages, PACKAGES]}
        request["BootstrapActions"] = [
            {"Name": "packages of the driver", "ScriptBootstrapAction": install}
        ]
    return request


def tagged_subnets(aws: Aws, name: str) -> list[str]:
    """The subnets that `setup` tagged for this lake."""
    filters = [{"Name": "tag-key", "Values": list(iam.subnet_tag(name))}]
    found = aws.each("ec2", "describe_subnets", "Subnets", Filters=filters)
    return [subnet["SubnetId"] for subnet in found]


def subnets_of(aws: Aws, options) -> list[str]:
    """The subnets that EMR may choose from: those named, else those that `setup` tagged."""
    found = options.subnet or tagged_subnets(aws, options.name)
    if not found:
        remedy = "run `emr.py setup`, or name one with --subnet"
        raise Stop(SETTINGS, f"{aws.region}: no subnet is tagged for {options.name}; {remedy}")
    return found


# ── Starting ─────────────────────────────────────────────────────────────────────────────────────


def start(aws: Aws, options) -> str:
    """Returns the ID of the new run."""
    if options.cluster:
        return add_step(aws, options)
    subnets = subnets_of(aws, options)
    code = upload_code(aws, options.work, architecture(options.instance_types))
    request = cluster_request(options, aws.region, subnets, code)
    try:
        # once only: RunJobFlow has no token that keeps a repeated request from starting another
        return aws.change("emr", "run_job_flow", attempts=1, **request)["JobFlowId"]
    except (HTTPClientError, ClientError, KeyboardInterrupt) as error:
        if was_refused(error):
            raise
        return look_for(aws, request["Name"], error)


def look_for(aws: Aws, name: str, error: BaseException) -> str:
    """The ID of a cluster that was asked for, and whose ID was lost with the answer."""
    found = []
    # if the list cannot be had either, the cluster is named below
    with suppress(ClientError, BotoCoreError, KeyboardInterrupt):
        listed = aws.each("emr", "list_clusters", "Clusters", CreatedAfter=an_hour_ago())
        found = [item["Id"] for item in listed if item["Name"] == name]
    if not found:
        raise answer_lost(aws, error, "RunJobFlow", f"a cluster {name}") from None
    if isinstance(error, KeyboardInterrupt):
        raise Stop(INTERRUPTED, unwatched(aws, found[0])) from None
    aws.say(f"the answer to RunJobFlow was lost, but {found[0]} was started")
    return found[0]


def add_step(aws: Aws, options) -> str:
    """A step of a cluster that runs already and stays; its nodes fetch the packages themselves."""
    described = aws.ask("emr", "describe_cluster", ClusterId=options.cluster)["Cluster"]
    if described["Status"]["State"] not in ("RUNNING", "WAITING"):
        remedy = "name one that is RUNNING or WAITING"
        raise Stop(SETTINGS, f"{options.cluster} is {described['Status']['State']}; {remedy}")
    listed = aws.each(
        "emr", "list_instances", "Instances", ClusterId=options.cluster, InstanceStates=["RUNNING"]
    )
    types = ",".join(sorted({item["InstanceType"] for item in listed if "InstanceType" in item}))
    code = upload_code(aws, options.work, architecture(types or options.instance_types))
    asked = [step(options, code, aws.region, "CONTINUE")]
    with lost_answers_said(aws, "AddJobFlowSteps", f"a step of {options.cluster}"):
        answer = aws.change(
            "emr", "add_job_flow_steps", attempts=1, JobFlowId=options.cluster, Steps=asked
        )
    return f"{options.cluster}/{answer['StepIds'][0] if answer else '<StepId>'}"


# ── Watching ─────────────────────────────────────────────────────────────────────────────────────


def state(aws: Aws, id: str) -> State:
    """Where the job is on its cluster; a cluster's newest step counts unless one is named."""
    cluster, _, wanted = id.partition("/")
    described = aws.ask("emr", "describe_cluster", ClusterId=cluster)["Cluster"]
    chosen = {"StepIds": [wanted]} if wanted else {}
    steps = list(aws.each("emr", "list_steps", "Steps", ClusterId=cluster, **chosen))
    if not steps:
        remedy = "`emr.py status` lists the clusters that have"
        raise Stop(SETTINGS, f"{cluster} has no step of this job; {remedy}")
    cluster_status = described["Status"]
    step_status = steps[0]["Status"]
    failure = step_status.get("FailureDetails", {})
    reasons = [
        cluster_status.get("StateChangeReason", {}).get("Message"),
        failure.get("Reason"),
        failure.get("Message"),
    ]
    created = cluster_status["Timeline"]["CreationDateTime"]
    step_ended = step_status["State"] in ENDED
    logs = described.get("LogUri", "").replace("s3n://", "s3://")
    return State(
        text=f"cluster {cluster_status['State']}, step {step_status['State']}",
        ended=step_ended or cluster_status["State"] in CLUSTER_ENDED,
        succeeded=step_status["State"] == "COMPLETED",
        reason=" ".join(filter(None, reasons)),
        started=step_status.get("Timeline", {}).get("StartDateTime") or created,
        arguments=shlex.split(" ".join(steps[0]["Config"]["Args"])),
        logs=f"{logs}{cluster}/steps/{steps[0]['Id']}" if logs else "",
    )


def console(aws: Aws, id: str) -> str:
    """Where a browser shows the cluster, its steps and Spark's own pages."""
    cluster = id.partition("/")[0]
    home = f"https://{aws.region}.console.aws.amazon.com/emr/home?region={aws.region}"
    return f"{home}#/clusterDetails/{cluster}"


def listed(aws: Aws, name: str) -> list[str]:
    """A line for each cluster of this lake that has not ended."""
    found = []
    for item in aws.each("emr", "list_clusters", "Clusters", ClusterStates=CLUSTER_ACTIVE):
        if re.match(rf"{re.escape(name)}-\d{{8}}T", item["Name"]):
            since = item["Status"]["Timeline"]["CreationDateTime"]
            found.append(f"{item['Id']} {item['Status']['State']} since {in_utc(since)}")
    return found


def terminate(aws: Aws, id: str) -> None:
    cluster, _, step_id = id.partition("/")
    if step_id:
        # the cluster is somebody's who goes on using it
        cancel = {"ClusterId": cluster, "StepIds": [step_id]}
        option = {"StepCancellationOption": "TERMINATE_PROCESS"}
        aws.change("emr", "cancel_steps", **cancel, **option)
    else:
        aws.change("emr", "terminate_job_flows", JobFlowIds=[cluster])
