"""Runs etl.py on EMR: a cluster that ends itself, or EMR Serverless.

    python cloud/emr.py setup --input s3://udacity-dend --output s3://BUCKET/lake     once per lake
    python cloud/emr.py cost
    python cloud/emr.py run   --input s3://udacity-dend --output s3://BUCKET/lake

`run` uploads etl.py, starts the cluster, shows its state as it changes, and ends with the job's
own summary and exit code.  With --dry-run a command prints its requests and changes nothing.
ID is what `run` prints: j-… for a cluster, APPLICATION/RUN for a serverless run.  What is after
`--` goes to etl.py: `run … -- --force`.  Options can be kept in a file, one per line such as
--output=s3://BUCKET/lake, and given as @FILE.
"""

from __future__ import annotations

import argparse
import re
import sys
from contextlib import suppress

import account
import aws as cloud
import catalog
import cluster
import cost as prices
import serverless
import watch
from aws import (
    FAILED,
    INTERRUPTED,
    NAME,
    SETTINGS,
    Aws,
    BotoCoreError,
    ClientError,
    Stop,
    explain,
    split_s3,
)
from preflight import check_places
from runs import run_id, unwatched

# Spark 4.1; emr-7.14.0 has Spark 3.5
RELEASE = "emr-spark-8.1.0"
GRAVITON = "m7g.xlarge,m6g.xlarge"


# ── Commands ─────────────────────────────────────────────────────────────────────────────────────


def run(aws: Aws, options) -> int:
    check_places(aws, options)
    kind = serverless if options.serverless else cluster
    id = kind.start(aws, options)
    if aws.dry_run:
        return 0
    end = aws.command_line("terminate", id)
    aws.say(f"started {id}, which ends by itself; to end it before: {end}")
    if options.detach:
        aws.say(f"to see its end: {aws.command_line('wait', id)}")
        return 0
    return follow(aws, id, options)


def wait(aws: Aws, options) -> int:
    return follow(aws, options.id, options)


def follow(aws: Aws, id: str, options) -> int:
    """Watches a run until its end; returns the job's own exit code."""
    try:
        state = watch.watch(aws, id)
    except KeyboardInterrupt:
        raise Stop(INTERRUPTED, unwatched(aws, id)) from None
    except (ClientError, BotoCoreError) as error:
        end = f"`{aws.command_line('terminate', id)}` ends it"
        raise Stop(FAILED, f"{explain(error)}; {id} may still run and be billed; {end}") from None
    try:
        code = watch.finish(aws, id, state, watch.LOG_WAITS)
    except KeyboardInterrupt:
        raise Stop(INTERRUPTED, f"{id} has ended; {aws.command_line('logs', id)}") from None
    finally:
        # what a run cost is good to know, and no reason to fail
        with suppress(ClientError, BotoCoreError, Stop, KeyError):
            aws.say(prices.spent(aws, id))
    if options.register and not state.is_dry_run:
        catalog.register_lake(aws, state.output, options.database, options.projection)
    return code


def status(aws: Aws, options) -> int:
    if not options.id:
        found = cluster.listed(aws, options.name) + serverless.listed(aws, options.name)
        aws.say("\n".join(found) or f"nothing of {options.name} runs in {aws.region}")
        return 0
    state = watch.kind_of(options.id).state(aws, options.id)
    aws.say(f"{state.text}: {explain(state.reason)}" if state.reason else state.text)
    if state.ended:
        return watch.finish(aws, options.id, state, 0)
    watch.show_console(aws, options.id)
    return 0


def logs(aws: Aws, options) -> int:
    state = watch.kind_of(options.id).state(aws, options.id)
    text = watch.driver_log(aws, state, 0)
    if text is None:
        raise Stop(FAILED, f"{options.id}: {watch.no_log(aws, options.id, state)}")
    aws.say(text)
    return 0


def terminate(aws: Aws, options) -> int:
    watch.kind_of(options.id).terminate(aws, options.id)
    look = aws.command_line("status", options.id)
    aws.say(f"{options.id} is told to end; `{look}` shows when it has")
    return 0


def cost(aws: Aws, options) -> int:
    aws.say(prices.estimate(aws, options))
    return 0


# ── Values of options ────────────────────────────────────────────────────────────────────────────


def share(value: str) -> float:
    if not 0 <= float(value) <= 1:
        raise ValueError
    return float(value)


def count(value: str) -> int:
    if int(value) < 1:
        raise ValueError
    return int(value)


def hours(value: str) -> float:
    if not float(value) > 0:
        raise ValueError
    return float(value)


def release(value: str) -> str:
    """From 7.10 on S3A is EMR's connector; the older one leaves _$folder$ objects in the tables."""
    if not re.fullmatch(r"emr-7\.[1-9]\d+\.\d+|emr-spark-8\.\d+\.\d+", value):
        known = "emr-7.x.y from 7.10 on (Spark 3.5) or emr-spark-8.x.y (Spark 4)"
        raise Stop(SETTINGS, f"--release {value}: name {known}, such as {RELEASE}")
    return value


def name(value: str) -> str:
    """A prefix of role names (64 characters at most), application names and tags."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,39}", value):
        rule = "up to 40 lower case letters, digits and hyphens, a letter first"
        raise Stop(SETTINGS, f"--name {value}: {rule}")
    return value


def pair(value: str) -> tuple[str, str]:
    key, _, text = value.partition("=")
    if not (key and text):
        raise ValueError
    return key, text


def tag(value: str) -> tuple[str, str]:
    key, text = pair(value)
    if key == "application" or key.startswith("for-use-with-amazon-emr"):
        raise Stop(SETTINGS, f"--tag {value}: {key} is this program's own; choose another key")
    return key, text


def memory(value: str) -> str:
    if not re.fullmatch(r"[1-9]\d*[mg]", value):
        raise ValueError
    return value


def cluster_id(value: str) -> str:
    if not re.fullmatch(r"j-\w+", value):
        raise Stop(SETTINGS, f"--cluster {value}: name a cluster as j-…")
    return value


# ── Command line ─────────────────────────────────────────────────────────────────────────────────


def command_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "emr.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        fromfile_prefix_chars="@",
    )
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    prepare = cloud.add_command(
        verbs,
        account.setup,
        "make roles, policies, the output bucket and an Athena workgroup, and tag subnets; "
        "may be repeated",
    )
    start = cloud.add_command(verbs, run, "run the job and wait for its end")
    again = cloud.add_command(verbs, wait, "wait for the end of a run that was started before")
    estimate = cloud.add_command(verbs, cost, "estimate what a run costs, before it is started")
    look = cloud.add_command(verbs, status, "say where a run is, or without ID which are running")
    read = cloud.add_command(verbs, logs, "print what the driver wrote")
    end = cloud.add_command(verbs, terminate, "end a run before its time")
    remove = cloud.add_command(
        verbs, account.teardown, "list what setup made, and remove it with --yes"
    )
    for verb in (prepare, start, look, remove):
        verb.add_argument(
            "--name",
            type=name,
            default=NAME,
            help="of roles, clusters and tags; another for each lake (default: %(default)s)",
        )
    add_places(prepare, start, remove)
    for verb in (prepare, start, again, remove):
        verb.add_argument(
            "--database",
            type=cloud.database,
            default=catalog.DATABASE,
            help="of the tables in Glue and Athena (default: %(default)s)",
        )
    prepare.add_argument(
        "--kms-key",
        action="append",
        default=[],
        metavar="ARN",
        help="of a key that encrypts INPUT's or OUTPUT's bucket; may be repeated",
    )
    for verb in (prepare, start):
        verb.add_argument(
            "--subnet",
            action="append",
            metavar="ID",
            help="may be repeated (default: the account's default subnets for setup, and those "
            "that setup tagged for run)",
        )
    add_size(start, estimate)
    add_run_options(start)
    for verb in (start, again):
        verb.add_argument(
            "--register",
            action="store_true",
            help="create or update the tables in Glue when the run has ended well",
        )
        verb.add_argument(
            "--projection",
            action="store_true",
            help="with --register: project partitions, as `catalog.py register` does",
        )
    estimate.add_argument(
        "--hours", type=hours, default=0.5, help="how long it runs (default: 0.5)"
    )
    remove.add_argument("--yes", action="store_true", help="remove, and do not only list")
    look.add_argument("id", metavar="ID", type=run_id, nargs="?")
    for verb in (again, read, end):
        verb.add_argument("id", metavar="ID", type=run_id, help="as `run` prints it")
    return parser


def add_places(prepare, start, remove) -> None:
    for verb in (prepare, start):
        verb.add_argument(
            "--input",
            required=True,
            type=cloud.place,
            help="s3://… that holds song_data/ and log_data/",
        )
    for verb in (prepare, start, remove):
        verb.add_argument("--output", required=True, type=cloud.place, help="s3://… for the tables")
        verb.add_argument(
            "--work",
            type=cloud.place,
            help="s3://… for code and Athena's results (default: emr/ in the bucket of OUTPUT)",
        )
        verb.add_argument(
            "--log", type=cloud.place, help="s3://… for EMR's logs (default: WORK/logs)"
        )


def add_size(*verbs) -> None:
    """Options that say how many machines of which kind."""
    for verb in verbs:
        verb.add_argument(
            "--serverless", action="store_true", help="EMR Serverless instead of a cluster"
        )
        verb.add_argument(
            "--count",
            type=count,
            default=2,
            help="nodes or executors besides the driver's (default: 2)",
        )
        verb.add_argument(
            "--instance-types",
            metavar="A,B",
            help=f"of a cluster: any of these, whichever there are (default: {GRAVITON})",
        )
        verb.add_argument(
            "--architecture",
            choices=("ARM64", "X86_64"),
            help="of a serverless run (default: ARM64, a fifth cheaper)",
        )


def add_run_options(start) -> None:
    start.add_argument(
        "--release",
        default=RELEASE,
        type=release,
        help="%(default)s, or emr-7.14.0 for Spark 3.5",
    )
    start.add_argument(
        "--spot", type=share, help="share of a cluster's nodes to be spot instances, 0 to 1"
    )
    start.add_argument(
        "--deploy-mode",
        choices=("client", "cluster"),
        help="where a cluster's driver runs: on the master (client, the default) or on a node",
    )
    start.add_argument(
        "--cluster",
        type=cluster_id,
        metavar="j-…",
        help="a running cluster to use instead of a new one; it goes on afterwards",
    )
    start.add_argument(
        "--conf",
        type=pair,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of Spark; may be repeated",
    )
    start.add_argument(
        "--driver-memory", type=memory, metavar="8g", help="8g or more for 100 million events"
    )
    start.add_argument("--disk", type=count, metavar="GB", help="of each node or worker")
    start.add_argument(
        "--max-hours", type=hours, default=12, help="end the job then (default: %(default)s)"
    )
    start.add_argument(
        "--max-vcpu",
        type=count,
        help="most that a new serverless application may use, all its runs together",
    )
    start.add_argument(
        "--tag",
        type=tag,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of the cluster or run, for the bill; may be repeated",
    )
    start.add_argument(
        "--detach", action="store_true", help="do not wait for the end; `wait ID` does"
    )


# options of one kind of run, and what they are if they are not given
OF_NEW_CLUSTER = {"spot": 0.0, "subnet": None, "instance_types": GRAVITON}
OF_CLUSTER = {**OF_NEW_CLUSTER, "deploy_mode": "client", "cluster": None}
OF_SERVERLESS = {"architecture": "ARM64", "max_vcpu": None}


def complete(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Fills defaults in, and refuses options that do not go together."""
    if "output" in options:
        options.work = options.work or f"s3://{split_s3(options.output)[0]}/emr"
        options.log = options.log or f"{options.work}/logs"
    if options.command is account.teardown:
        # policies are removed by name, and what they held does not matter
        options.input = options.output
        options.kms_key = []
    if "serverless" not in options:
        return
    refuse(parser, options, options.serverless, "--serverless", OF_CLUSTER)
    refuse(parser, options, not options.serverless, "a cluster", OF_SERVERLESS)
    on_running = bool(getattr(options, "cluster", None))
    refuse(parser, options, on_running, "--cluster", OF_NEW_CLUSTER)
    if on_running:
        # no bootstrap prepared its master for a driver
        if options.deploy_mode == "client":
            parser.error("--cluster has no --deploy-mode client: leave out either")
        options.deploy_mode = "cluster"
    if options.command is run and options.detach and options.register:
        parser.error("--detach has no --register: give that to `wait ID`")
    for field, default in {**OF_CLUSTER, **OF_SERVERLESS}.items():
        if getattr(options, field, None) is None:
            setattr(options, field, default)


def refuse(parser, options, applies: bool, what: str, fields: dict) -> None:
    """Ends the command if an option was given that this kind of run does not have."""
    given = [field for field in fields if getattr(options, field, None) is not None]
    if applies and given:
        flags = ", ".join(f"--{field.replace('_', '-')}" for field in given)
        parser.error(f"{what} has no {flags}: leave out either")


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    cut = given.index("--") if "--" in given else len(given)
    parser = command_parser()

    def parse() -> argparse.Namespace:
        options = parser.parse_args(given[:cut])
        options.job = given[cut + 1 :]
        complete(parser, options)
        return options

    return cloud.main(parser, parse)


if __name__ == "__main__":
    sys.exit(main())
