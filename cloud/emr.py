"""Runs etl.py on Amazon EMR, and registers its tables for Athena.

    python cloud/emr.py run --register               on a cluster of its own
    python cloud/emr.py run --serverless --register  on EMR Serverless

`run` uploads etl.py, starts it, shows its states, and ends with the job's own
summary and exit code. The CloudFormation stack that cloud/lake.yaml describes
says where everything is. What follows `--` goes to etl.py: `run -- --force`.
"""

from __future__ import annotations

import argparse
import sys
from types import ModuleType

import cluster
import serverless
import watch
from aws import INTERRUPTED, Stop, explain, run_main, with_hint
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from catalog import check, register
from preflight import check_input, check_output
from runs import State, answer_lost, may_have_started, new_name, unwatched
from stack import Lake

GRAVITON = "m7g.xlarge,m6g.xlarge"


def run(lake: Lake, options: argparse.Namespace) -> int:
    check_output(lake)
    check_input(lake, options.serverless)
    id = start(lake, options)
    print(f"Started {id}. To end it early: {lake.command('terminate', id)}", flush=True)
    if options.detach:
        print(f"To see how it ends: {lake.command('wait', id)}")
        return 0
    return follow(lake, id, options)


def start(lake: Lake, options: argparse.Namespace) -> str:
    """The ID of a new run, even if AWS's answer to its start was lost."""
    kind: ModuleType = serverless if options.serverless else cluster
    name = new_name(lake)
    request = kind.prepare(lake, options, name)
    try:
        return str(kind.start(lake, request))
    except (HTTPClientError, ClientError, KeyboardInterrupt) as error:
        if not may_have_started(error):
            raise
        lost = answer_lost(lake, error, name)
    try:
        found = [item.id for item in kind.running(lake) if item.name == name]
    except (ClientError, BotoCoreError, KeyboardInterrupt):
        raise lost from None
    if not found:
        raise lost
    if lost.code == INTERRUPTED:
        raise Stop(INTERRUPTED, unwatched(lake, found[0]))
    return str(found[0])


def wait(lake: Lake, options: argparse.Namespace) -> int:
    # an ID that does not exist ends the command here
    watch.kind_of(options.id).state(lake, options.id)
    return follow(lake, options.id, options)


def follow(lake: Lake, id: str, options: argparse.Namespace) -> int:
    """Watches a run until its end; returns the job's own exit code."""
    try:
        state = watch.watch(lake, id)
    except KeyboardInterrupt:
        raise Stop(INTERRUPTED, unwatched(lake, id)) from None
    except (ClientError, BotoCoreError) as error:
        stop = explain(error)
        raise Stop(stop.code, f"{stop} {unwatched(lake, id)}") from None
    code = watch.finish(lake, id, state, watch.LOG_WAITS)
    if options.register:
        register(lake, options)
    return code


def status(lake: Lake, options: argparse.Namespace) -> int:
    if not options.id:
        found = [str(item) for kind in (cluster, serverless) for item in kind.running(lake)]
        print("\n".join(found) or f"Nothing of stack {lake.stack} is running in {lake.region}.")
        return 0
    state: State = watch.kind_of(options.id).state(lake, options.id)
    print(with_hint(f"{state.text}. {state.reason}"))
    return watch.finish(lake, options.id, state, 0) if state.ended else 0


def logs(lake: Lake, options: argparse.Namespace) -> int:
    state = watch.kind_of(options.id).state(lake, options.id)
    text = watch.driver_log(lake, options.id, state, 0)
    print(text or "The log is not on S3 yet. EMR copies it within five minutes.")
    return 0


def terminate(lake: Lake, options: argparse.Namespace) -> int:
    watch.kind_of(options.id).terminate(lake, options.id)
    print(f"{options.id} is ending. To see when it has: {lake.command('status', options.id)}")
    return 0


def count(value: str) -> int:
    if int(value) < 1:
        raise ValueError
    return int(value)


def hours(value: str) -> float:
    if float(value) <= 0:
        raise ValueError
    return float(value)


def setting(value: str) -> tuple[str, str]:
    name, _, text = value.partition("=")
    if not (name and text):
        raise ValueError
    return name, text


def add_run_options(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("--serverless", action="store_true", help="EMR Serverless instead of a cluster")
    add("--count", type=count, default=2, help="nodes or executors (default: 2)")
    add("--register", action="store_true", help="register the tables for Athena")
    add = verb.add_argument_group("rarely needed").add_argument
    text = f"of a cluster, any of these (default: {GRAVITON})"
    add("--instance-types", default=GRAVITON, metavar="A,B", help=text)
    text = "a setting of Spark; may be repeated"
    add("--conf", type=setting, action="append", default=[], metavar="NAME=VALUE", help=text)
    add("--max-hours", type=hours, default=12.0, help="end the job then (default: 12)")
    add("--detach", action="store_true", help="do not wait for the end")


def command_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "emr.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    texts = {
        run: "run the job and wait for its end",
        wait: "wait for the end of a run that was started before",
        status: "say where a run is, or which ones are running",
        logs: "print what the driver wrote",
        terminate: "end a run early",
        register: "create or update the tables in Glue",
        check: "compare Glue with the lake; exit code 1 if they differ",
    }
    for command, text in texts.items():
        verb = verbs.add_parser(command.__name__, help=text, add_help=False)
        verb.set_defaults(command=command)
        add = verb.add_argument
        if command in (wait, status, logs, terminate):
            optional = "?" if command is status else None
            add("id", metavar="ID", nargs=optional, help="as `run` prints it")
        add("--stack", default="sparkify", help="CloudFormation stack (default: sparkify)")
        add("--region", help="default: AWS_REGION, or the profile's")
        add("--profile", help="profile of ~/.aws (default: AWS_PROFILE)")
        if command is run:
            add_run_options(verb)
        if command is wait:
            add("--register", action="store_true", help="register the tables for Athena")
        add("-h", "--help", action="help", help="show this help")
    return parser


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    cut = given.index("--") if "--" in given else len(given)

    def command() -> int:
        options = command_parser().parse_args(given[:cut])
        options.job = given[cut + 1 :]
        lake = Lake(options.stack, options.profile, options.region)
        return int(options.command(lake, options))

    return run_main("emr.py", command)


if __name__ == "__main__":
    sys.exit(main())
