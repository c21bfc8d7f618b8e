"""Runs etl.py on EMR: a cluster that ends itself, or EMR Serverless.

    python cloud/emr.py setup --input s3://udacity-dend --output s3://BUCKET/lake     once an account
    python cloud/emr.py cost
    python cloud/emr.py run   --input s3://udacity-dend --output s3://BUCKET/lake

`run` uploads etl.py, starts the cluster, shows its state as it changes, and ends with the job's own summary and exit
code.  With --dry-run each command prints its requests and sends none.  ID is what `run` prints: j-… for a cluster,
APPLICATION/RUN for a serverless run.  What is after `--` goes to etl.py: `run … -- --force`.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import math
import re
import secrets
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import aws as cloud
import iam
from aws import FAILED, INTERRUPTED, NAME, SETTINGS, Aws, Stop, explain, join_key, split_s3
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

ROOT = Path(__file__).resolve().parents[1]
RELEASE = "emr-spark-8.1.0"  # Spark 4.1; emr-7.14.0 has Spark 3.5
PACKAGES = "/opt/sparkify"  # the driver's Python environment on the nodes
IDLE_SECONDS = 3600
POLL_SECONDS, LOG_WAITS = 15, 40  # EMR copies a step's log to S3 within five minutes
SERVERLESS_RATES = {
    "vCPU": 0.052624,
    "memoryGB": 0.0057785,
}  # USD an hour, us-east-1, x86, list price of 2025


def python_of(release: str) -> str:
    """The Python that runs the driver: every EMR 7 has 3.9, every EMR Spark 8 has 3.11."""
    return "python3.11" if release.startswith("emr-spark-") else "python3.9"


def requirements() -> list[str]:
    """What etl.py needs besides the cluster's own pyspark, as requirements.txt pins it."""
    lines = (ROOT / "requirements.txt").read_text().split()
    return [line for line in lines if not line.startswith("pyspark")]


def key_values(tags: dict) -> list[dict]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


# ── Code: under the hash of its content, so that a running job's never changes ───────────────────────────────────────


def upload(aws: Aws, options, name: str, content: bytes) -> str:
    """Puts a file below WORK/code/ and returns its URI."""
    bucket, prefix = split_s3(options.work)
    key = join_key(prefix, "code", hashlib.sha256(content).hexdigest()[:16], name)
    if aws.dry_run:
        content = f"<{name}, {len(content):,} bytes>"
    aws.send("s3", "put_object", Bucket=bucket, Key=key, Body=content)
    return f"s3://{bucket}/{key}"


def packed_requirements(python: str) -> bytes:
    """A zip of the requirements for serverless workers (Linux, x86-64), the same bytes each time."""
    version = python.removeprefix("python")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
    ]
    wheels = [
        "--only-binary=:all:",
        "--platform",
        "manylinux2014_x86_64",
        "--python-version",
        version,
    ]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*pip, *wheels, "--target", folder, *requirements()], stderr=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise Stop(
                SETTINGS,
                f"pip found no wheels of {', '.join(requirements())}: {done.stderr.strip()[-300:]}",
            )
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
                entry = zipfile.ZipInfo(str(path.relative_to(folder)))
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
        return packed.getvalue()


def job_arguments(options) -> list[str]:
    return ["--input", options.input, "--output", options.output, *options.job]


# ── A cluster ────────────────────────────────────────────────────────────────────────────────────────────────────────


def fleet(kind: str, options, on_demand: int, spot: int) -> dict:
    types = [
        {"InstanceType": name, "WeightedCapacity": 1} for name in options.instance_types.split(",")
    ]
    asked = {"Name": kind.lower(), "InstanceFleetType": kind, "InstanceTypeConfigs": types}
    asked.update(TargetOnDemandCapacity=on_demand, TargetSpotCapacity=spot)
    if spot:  # where there is none within ten minutes, on-demand instances take its place
        wait = {"TimeoutDurationMinutes": 10, "TimeoutAction": "SWITCH_TO_ON_DEMAND"}
        wait["AllocationStrategy"] = "price-capacity-optimized"
        asked["LaunchSpecifications"] = {"SpotSpecification": wait}
    return asked


def cluster_request(options, subnets: list[str], script: str, bootstrap: str) -> dict:
    """RunJobFlow: a cluster that ends with its one step, whatever becomes of it, and after an idle hour anyhow."""
    spot = round(options.count * options.spot)
    nodes = "all" if options.deploy_mode == "cluster" else "master"
    install = {
        "Path": bootstrap,
        "Args": [nodes, python_of(options.release), PACKAGES, *requirements()],
    }
    submit = ["spark-submit", "--deploy-mode", options.deploy_mode]
    for setting in (
        f"spark.pyspark.driver.python={PACKAGES}/bin/python",
        "spark.yarn.maxAppAttempts=1",
    ):
        submit += ["--conf", setting]
    step = {"Jar": "command-runner.jar", "Args": [*submit, script, *job_arguments(options)]}
    return {
        "Name": f"{NAME}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}",
        "ReleaseLabel": options.release,
        "Applications": [{"Name": "Spark"}],
        "LogUri": options.log.rstrip("/") + "/",
        "ServiceRole": iam.SERVICE_ROLE,
        "JobFlowRole": iam.JOB_ROLE,
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
        "BootstrapActions": [{"Name": "driver's packages", "ScriptBootstrapAction": install}],
        "Steps": [{"Name": NAME, "ActionOnFailure": "TERMINATE_CLUSTER", "HadoopJarStep": step}],
        "Tags": key_values({**iam.TAGS, **dict(options.tag)}),
        "VisibleToAllUsers": True,
    }


def subnets_of(aws: Aws, options) -> list[str]:
    """The subnets to choose from: those named, else those that `setup` tagged."""
    tagged = [{"Name": f"tag:{key}", "Values": [value]} for key, value in iam.FOR_EMR.items()]
    found = options.subnet or [
        item["SubnetId"] for item in aws.each("ec2", "describe_subnets", "Subnets", Filters=tagged)
    ]
    if not found:
        raise Stop(
            SETTINGS,
            f"{aws.region}: no subnet is tagged for EMR; run `emr.py setup`, or name one with --subnet",
        )
    return found


def was_refused(error: BaseException) -> bool:
    """Whether AWS surely did not do what was asked for; after a lost answer nobody knows."""
    return (
        isinstance(error, ClientError)
        and error.response["ResponseMetadata"]["HTTPStatusCode"] < 500
    )


def unwatched(aws: Aws, id: str) -> str:
    remedy = f"`{command_line('terminate', aws, id)}` ends it, `{command_line('status', aws, id)}` shows it"
    return f"no longer watched, but {id} may still run and be billed until the job ends; {remedy}"


def answer_lost(aws: Aws, error: BaseException, request: str, what: str) -> Stop:
    code = INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED
    look = f"look with `{command_line('status', aws)}`, and terminate it"
    return Stop(code, f"the answer to {request} was lost: {what} may yet start; {look}")


def start_cluster(aws: Aws, options) -> str:
    """Returns the new cluster's id."""
    subnets = subnets_of(aws, options)
    script = upload(aws, options, "etl.py", (ROOT / "etl.py").read_bytes())
    bootstrap = upload(aws, options, "bootstrap.sh", (ROOT / "cloud" / "bootstrap.sh").read_bytes())
    request = cluster_request(options, subnets, script, bootstrap)
    try:  # once only: RunJobFlow has no token that would keep a repeated request from starting a second cluster
        return aws.send("emr", "run_job_flow", attempts=1, **request)["JobFlowId"]
    except (HTTPClientError, ClientError, KeyboardInterrupt) as error:
        if was_refused(error):
            raise
        found = []
        with suppress(ClientError, BotoCoreError, KeyboardInterrupt):  # then it is named below
            listed = aws.each("emr", "list_clusters", "Clusters", CreatedAfter=an_hour_ago())
            found = [item["Id"] for item in listed if item["Name"] == request["Name"]]
        if found and isinstance(error, KeyboardInterrupt):
            raise Stop(INTERRUPTED, unwatched(aws, *found)) from None
        if found:
            print(f"the answer to RunJobFlow was lost, but {found[0]} was started")
            return found[0]
        raise answer_lost(aws, error, "RunJobFlow", f"a cluster {request['Name']}") from None


class State(NamedTuple):
    """Where a run is.  `started` is when the job itself began, in UTC; reason is the service's own words."""

    text: str
    ended: bool
    succeeded: bool
    reason: str
    started: datetime
    output: str
    logs: str  # prefix of the driver's logs on S3


def words_after(arguments: list[str], flag: str) -> str:
    return next((value for name, value in zip(arguments, arguments[1:]) if name == flag), "")


def cluster_state(aws: Aws, cluster: str) -> State:
    described = aws.send("emr", "describe_cluster", ClusterId=cluster)["Cluster"]
    steps = list(aws.each("emr", "list_steps", "Steps", ClusterId=cluster))
    if aws.dry_run:
        return State(
            "", True, True, "", an_hour_ago(), "s3://output", f"s3://log/{cluster}/steps/<StepId>"
        )
    if not steps:
        raise Stop(
            SETTINGS,
            f"{cluster} has no step of this job; `emr.py status` lists the clusters that have",
        )
    step, status = steps[0]["Status"], described["Status"]
    ended = step["State"] in ("COMPLETED", "FAILED", "CANCELLED", "INTERRUPTED")
    ended |= status["State"] in ("TERMINATED", "TERMINATED_WITH_ERRORS")
    told = [status.get("StateChangeReason", {}).get("Message", "")]
    told += [step.get("FailureDetails", {}).get(part, "") for part in ("Reason", "Message")]
    started = (
        step.get("Timeline", {}).get("StartDateTime") or status["Timeline"]["CreationDateTime"]
    )
    output = words_after(steps[0]["Config"]["Args"], "--output")
    logs = f"{described['LogUri'].replace('s3n://', 's3://')}{cluster}/steps/{steps[0]['Id']}"
    text = f"cluster {status['State']}, step {step['State']}"
    return State(
        text,
        ended,
        step["State"] == "COMPLETED",
        " ".join(filter(None, told)),
        started,
        output,
        logs,
    )


# ── A serverless run ─────────────────────────────────────────────────────────────────────────────────────────────────


def application_of(aws: Aws, release: str) -> str:
    """The application of this job for a release, made where there is none.  Idle, it costs nothing."""
    name = f"{NAME}-{release}"
    for item in aws.each("emr-serverless", "list_applications", "applications"):
        if item["name"] == name and item["state"] != "TERMINATED":
            return item["id"]
    request = {"name": name, "releaseLabel": release, "type": "SPARK", "tags": iam.TAGS}
    request["autoStopConfiguration"] = {"enabled": True, "idleTimeoutMinutes": 1}
    application = aws.send("emr-serverless", "create_application", **request)["applicationId"]
    while True:
        made = aws.send("emr-serverless", "get_application", applicationId=application)[
            "application"
        ]
        if aws.dry_run or made["state"] in ("CREATED", "STARTED", "STOPPED"):
            return application
        if made["state"] == "TERMINATED":
            raise Stop(
                FAILED,
                f"application {application}: {explain(made.get('stateDetails', 'not made'))}",
            )
        cloud.pause(POLL_SECONDS)


def start_serverless(aws: Aws, options) -> str:
    """Returns APPLICATION/RUN of the new run."""
    python = python_of(options.release)
    script = upload(aws, options, "etl.py", (ROOT / "etl.py").read_bytes())
    packages = upload(
        aws, options, "packages.zip", b"" if aws.dry_run else packed_requirements(python)
    )
    application = application_of(aws, options.release)
    settings = {
        "spark.archives": f"{packages}#packages",
        "spark.emr-serverless.driverEnv.PYTHONPATH": "packages",
        "spark.dynamicAllocation.maxExecutors": options.count,
        "spark.driver.cores": 4,
        "spark.driver.memory": "14g",
        "spark.executor.cores": 4,
        "spark.executor.memory": "14g",
    }
    submit = {"entryPoint": script, "entryPointArguments": job_arguments(options)}
    submit["sparkSubmitParameters"] = " ".join(
        f"--conf {name}={value}" for name, value in settings.items()
    )
    request = {
        "applicationId": application,
        "executionRoleArn": f"arn:{aws.partition}:iam::{aws.account()}:role/{iam.JOB_ROLE}",
        "name": NAME,
        "jobDriver": {"sparkSubmit": submit},
        "configurationOverrides": {
            "monitoringConfiguration": {"s3MonitoringConfiguration": {"logUri": options.log}}
        },
        "tags": {**iam.TAGS, **dict(options.tag)},
    }
    try:  # repeated without harm: boto3 adds a token that keeps one request from starting two runs
        run = aws.send("emr-serverless", "start_job_run", **request)
    except (HTTPClientError, ClientError, KeyboardInterrupt) as error:
        if was_refused(error):
            raise
        raise answer_lost(
            aws, error, "StartJobRun", f"a run on application {application}"
        ) from None
    return f"{application}/{run['jobRunId']}"


def serverless_state(aws: Aws, id: str) -> State:
    application, run = id.split("/")
    found = aws.send("emr-serverless", "get_job_run", applicationId=application, jobRunId=run)[
        "jobRun"
    ]
    if aws.dry_run:
        return State(
            "",
            True,
            True,
            "",
            an_hour_ago(),
            "s3://output",
            f"s3://log/applications/{application}/jobs/{run}",
        )
    state, monitoring = found["state"], found["configurationOverrides"]["monitoringConfiguration"]
    logs = f"{monitoring['s3MonitoringConfiguration']['logUri'].rstrip('/')}/applications/{application}/jobs/{run}"
    output = words_after(found["jobDriver"]["sparkSubmit"]["entryPointArguments"], "--output")
    ended = state in ("SUCCESS", "FAILED", "CANCELLED")
    reason = found.get("stateDetails", "")
    return State(
        state, ended, state == "SUCCESS", reason, found["createdAt"], output, f"{logs}/SPARK_DRIVER"
    )


# ── What becomes of a run ────────────────────────────────────────────────────────────────────────────────────────────


def an_hour_ago() -> datetime:
    return datetime.now(UTC) - timedelta(hours=1)


def look(aws: Aws, id: str) -> State:
    return (serverless_state if "/" in id else cluster_state)(aws, id)


def command_line(verb: str, aws: Aws, id: str = "") -> str:
    named = f" --profile {aws.profile}" if aws.profile else ""
    return f"python cloud/emr.py {verb}{' ' * bool(id)}{id}{named} --region {aws.region}"


def watch(aws: Aws, id: str) -> State:
    """Prints each change of state until the job has ended."""
    shown = None
    while True:
        state = look(aws, id)
        if state.text != shown:
            aws.say(f"{datetime.now(UTC):%H:%M:%S} {state.text}")
            shown = state.text
        if state.ended:
            return state
        cloud.pause(POLL_SECONDS)


def read_summary(aws: Aws, state: State) -> dict | None:
    """What the job left in OUTPUT/_etl/runs/ of the run that began after the step did; None where it left nothing.

    One that ended otherwise than this one belongs to another run over the same OUTPUT.
    """
    bucket, prefix = split_s3(state.output)
    runs = join_key(prefix, "_etl", "runs") + "/"
    since = f"{runs}{state.started.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    listed = aws.each(
        "s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=runs, StartAfter=since
    )
    for item in listed:
        answer = aws.send("s3", "get_object", Bucket=bucket, Key=item["Key"])
        report = {} if aws.dry_run else json.load(answer["Body"])
        if report and (report["exit"] == 0) == state.succeeded:
            return report
    return None


def show_summary(report: dict) -> None:
    for side, whole in (("events", "lines"), ("songs", "records")):
        counts = {
            name: count
            for name, count in report[side].items()
            if name not in (whole, "matched", "ambiguous")
        }
        classes = " + ".join(f"{count:,} {name}" for name, count in counts.items())
        print(f"{report[side].get(whole, 0):,} {whole} = {classes}")
    print(f"{report['events'].get('matched', 0):,} plays matched to a song")
    for table, made in report["tables"].items():
        print(
            f"{table:<10} {made['rows']:>13,} rows {made['files']:>7,} files {made['bytes'] / 1e6:>10,.2f} MB"
        )
    seconds = report["seconds"]
    phases = " · ".join(f"{name} {spent:.1f}" for name, spent in seconds.items())
    print(f"{sum(seconds.values()):.1f} seconds: {phases}")
    print(f"commit {report['commit']}: the tables are in {report['output']}")


def polls(aws: Aws, waits: int):
    """Turns to look for a log, with a pause before each but the first."""
    yield
    for turn in range(waits):
        if turn == 0:
            aws.say("waiting for the driver's log, which EMR copies to S3 within five minutes")
        cloud.pause(POLL_SECONDS)
        yield


def read_log(aws: Aws, uri: str, waits: int) -> str | None:
    """A log that EMR copied to S3; None where it has not done so in that many polls."""
    bucket, key = split_s3(uri)
    for _ in polls(aws, waits):
        try:
            answer = aws.send("s3", "get_object", Bucket=bucket, Key=key)
            return (
                ""
                if aws.dry_run
                else gzip.decompress(answer["Body"].read()).decode(errors="replace")
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchKey":
                raise
    return None


def both_streams(aws: Aws, folder: str, waits: int) -> str | None:
    """Spark's stderr, and stdout, to which spark-submit sends all that the job itself writes, its stderr too."""
    err = read_log(aws, f"{folder}/stderr.gz", waits)
    return None if err is None else f"{err}\n{read_log(aws, f'{folder}/stdout.gz', 0) or ''}"


def driver_log(aws: Aws, state: State, waits: int) -> str | None:
    """What the driver wrote: in the step, or in cluster mode in the first container of its application."""
    text = both_streams(aws, state.logs, waits)
    application = re.search(r"application_\d+_\d+", text or "")
    if application and "/steps/" in state.logs and "etl.py: " not in text:
        bucket, prefix = split_s3(state.logs.partition("/steps/")[0])
        below = join_key(prefix, "containers", application[0], "container_")
        for _ in polls(aws, waits):  # the cluster's nodes copy at times of their own
            keys = [
                item["Key"]
                for item in aws.each(
                    "s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=below
                )
            ]
            folders = [key.rpartition("/")[0] for key in keys if key.endswith("_000001/stderr.gz")]
            if folders:
                return f"{text}\n{both_streams(aws, f's3://{bucket}/{folders[0]}', 0)}"
    return text


def finish(aws: Aws, id: str, state: State, waits: int) -> int:
    """Shows what the job itself says of its end; returns its exit code."""
    report = read_summary(aws, state)
    if state.succeeded and not aws.dry_run:
        if report:
            show_summary(report)
        else:
            print(
                f"the job found nothing to do: {state.output} is made from this input already; -- --force rebuilds it"
            )
        return report["exit"] if report else 0
    has_run = not re.search("PENDING|CANCELLED", state.text)  # else there is no log to wait for
    text = driver_log(aws, state, waits if has_run else 0)
    if aws.dry_run:
        return 0
    log = (text or "").splitlines()
    print("\n".join(log[-40:]))
    returned = re.findall(r"Command exiting with ret '(\d+)'", text or "")
    code = (report or {}).get("exit") or int(returned[-1] if returned else 0) or FAILED
    said = [
        line.removeprefix("etl.py: ") for line in log if re.match(r"etl\.py: (?!warning)", line)
    ]
    why = [(report or {}).get("error") or (said[-1] if said else explain(state.reason))]
    if text is None and has_run:
        why.append(f"no log on S3 yet; later: {command_line('logs', aws, id)}")
    raise Stop(code, f"{id}: the job failed: {'; '.join(filter(None, why))}")


# ── Commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def run(aws: Aws, options) -> int:
    id = (start_serverless if options.serverless else start_cluster)(aws, options)
    try:
        aws.say(
            f"started {id}, which ends by itself; to end it before: {command_line('terminate', aws, id)}"
        )
        return finish(aws, id, watch(aws, id), LOG_WAITS)
    except KeyboardInterrupt:
        raise Stop(INTERRUPTED, unwatched(aws, id)) from None
    except (ClientError, BotoCoreError) as error:
        left = f"{id} may still run and be billed; `{command_line('terminate', aws, id)}` ends it"
        raise Stop(FAILED, f"{explain(error)}; {left}") from None


def status(aws: Aws, options) -> int:
    if options.id:
        state = look(aws, options.id)
        aws.say(state.text + f": {explain(state.reason)}" * bool(state.reason))
        return finish(aws, options.id, state, 0) if state.ended else 0
    found = []
    active = ["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING", "TERMINATING"]
    for item in aws.each("emr", "list_clusters", "Clusters", ClusterStates=active):
        if item["Name"].startswith(NAME) or aws.dry_run:
            since = item["Status"]["Timeline"]["CreationDateTime"]
            found.append(f"{item['Id']} {item['Status']['State']} {since:%F %T}")
    for item in aws.each("emr-serverless", "list_applications", "applications"):
        if item["name"].startswith(NAME) or aws.dry_run:
            states = ["SUBMITTED", "PENDING", "SCHEDULED", "RUNNING", "QUEUED"]
            listed = {"applicationId": item["id"], "states": states}
            for job in aws.each("emr-serverless", "list_job_runs", "jobRuns", **listed):
                found.append(f"{item['id']}/{job['id']} {job['state']} {job['createdAt']:%F %T}")
    aws.say("\n".join(found) or f"nothing of this job runs in {aws.region}")
    return 0


def logs(aws: Aws, options) -> int:
    state = look(aws, options.id)
    text = driver_log(aws, state, 0)
    if text is None:
        raise Stop(
            FAILED,
            f"{state.logs}: not there yet; EMR copies it within five minutes: try again then",
        )
    aws.say(text)
    return 0


def terminate(aws: Aws, options) -> int:
    if "/" in options.id:
        application, job = options.id.split("/")
        aws.send("emr-serverless", "cancel_job_run", applicationId=application, jobRunId=job)
    else:
        aws.send("emr", "terminate_job_flows", JobFlowIds=[options.id])
    aws.say(
        f"{options.id} is told to end; `{command_line('status', aws, options.id)}` shows when it has"
    )
    return 0


def price(aws: Aws, service: str, **terms: str) -> float:
    """USD an hour, on demand, of the one product that matches."""
    terms["regionCode"] = aws.region
    filters = [
        {"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in terms.items()
    ]
    for item in aws.each(
        "pricing", "get_products", "PriceList", ServiceCode=service, Filters=filters
    ):
        if not aws.dry_run:
            (term,) = json.loads(item)["terms"]["OnDemand"].values()
            (dimension,) = term["priceDimensions"].values()
            return float(dimension["pricePerUnit"]["USD"])
    return math.nan


def cost(aws: Aws, options) -> int:
    """Prints what a run of some hours costs at most."""
    if options.serverless:
        vcpus = 4 * (options.count + 1)
        hourly = vcpus * SERVERLESS_RATES["vCPU"] + 4 * vcpus * SERVERLESS_RATES["memoryGB"]
        what = (
            f"{options.count} executors and a driver of 4 vCPU and 16 GB, at us-east-1's x86 prices"
        )
    else:
        name = options.instance_types.split(",")[0]
        linux = {
            "operatingSystem": "Linux",
            "tenancy": "Shared",
            "preInstalledSw": "NA",
            "capacitystatus": "Used",
        }
        each = price(aws, "AmazonEC2", instanceType=name, **linux)
        each += price(aws, "ElasticMapReduce", instanceType=name, softwareType="EMR")
        if math.isnan(each) and not aws.dry_run:
            raise Stop(
                SETTINGS,
                f"{name}: no price in {aws.region}; name another type with --instance-types",
            )
        hourly, what = (
            each * (options.count + 1),
            f"{options.count + 1} {name} at {each:.4f} USD an hour, EC2 and EMR",
        )
    if not math.isnan(hourly):
        print(
            f"{what}: {hourly:.2f} USD an hour, {hourly * options.hours:.2f} USD in {options.hours:g} hours"
        )
    print(
        "Left out: EBS volumes, S3 requests and storage, data transfer between regions, public IPv4 addresses, Athena, "
        "tax. Spot instances cost less than counted here; starting takes 5 to 10 minutes of the hours."
    )
    return 0


# ── Setup: roles, policies, bucket, subnets; each step may be repeated ───────────────────────────────────────────────


def unless(aws: Aws, known: str, service: str, operation: str, **request):
    """Sends a request, and takes one error code as `it is so already`: returns None then."""
    try:
        return aws.send(service, operation, **request)
    except ClientError as error:
        if not re.fullmatch(known, error.response["Error"]["Code"]):
            raise
        return None


def make_role(aws: Aws, name: str, trust: dict, policy: dict, managed: str = "") -> None:
    text = json.dumps(trust)
    request = {"RoleName": name, "AssumeRolePolicyDocument": text, "Tags": key_values(iam.OURS)}
    if not unless(aws, "EntityAlreadyExists", "iam", "create_role", **request) or aws.dry_run:
        aws.send("iam", "update_assume_role_policy", RoleName=name, PolicyDocument=text)
    aws.send(
        "iam", "put_role_policy", RoleName=name, PolicyName=name, PolicyDocument=json.dumps(policy)
    )
    if managed:
        aws.send("iam", "attach_role_policy", RoleName=name, PolicyArn=managed)


def make_launch_policy(aws: Aws, names: iam.Names) -> str:
    """Creates the launcher's policy, or makes what it is to say now its only version; returns its ARN."""
    text = json.dumps(iam.launch_policy(names))
    arn = names.arn("iam", f"policy/{iam.LAUNCH_POLICY}")
    request = {"PolicyName": iam.LAUNCH_POLICY, "PolicyDocument": text}
    if not unless(aws, "EntityAlreadyExists", "iam", "create_policy", **request) or aws.dry_run:
        for item in aws.each("iam", "list_policy_versions", "Versions", PolicyArn=arn):
            if aws.dry_run or not item["IsDefaultVersion"]:
                aws.send("iam", "delete_policy_version", PolicyArn=arn, VersionId=item["VersionId"])
        aws.send(
            "iam", "create_policy_version", PolicyArn=arn, PolicyDocument=text, SetAsDefault=True
        )
    return arn


def make_bucket(aws: Aws, bucket: str) -> None:
    """A private, encrypted bucket whose unfinished uploads end.  What a bucket that is there already says, it keeps."""
    place = (
        {}
        if aws.region == "us-east-1"
        else {"CreateBucketConfiguration": {"LocationConstraint": aws.region}}
    )
    unless(aws, "BucketAlreadyOwnedByYou", "s3", "create_bucket", Bucket=bucket, **place)
    private = dict.fromkeys(
        ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
    )
    encrypted = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
    abort = {"ID": "abort-unfinished-uploads", "Status": "Enabled", "Filter": {"Prefix": ""}}
    abort["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": 1}
    for what, missing, request in (
        (
            "public_access_block",
            "NoSuchPublicAccessBlockConfiguration",
            {"PublicAccessBlockConfiguration": private},
        ),
        (
            "bucket_encryption",
            "ServerSideEncryptionConfigurationNotFoundError",
            {"ServerSideEncryptionConfiguration": encrypted},
        ),
        (
            "bucket_lifecycle_configuration",
            "NoSuchLifecycleConfiguration",
            {"LifecycleConfiguration": {"Rules": [abort]}},
        ),
    ):
        if not unless(aws, missing, "s3", f"get_{what}", Bucket=bucket) or aws.dry_run:
            aws.send("s3", f"put_{what}", Bucket=bucket, **request)


def setup(aws: Aws, options) -> int:
    """Makes what a run needs in an account, or brings it up to date."""
    places = (options.input, options.output, options.work, options.log)
    names = iam.Names(aws.partition, aws.region, aws.account(), *places)
    make_bucket(aws, split_s3(options.output)[0])
    make_role(
        aws,
        iam.JOB_ROLE,
        iam.trust(names, "ec2.amazonaws.com", "emr-serverless.amazonaws.com"),
        iam.job_policy(names),
    )
    unless(
        aws,
        "EntityAlreadyExists",
        "iam",
        "create_instance_profile",
        InstanceProfileName=iam.JOB_ROLE,
    )
    profile = {"InstanceProfileName": iam.JOB_ROLE, "RoleName": iam.JOB_ROLE}
    unless(
        aws, "LimitExceeded", "iam", "add_role_to_instance_profile", **profile
    )  # it holds one role: this one
    managed = f"arn:{aws.partition}:iam::aws:policy/service-role/AmazonEMRServicePolicy_v2"
    trusted = iam.trust(names, "elasticmapreduce.amazonaws.com")
    make_role(aws, iam.SERVICE_ROLE, trusted, iam.service_policy(names), managed)
    for service in (
        "elasticmapreduce",
        "ops.emr-serverless",
        "spot",
    ):  # so that a launcher need not create roles
        request = {"AWSServiceName": f"{service}.amazonaws.com"}
        unless(
            aws, "InvalidInput|EntityAlreadyExists", "iam", "create_service_linked_role", **request
        )
    policy = make_launch_policy(aws, names)
    chosen = (
        {"SubnetIds": options.subnet}
        if options.subnet
        else {"Filters": [{"Name": "default-for-az", "Values": ["true"]}]}
    )
    subnets = list(aws.each("ec2", "describe_subnets", "Subnets", **chosen))
    if not subnets:
        raise Stop(SETTINGS, f"{aws.region}: there is no default subnet; name yours with --subnet")
    networks = sorted({subnet["VpcId"] for subnet in subnets})
    named = {
        "vpc-id": networks,
        "group-name": ["ElasticMapReduce-*"],
    }  # an earlier cluster's, which EMR takes again
    filters = [{"Name": name, "Values": values} for name, values in named.items()]
    groups = [
        group["GroupId"]
        for group in aws.each("ec2", "describe_security_groups", "SecurityGroups", Filters=filters)
    ]
    resources = networks + groups + [subnet["SubnetId"] for subnet in subnets]
    aws.send("ec2", "create_tags", Resources=resources, Tags=key_values(iam.FOR_EMR))
    aws.say(f"ready; the person who launches needs the policy {policy}")
    return 0


# ── Command line ─────────────────────────────────────────────────────────────────────────────────────────────────────


def share(value: str) -> float:
    if not 0 <= float(value) <= 1:
        raise ValueError
    return float(value)


def release(value: str) -> str:
    if not re.fullmatch(r"emr-7\.\d+\.\d+|emr-spark-8\.\d+\.\d+", value):
        raise Stop(
            SETTINGS,
            f"--release {value}: name emr-7.x.y (Spark 3.5) or emr-spark-8.x.y (Spark 4), like {RELEASE}",
        )
    return value


def count(value: str) -> int:
    if int(value) < 1:
        raise ValueError
    return int(value)


def run_name(value: str) -> str:
    if not re.fullmatch(r"j-\w+|\w+/\w+", value):
        raise Stop(
            SETTINGS,
            f"{value}: no run has such an ID; name j-… or APPLICATION/RUN, as `emr.py status` prints it",
        )
    return value


def tag(value: str) -> tuple[str, str]:
    key, _, text = value.partition("=")
    if not (key and text):
        raise ValueError
    return key, text


OF_CLUSTER = {
    "subnet": None,
    "spot": 0.0,
    "deploy_mode": "client",
    "instance_types": "m5.xlarge",
}  # defaults


def command_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "emr.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(action, text: str) -> argparse.ArgumentParser:
        verb = cloud.add_command(verbs, action, text)
        cloud.add_common(verb)
        return verb

    prepare = command(
        setup,
        "create roles, policies and the output bucket, and tag subnets for EMR; may be repeated",
    )
    start = command(run, "run the job and wait for its end")
    for verb, subnets in (
        (prepare, "the default subnets"),
        (start, "those that setup tagged; of a cluster only"),
    ):
        verb.add_argument(
            "--input",
            required=True,
            type=cloud.place,
            help="s3://… that holds song_data/ and log_data/",
        )
        verb.add_argument("--output", required=True, type=cloud.place, help="s3://… for the tables")
        verb.add_argument(
            "--work",
            type=cloud.place,
            help="s3://… for code (default: emr/ in the bucket of OUTPUT)",
        )
        verb.add_argument(
            "--log", type=cloud.place, help="s3://… for EMR's logs (default: WORK/logs)"
        )
        verb.add_argument("--subnet", action="append", help=f"may be repeated (default: {subnets})")
    start.add_argument(
        "--release", default=RELEASE, type=release, help=f"{RELEASE}, or emr-7.14.0 for Spark 3.5"
    )
    start.add_argument(
        "--spot",
        type=share,
        default=OF_CLUSTER["spot"],
        help="share of a cluster's nodes to be spot instances, 0 to 1",
    )
    start.add_argument(
        "--deploy-mode",
        choices=("client", "cluster"),
        default=OF_CLUSTER["deploy_mode"],
        help="where a cluster's driver runs",
    )
    start.add_argument(
        "--tag", type=tag, action="append", default=[], metavar="KEY=VALUE", help="may be repeated"
    )
    for verb in (
        start,
        estimate := command(cost, "estimate what a run costs, before it is started"),
    ):
        verb.add_argument(
            "--serverless", action="store_true", help="EMR Serverless instead of a cluster"
        )
        verb.add_argument(
            "--count",
            type=count,
            default=2,
            help="nodes or executors beside the driver's (default: 2)",
        )
        types = "of a cluster: any of these, whichever there are (default: %(default)s)"
        verb.add_argument(
            "--instance-types", default=OF_CLUSTER["instance_types"], metavar="A,B", help=types
        )
    estimate.add_argument(
        "--hours", type=float, default=0.5, help="how long it runs (default: 0.5)"
    )
    command(status, "say where a run is, or without ID which are running").add_argument(
        "id", metavar="ID", type=run_name, nargs="?"
    )
    for verb in (
        command(logs, "print what the driver wrote"),
        command(terminate, "end a run before its time"),
    ):
        verb.add_argument(
            "id", metavar="ID", type=run_name, help="j-… or APPLICATION/RUN, as `run` prints it"
        )
    return parser


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    cut = given.index("--") if "--" in given else len(given)

    def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
        options = parser.parse_args(given[:cut])
        options.job = given[cut + 1 :]
        unfit = [
            name
            for name, default in OF_CLUSTER.items()
            if getattr(options, name, default) != default
        ]
        if unfit and getattr(options, "serverless", False):
            names = ", ".join(f"--{name}".replace("_", "-") for name in unfit)
            parser.error(f"--serverless has no {names}: leave out either")
        if "output" in options:
            options.work = options.work or f"s3://{split_s3(options.output)[0]}/emr"
            options.log = options.log or f"{options.work}/logs"
        return options

    return cloud.main(command_parser(), parse)


if __name__ == "__main__":
    sys.exit(main())
