"""What becomes of a run: its states, the job's own summary, its logs, and its exit code."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

import aws as cloud
import cluster
import serverless
from aws import FAILED, Aws, BotoCoreError, ClientError, Stop, explain, join_key, split_s3
from common import newest_done
from runs import POLL_SECONDS, State, is_cluster, words_after

# EMR copies a step's log to S3 within five minutes
LOG_WAITS = 40
LOG_LINES = 40


def kind_of(id: str):
    """The module that knows runs of this kind."""
    return cluster if is_cluster(id) else serverless


def watch(aws: Aws, id: str) -> State:
    """Prints each change of state until the job has ended."""
    shown = None
    while True:
        state = kind_of(id).state(aws, id)
        if state.text != shown:
            aws.say(f"{datetime.now(UTC):%H:%M:%S} UTC  {state.text}")
            if "RUNNING" in state.text:
                show_console(aws, id)
            shown = state.text
        if state.ended:
            return state
        cloud.pause(POLL_SECONDS)


def show_console(aws: Aws, id: str) -> None:
    """Prints where a browser shows the run; one that cannot be had is no failure of the run."""
    with suppress(ClientError, BotoCoreError):
        aws.say(f"               {kind_of(id).console(aws, id)}")


# ── The job's own summary ────────────────────────────────────────────────────────────────────────


def read_summary(aws: Aws, state: State) -> dict | None:
    """What the job left in OUTPUT/_etl/runs/, of the first run that began after the step did.

    None if it left nothing.  One that ended otherwise is another run's over the same OUTPUT.
    """
    if not state.output:
        return None
    bucket, prefix = split_s3(state.output)
    runs = join_key(prefix, "_etl", "runs") + "/"
    since = f"{runs}{state.started.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    listing = {"Bucket": bucket, "Prefix": runs, "StartAfter": since}
    for item in aws.each("s3", "list_objects_v2", "Contents", **listing):
        answer = aws.ask("s3", "get_object", Bucket=bucket, Key=item["Key"])
        report = json.load(answer["Body"])
        if (report["exit"] == 0) == state.succeeded:
            return report
    return None


def has_commit(aws: Aws, state: State) -> bool:
    """Whether OUTPUT has tables of an earlier run."""
    if not state.output:
        return False
    bucket, prefix = split_s3(state.output)
    done = join_key(prefix, "_etl", "done") + "/"
    found = aws.each("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=done)
    return newest_done(item["Key"] for item in found) is not None


def summary(report: dict) -> str:
    """The job's account as it printed it itself, from the figures that it kept."""
    lines = []
    for side, whole in (("events", "lines"), ("songs", "records")):
        counts = dict(report[side])
        total = counts.pop(whole, 0)
        for aside in ("matched", "ambiguous"):
            counts.pop(aside, None)
        lines.append(f"{total:,} {'log lines' if side == 'events' else 'song records'}")
        lines += [f"      {count:>13,}  {name}" for name, count in counts.items() if count]
    lines.append(f"{'table':<10} {'rows':>13} {'files':>7} {'size':>13}")
    for table, made in report["tables"].items():
        size = f"{made['bytes'] / 1e6:,.2f} MB"
        lines.append(f"{table:<10} {made['rows']:>13,} {made['files']:>7,} {size:>13}")
    plays = report["events"].get("songplays", 0)
    matched = report["events"].get("matched", 0)
    lines.append(f"{matched:,} of {plays:,} plays match a song of the catalogue.")
    lines.append(f"{sum(report['seconds'].values()):.1f} seconds without the start of the nodes.")
    lines.append(f"The tables are in {report['output']} (commit {report['commit']}).")
    return "\n".join(lines)


# ── Logs ─────────────────────────────────────────────────────────────────────────────────────────


def polls(aws: Aws, waits: int) -> Iterator[None]:
    """Turns to look for a log, with a pause before each but the first."""
    yield
    for turn in range(waits):
        if turn == 0:
            aws.say("waiting for the driver's log, which EMR copies to S3 within five minutes")
        cloud.pause(POLL_SECONDS)
        yield


def read_log(aws: Aws, uri: str) -> str | None:
    """A log that EMR copied to S3; None if it has not done so yet."""
    bucket, key = split_s3(uri)
    answer = aws.find("s3", "get_object", Bucket=bucket, Key=key)
    if answer is None:
        return None
    return gzip.decompress(answer["Body"].read()).decode(errors="replace")


def both_streams(aws: Aws, folder: str) -> str | None:
    """Spark's stderr, and stdout, to which spark-submit sends all that the job itself writes."""
    spark = read_log(aws, f"{folder}/stderr.gz")
    if spark is None:
        return None
    return f"{spark}\n{read_log(aws, f'{folder}/stdout.gz') or ''}"


def container_log(aws: Aws, state: State, step_log: str) -> str | None:
    """In cluster mode the driver writes in the first container of its YARN application."""
    application = re.search(r"application_\d+_\d+", step_log)
    if application is None or "/steps/" not in state.logs:
        return None
    bucket, prefix = split_s3(state.logs.partition("/steps/")[0])
    below = join_key(prefix, "containers", application[0], "container_")
    for item in aws.each("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=below):
        folder, _, file = item["Key"].rpartition("/")
        if folder.endswith("_000001") and file == "stderr.gz":
            return both_streams(aws, f"s3://{bucket}/{folder}")
    return None


def bootstrap_log(aws: Aws, state: State) -> str | None:
    """What a node wrote that could not fetch its packages, if EMR's reason names it."""
    failed = re.search(r"\((i-\w+)\).*?bootstrap action (\d+)", state.reason)
    if failed is None or "/steps/" not in state.logs:
        return None
    root = state.logs.partition("/steps/")[0]
    return read_log(aws, f"{root}/node/{failed[1]}/bootstrap-actions/{failed[2]}/stderr.gz")


def driver_log(aws: Aws, state: State, waits: int) -> str | None:
    """What the driver wrote, or the bootstrap if there was no driver; None if nothing is there."""
    if not state.logs:
        return None
    text = None
    for _ in polls(aws, waits):
        text = text or both_streams(aws, state.logs) or bootstrap_log(aws, state)
        if text is None:
            continue
        if says(text) or not in_cluster_mode(state):
            return text
        # the cluster's nodes copy at times of their own
        container = container_log(aws, state, text)
        if container is not None:
            return f"{text}\n{container}"
    return text


def in_cluster_mode(state: State) -> bool:
    return words_after(state.arguments, "--deploy-mode") == "cluster"


def says(log: str) -> list[str]:
    """What etl.py said of its end, without warnings."""
    lines = [line for line in log.splitlines() if re.match(r"etl\.py: (?!warning)", line)]
    return [line.removeprefix("etl.py: ") for line in lines]


# ── The end ──────────────────────────────────────────────────────────────────────────────────────


def finish(aws: Aws, id: str, state: State, waits: int) -> int:
    """Shows what the job itself says of its end; returns 0, or stops with the job's exit code."""
    report = read_summary(aws, state)
    if not state.succeeded:
        fail(aws, id, state, report, waits)
    if report and report["commit"] is not None:
        aws.say(summary(report))
    elif has_commit(aws, state) and not state.is_dry_run:
        remedy = "-- --force rebuilds it"
        aws.say(f"nothing to do: {state.output} is made from this input already; {remedy}")
    else:
        text = driver_log(aws, state, waits)
        aws.say(text or "the job ended well and wrote nothing; its log is not on S3 yet")
    return 0


def fail(aws: Aws, id: str, state: State, report: dict | None, waits: int) -> None:
    # without a driver there is no log to wait for, unless a bootstrap left one
    has_log = not re.search("PENDING|CANCELLED", state.text) or "bootstrap action" in state.reason
    text = driver_log(aws, state, waits if has_log else 0)
    if text:
        aws.say("\n".join(text.splitlines()[-LOG_LINES:]))
    raise Stop(exit_code(report, text or ""), failure(aws, id, state, report, text, has_log))


def exit_code(report: dict | None, log: str) -> int:
    """The job's own: from its summary, else from what Spark and YARN say in the log."""
    if report:
        return report["exit"]
    returned = re.findall(r"User application exited with status (\d+)", log)
    returned += re.findall(r"Command exiting with ret '(\d+)'", log)
    return int(returned[0]) if returned else FAILED


# what `timeout`, before spark-submit, returns
TIMED_OUT = 124


def failure(
    aws: Aws, id: str, state: State, report: dict | None, log: str | None, has_log: bool
) -> str:
    """Why the job failed, in one line: its own words, else the service's."""
    said = says(log or "")
    if report and report.get("error"):
        why = report["error"]
    elif said:
        why = said[-1]
    elif exit_code(report, log or "") == TIMED_OUT:
        why = "it ran longer than --max-hours allows"
    else:
        why = explain(state.reason) or "the service gives no reason"
    if log is None and has_log:
        why += f"; {no_log(aws, id, state)}"
    return f"{id}: the job failed: {why}"


def no_log(aws: Aws, id: str, state: State) -> str:
    """What to do about a log that is not there."""
    if not state.logs:
        return "this run keeps no logs on S3"
    if state.ended:
        return f"no log on S3 yet; later: {aws.command_line('logs', id)}"
    return f"{state.logs}: not there yet; EMR copies it within five minutes"
