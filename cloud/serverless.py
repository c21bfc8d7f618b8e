"""The job on EMR Serverless: workers by the second, and an application that costs nothing idle."""

from __future__ import annotations

import shlex

import aws as cloud
import iam
from aws import FAILED, Aws, Stop, explain
from runs import POLL_SECONDS, State, in_utc, job_arguments, lost_answers_said
from upload import PYTHON, Code, upload_code

# EMR Serverless starts so many executors at first; more than the most allowed fails at once
FIRST_EXECUTORS = 3
# of the driver and each executor; Spark's overhead of a tenth comes on top of the heap
CORES, MEMORY = 4, "14g"
# EMR Serverless has larger disks as shuffle-optimized ones only
LARGEST_STANDARD_DISK = 200
ACTIVE = ["SUBMITTED", "PENDING", "SCHEDULED", "QUEUED", "RUNNING", "CANCELLING"]


# ── What is asked for ────────────────────────────────────────────────────────────────────────────


def spark_settings(options, code: Code, region: str) -> dict[str, str]:
    first = str(min(FIRST_EXECUTORS, options.count))
    driver = "spark.emr-serverless.driverEnv"
    settings = {
        "spark.archives": f"{code.packages}#packages",
        f"{driver}.PYTHONPATH": "packages",
        f"{driver}.AWS_DEFAULT_REGION": region,
        f"{driver}.PYSPARK_DRIVER_PYTHON": PYTHON,
        f"{driver}.PYSPARK_PYTHON": PYTHON,
        "spark.dynamicAllocation.initialExecutors": first,
        "spark.executor.instances": first,
        "spark.dynamicAllocation.maxExecutors": str(options.count),
        "spark.driver.cores": str(CORES),
        "spark.driver.memory": options.driver_memory or MEMORY,
        "spark.executor.cores": str(CORES),
        "spark.executor.memory": MEMORY,
    }
    if options.disk:
        for worker in ("driver", "executor"):
            settings[f"spark.emr-serverless.{worker}.disk"] = f"{options.disk}g"
            if options.disk > LARGEST_STANDARD_DISK:
                settings[f"spark.emr-serverless.{worker}.disk.type"] = "shuffle_optimized"
    settings.update(options.conf)
    return settings


def run_request(aws: Aws, options, application: str, code: Code) -> dict:
    """StartJobRun: one run of etl.py, which ends with it or after --max-hours."""
    settings = spark_settings(options, code, aws.region)
    words = [f"--conf {shlex.quote(f'{name}={value}')}" for name, value in settings.items()]
    return {
        "applicationId": application,
        "executionRoleArn": f"arn:aws:iam::{aws.account}:role/{options.name}-job",
        "name": options.name,
        "executionTimeoutMinutes": max(1, round(options.max_hours * 60)),
        "jobDriver": {
            "sparkSubmit": {
                "entryPoint": code.script,
                "entryPointArguments": job_arguments(options),
                "sparkSubmitParameters": " ".join(words),
            }
        },
        "configurationOverrides": {
            "monitoringConfiguration": {"s3MonitoringConfiguration": {"logUri": f"{options.log}/"}}
        },
        "tags": {**iam.all_tags(options.name), **dict(options.tag)},
    }


# ── Starting ─────────────────────────────────────────────────────────────────────────────────────


def application_name(name: str, release: str, architecture: str) -> str:
    return f"{name}-{release}-{architecture.lower()}"


def applications(aws: Aws, name: str) -> list[dict]:
    """This lake's applications that were not ended for good."""
    return [
        item
        for item in aws.each("emr-serverless", "list_applications", "applications")
        if item["name"].startswith(f"{name}-emr-") and item["state"] != "TERMINATED"
    ]


def application_of(aws: Aws, options) -> str:
    """The application for a release and an architecture, made if there is none."""
    name = application_name(options.name, options.release, options.architecture)
    for item in applications(aws, options.name):
        if item["name"] == name:
            return item["id"]
    request = {
        "name": name,
        "releaseLabel": options.release,
        "type": "SPARK",
        "architecture": options.architecture,
        "autoStopConfiguration": {"enabled": True, "idleTimeoutMinutes": 1},
        "tags": iam.all_tags(options.name),
    }
    if options.max_vcpu:
        workers = options.max_vcpu // CORES
        request["maximumCapacity"] = {
            "cpu": f"{workers * CORES} vCPU",
            "memory": f"{workers * CORES * 4} GB",
            "disk": f"{workers * (options.disk or 20)} GB",
        }
    application = aws.change("emr-serverless", "create_application", **request)["applicationId"]
    if not aws.dry_run:
        wait_for(aws, application)
    return application


def wait_for(aws: Aws, application: str) -> None:
    """Waits until a new application takes runs."""
    wanted = {"applicationId": application}
    while True:
        made = aws.ask("emr-serverless", "get_application", **wanted)["application"]
        if made["state"] in ("CREATED", "STARTED", "STOPPED"):
            return
        if made["state"] == "TERMINATED":
            reason = explain(made.get("stateDetails", "it was ended at once"))
            raise Stop(FAILED, f"application {application} was not made: {reason}")
        cloud.pause(POLL_SECONDS)


def start(aws: Aws, options) -> str:
    """Returns APPLICATION/RUN of the new run."""
    code = upload_code(aws, options.work, options.architecture)
    application = application_of(aws, options)
    request = run_request(aws, options, application, code)
    with lost_answers_said(aws, "StartJobRun", f"a run on application {application}"):
        # repeated without harm: boto3 adds a token that keeps one request from starting two runs
        run = aws.change("emr-serverless", "start_job_run", **request)
    return f"{application}/{run['jobRunId']}"


# ── Watching ─────────────────────────────────────────────────────────────────────────────────────


def described(aws: Aws, id: str) -> dict:
    application, run = id.split("/")
    wanted = {"applicationId": application, "jobRunId": run}
    return aws.ask("emr-serverless", "get_job_run", **wanted)["jobRun"]


def state(aws: Aws, id: str) -> State:
    application, run = id.split("/")
    found = described(aws, id)
    monitoring = found.get("configurationOverrides", {}).get("monitoringConfiguration", {})
    log = monitoring.get("s3MonitoringConfiguration", {}).get("logUri", "").rstrip("/")
    submit = found.get("jobDriver", {}).get("sparkSubmit", {})
    return State(
        text=found["state"],
        ended=found["state"] in ("SUCCESS", "FAILED", "CANCELLED"),
        succeeded=found["state"] == "SUCCESS",
        reason=found.get("stateDetails", ""),
        started=found["createdAt"],
        arguments=submit.get("entryPointArguments", []),
        logs=f"{log}/applications/{application}/jobs/{run}/SPARK_DRIVER" if log else "",
    )


def console(aws: Aws, id: str) -> str:
    """Where a browser shows Spark's own pages of the run; the link is good for an hour."""
    application, run = id.split("/")
    wanted = {"applicationId": application, "jobRunId": run}
    return aws.ask("emr-serverless", "get_dashboard_for_job_run", **wanted)["url"]


def listed(aws: Aws, name: str) -> list[str]:
    """A line for each run of this lake that has not ended."""
    found = []
    for item in applications(aws, name):
        wanted = {"applicationId": item["id"], "states": ACTIVE}
        for run in aws.each("emr-serverless", "list_job_runs", "jobRuns", **wanted):
            since = in_utc(run["createdAt"])
            found.append(f"{item['id']}/{run['id']} {run['state']} since {since}")
    return found


def terminate(aws: Aws, id: str) -> None:
    application, run = id.split("/")
    aws.change("emr-serverless", "cancel_job_run", applicationId=application, jobRunId=run)
