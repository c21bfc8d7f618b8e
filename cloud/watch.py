"""What becomes of a run: its states, the job's own summary, its log, and its exit code."""

from __future__ import annotations

import gzip
import json
import re
from datetime import UTC, datetime
from time import sleep
from types import ModuleType

import cluster
import serverless
from aws import FAILED, Json, Stop, with_hint
from runs import State
from stack import Lake

POLL_SECONDS = 15
# EMR copies a log to S3 within five minutes
LOG_WAITS = 40
# what `timeout`, which runs spark-submit, returns
TIMED_OUT = 124


def kind_of(id: str) -> ModuleType:
    """The module that knows runs of this kind."""
    return cluster if id.startswith("j-") else serverless


def watch(lake: Lake, id: str) -> State:
    """Prints each change of state until the job has ended."""
    shown = ""
    while True:
        state: State = kind_of(id).state(lake, id)
        if state.text != shown:
            print(f"{datetime.now(UTC):%H:%M:%S} UTC  {state.text}", flush=True)
            shown = state.text
        if state.ended:
            return state
        sleep(POLL_SECONDS)


def read_summary(lake: Lake, state: State) -> Json | None:
    """What the job left in OUTPUT/_etl/runs/, or None if it left nothing.

    It is the first one that began after the step did and ended the same way.
    """
    folder = f"{lake.output}/_etl/runs"
    since = f"{state.started.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    for name in lake.sizes(folder):
        if name >= since:
            report: Json = json.loads(lake.read(f"{folder}/{name}"))
            if (report["exit"] == 0) == state.succeeded:
                return report
    return None


def classes(counts: Json) -> list[str]:
    """A line for each class of lines that has any."""
    others = ("lines", "records", "matched", "ambiguous")
    found = [(name, count) for name, count in counts.items() if count and name not in others]
    return [f"{count:>15,}  {name}" for name, count in found]


def summary(report: Json) -> str:
    """The job's counts and tables, as on its own screen."""
    events, songs = report["events"], report["songs"]
    lines = [f"{events['lines']:,} log lines", *classes(events)]
    lines += [f"{songs['records']:,} song records", *classes(songs)]
    lines.append(f"{'table':<10} {'rows':>13} {'files':>9} {'kB':>11}")
    for table, made in report["tables"].items():
        size = made["bytes"] // 1000
        lines.append(f"{table:<10} {made['rows']:>13,} {made['files']:>9,} {size:>11,}")
    lines.append(f"{events['matched']:,} of {events['songplays']:,} plays match a song.")
    lines.append(f"The tables are in {report['output']} (commit {report['commit']}).")
    return "\n".join(lines)


def read_log(lake: Lake, uri: str) -> str:
    """A log that EMR copied to S3; empty if it has not done so yet."""
    content = lake.read(uri)
    return gzip.decompress(content).decode(errors="replace") if content else ""


def bootstrap_log(lake: Lake, id: str) -> str:
    """What the first node wrote whose packages could not be installed; others write nothing."""
    folder = f"{lake.logs}/{id}/node"
    for name in lake.sizes(folder):
        if re.search(r"/bootstrap-actions/\d+/stderr", name):
            text = read_log(lake, f"{folder}/{name}")
            if text:
                return text
    return ""


def driver_log(lake: Lake, id: str, state: State, waits: int) -> str:
    """What the driver wrote, or a bootstrap that failed before it; empty if nothing is there yet.

    Spark writes to stderr, and the job's own lines are in stdout, where spark-submit sends both.
    """
    for turn in range(waits + 1):
        if turn == 1:
            print("Waiting for the log, which EMR copies to S3 within five minutes.", flush=True)
        if turn:
            sleep(POLL_SECONDS)
        text = read_log(lake, f"{state.log}/stderr.gz")
        if text:
            return f"{text}\n{read_log(lake, f'{state.log}/stdout.gz')}"
        text = bootstrap_log(lake, id)
        if text:
            return text
    return ""


def finish(lake: Lake, id: str, state: State, waits: int) -> int:
    """Shows what the job itself says of its end; returns 0, or stops with the job's exit code."""
    report = read_summary(lake, state)
    if not state.succeeded:
        raise failure(lake, id, state, report or {}, waits)
    if report and report["commit"] is not None:
        print(summary(report))
    else:
        print("The job published nothing new: its input has not changed, or it was a dry run.")
        print(f"Its log: {lake.command('logs', id)}")
    return 0


def failure(lake: Lake, id: str, state: State, report: Json, waits: int) -> Stop:
    """Why the job failed, in its own words if it left any, and its exit code."""
    # a step that never ran has no log, unless a bootstrap failed
    has_log = not re.search("PENDING|CANCELLED", state.text) or "bootstrap" in state.reason
    log = driver_log(lake, id, state, waits if has_log else 0)
    if log:
        print("\n".join(log.splitlines()[-40:]))
    said = re.findall(r"^etl\.py: (?!warning)(.*)", log, re.MULTILINE)
    returned = re.findall(r"Command exiting with ret '(\d+)'", log)
    code = report.get("exit") or int(returned[0] if returned else FAILED)
    why = with_hint(state.reason or "the service gives no reason")
    if code == TIMED_OUT:
        why = "it ran longer than --max-hours."
    if said:
        why = said[-1]
    why = report.get("error") or why
    if has_log and not log:
        why += f" Its log is not on S3 yet. Try later: {lake.command('logs', id)}"
    return Stop(code, f"{id} failed: {why}")
