"""Who runs beside whom: the command of each way to do the job."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parent
PYTHON = sys.executable
BARE_SESSION = """
from pyspark.sql import SparkSession
SparkSession.builder.getOrCreate().stop()
"""


class Task(NamedTuple):
    """What a contender is asked to do."""

    source: str
    output: str
    settings: tuple[str, ...] = ()  # etl.py's own, on its command line
    server: object = None  # a SlowS3, if both ends lie there
    scratch: Path = Path()  # for a configuration file


class Contender(NamedTuple):
    """A way to do the job.

    command       what to run for a task
    environment   which variables it needs beside ours
    is_slow       it takes minutes, and so runs in the first turn only
    package       what must be installed for it
    """

    command: Callable[[Task], list[str]]
    environment: Callable[[Task], dict[str, str]] = lambda task: {}
    is_slow: bool = False
    package: str = "pyspark"


def etl_of(folder: Path) -> Callable[[Task], list[str]]:
    """The command of the etl.py in a checkout."""

    def command(task: Task) -> list[str]:
        config = task.scratch / "dl.cfg"
        config.write_text(configuration(task))
        return [
            PYTHON,
            str(folder / "etl.py"),
            "--config",
            str(config),
            "--input",
            task.source,
            "--output",
            task.output,
            *task.settings,
        ]

    return command


def configuration(task: Task) -> str:
    if not task.server:
        return "[AWS]\n"
    return f"""
[AWS]
KEY = {task.server.key}
SECRET = {task.server.secret}
REGION = {task.server.region}
ENDPOINT = {task.server.endpoint}
"""


def script(name: str) -> Callable[[Task], list[str]]:
    """The command of a script of this folder."""

    def command(task: Task) -> list[str]:
        return [PYTHON, str(HERE / name), task.source, task.output]

    return command


def bare_session(task: Task) -> list[str]:
    return [PYTHON, "-c", BARE_SESSION]


def hadoop_aws(task: Task) -> dict[str, str]:
    """What a Spark script without settings of its own needs to reach the server."""
    if not task.server:
        return {}
    sys.path.insert(0, str(ROOT))
    import etl

    options = {
        **etl.s3a_packages(etl.hadoop_version()),
        "spark.hadoop.fs.s3a.access.key": task.server.key,
        "spark.hadoop.fs.s3a.secret.key": task.server.secret,
        "spark.hadoop.fs.s3a.endpoint": task.server.endpoint,
        "spark.hadoop.fs.s3a.endpoint.region": task.server.region,
        "spark.hadoop.fs.s3a.path.style.access": "true",
    }
    settings = [f'--conf "{name}={value}"' for name, value in options.items()]
    return {"PYSPARK_SUBMIT_ARGS": " ".join([*settings, "pyspark-shell"])}


CONTENDERS = {
    "etl.py": Contender(etl_of(ROOT)),
    "plain": Contender(script("plain.py"), hadoop_aws),
    "classic": Contender(script("classic.py"), hadoop_aws, is_slow=True),
    "duckdb": Contender(script("duck.py"), package="duckdb"),
    "session": Contender(bare_session),
}


def commit_of(folder: Path) -> str:
    """The commit of a checkout, and whether its etl.py was changed since."""
    git = ["git", "-C", str(folder)]
    named = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    if named.returncode:
        return "no commit"
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "etl.py"])
    return named.stdout.strip() + (" with changes" if changed.returncode else "")


def add_checkout(folder: Path) -> str:
    """Makes another checkout's etl.py a contender; returns its name."""
    name = f"etl.py at {commit_of(folder)}"
    CONTENDERS[name] = Contender(etl_of(Path(os.path.abspath(folder))))
    return name
