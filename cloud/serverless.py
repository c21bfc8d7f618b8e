"""The job on the stack's EMR Serverless application, which costs nothing while it is idle."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Iterator

from aws import Json
from runs import Running, State
from stack import Lake
from upload import upload_code

ACTIVE = ["SUBMITTED", "PENDING", "SCHEDULED", "QUEUED", "RUNNING", "CANCELLING"]


def prepare(lake: Lake, options: Namespace, name: str) -> Json:
    """StartJobRun: a run that ends after --max-hours at the latest."""
    code = upload_code(lake, "ARM64")
    # a run starts with three executors unless told otherwise, and fails if that is over the limit
    first = str(min(3, options.count))
    # besides these, the application's own settings in lake.yaml hold
    settings = {
        "spark.archives": f"{code}/packages.zip#packages",
        "spark.executor.instances": first,
        "spark.dynamicAllocation.initialExecutors": first,
        "spark.dynamicAllocation.maxExecutors": str(options.count),
    }
    settings.update(options.conf)
    words = [f"--conf {shlex.quote(f'{key}={value}')}" for key, value in settings.items()]
    submit = {
        "entryPoint": f"{code}/etl.py",
        "entryPointArguments": [*lake.arguments, *options.job],
        "sparkSubmitParameters": " ".join(words),
    }
    return {
        "applicationId": lake.outputs["Application"],
        "executionRoleArn": lake.outputs["JobRole"],
        "name": name,
        "executionTimeoutMinutes": max(5, round(options.max_hours * 60)),
        "jobDriver": {"sparkSubmit": submit},
        "tags": lake.tags,
    }


def start(lake: Lake, request: Json) -> str:
    # repeated without harm: boto3 adds a token that keeps one request from starting two runs
    answer = lake.client("emr-serverless").start_job_run(**request)
    return str(answer["jobRunId"])


def state(lake: Lake, id: str) -> State:
    application = lake.outputs["Application"]
    wanted = {"applicationId": application, "jobRunId": id}
    run = lake.client("emr-serverless").get_job_run(**wanted)["jobRun"]
    return State(
        text=run["state"],
        ended=run["state"] in ("SUCCESS", "FAILED", "CANCELLED"),
        succeeded=run["state"] == "SUCCESS",
        reason=run.get("stateDetails", ""),
        started=run["createdAt"],
        log=f"{lake.logs}/applications/{application}/jobs/{id}/SPARK_DRIVER",
    )


def running(lake: Lake) -> Iterator[Running]:
    wanted = {"applicationId": lake.outputs["Application"], "states": ACTIVE}
    for run in lake.pages("emr-serverless", "list_job_runs", "jobRuns", **wanted):
        yield Running(run["id"], run.get("name", ""), run["state"], run["createdAt"])


def terminate(lake: Lake, id: str) -> None:
    wanted = {"applicationId": lake.outputs["Application"], "jobRunId": id}
    lake.client("emr-serverless").cancel_job_run(**wanted)
