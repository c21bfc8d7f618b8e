"""The job without Spark, in processes of its own: it lists, packs, commits and publishes.

The tables that Spark would stage are ready-made Parquet files, with the version of the input in
every row, so what a reader sees tells which commits it comes from.
"""

import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from itertools import count
from pathlib import Path

import pyarrow
import pyarrow.parquet

import etl

numbers = count()  # of children
ROWS = 6  # of each table; songplays has them in two files
WHOLE = Counter(range(ROWS))
# a process that hangs fails its test after so many seconds; no test waits for less
HANGS = 600


# ── Instead of Spark ──


def parquet(version: int, rows: range) -> bytes:
    data = io.BytesIO()
    table = pyarrow.table({"version": [version] * len(rows), "row": rows})
    pyarrow.parquet.write_table(table, data)
    return data.getvalue()


def stage(run, *tables: str) -> None:
    first_song = run.source.read(run.manifest["song_data"][0].key)
    version = json.loads(first_song)["version"]
    # each commit writes other folders
    halves = {
        f"year={2018 + version % 2}/": range(3),
        f"year={2020 + version % 2}/": range(3, ROWS),
    }
    for table in tables:
        parts = halves if table == "songplays" else {"": range(ROWS)}
        for folder, rows in parts.items():
            key = f"{run.staging}/{table}/{folder}part-0.parquet"
            run.lake.write(key, parquet(version, rows))
        run.summary["tables"][table] = {"rows": ROWS}


def process_song_data(spark, run):
    stage(run, "songs", "artists")
    return None, {"records": 1, **dict.fromkeys(etl.SONG_CLASSES, 0)}


def process_log_data(spark, run):
    stage(run, "users", "time")
    return None, {"lines": 1, **dict.fromkeys(etl.EVENT_CLASSES, 0)}


def process_plays(run, plays, song_records):
    stage(run, "songplays")
    return {"matched": 0, "ambiguous": 0}


# name in etl -> what stands in for it
STUBS = {
    "start_spark": lambda run: None,
    "process_song_data": process_song_data,
    "process_log_data": process_log_data,
    "process_plays": process_plays,
    "audit": lambda spark, run: None,
}


def write_version(folder: Path, version: int) -> None:
    """An input whose tables all hold this version."""
    for dataset in ("song_data", "log_data"):
        (folder / dataset).mkdir(parents=True, exist_ok=True)
        (folder / dataset / "a.json").write_text(json.dumps({"version": version}))


# ── Processes ──


@cache
def children():
    """Children are forks of a process that imported all of this, but never started a thread."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "boto3", "obstore.auth.boto3"])
    return context


def signal_before(kind: int, number: int, *names: str) -> None:
    """The process signals itself before the n-th call of functions of etl or of its Location."""
    calls = count(1)

    def watch(owner, name):
        real = getattr(owner, name)

        def call(*given, **options):
            if next(calls) == number:
                os.kill(os.getpid(), kind)
            return real(*given, **options)

        setattr(owner, name, call)

    for name in names:
        watch(etl.Location if hasattr(etl.Location, name) else etl, name)


def child(arguments: list[str], said: Path, at: tuple) -> None:
    with open(said, "w", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
        for name, stub in STUBS.items():
            setattr(etl, name, stub)
        if at:
            signal_before(*at)
        code = etl.main(arguments)
    os._exit(code)


class Child:
    """A run of the job in a process of its own; `at` is for signal_before."""

    def __init__(self, folder: Path, *arguments, at: tuple = ()):
        self.said = folder / f"said-{next(numbers)}"
        given = [list(map(str, arguments)), self.said, at]
        self.process = children().Process(target=child, args=given)
        self.process.start()

    def wait_until_stopped(self) -> None:
        state = ["ps", "-o", "state=", "-p", str(self.process.pid)]
        while "T" not in subprocess.run(state, capture_output=True, text=True, check=True).stdout:
            time.sleep(0.01)

    def wake(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def end(self) -> tuple[int, str]:
        """Exit code, -9 when killed, and what was said."""
        self.process.join(HANGS)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"it hangs: {self.said.read_text()}")
        return self.process.exitcode, self.said.read_text()


# ── Lakes ──


class Local:
    """Lakes on this machine: copies of one that holds version 1 and whose input is version 2."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.first = folder / "first"
        write_version(folder / "in", 1)
        code, said = self.run(self.first)
        assert code == 0, said
        write_version(folder / "in", 2)

    def copy(self, name: str):
        return shutil.copytree(self.first, self.folder / name)

    def run(self, output, **options) -> tuple[int, str]:
        arguments = ["--input", self.folder / "in", "--output", output]
        return Child(self.folder, *arguments, **options).end()

    def location(self, output) -> etl.Location:
        return local_location(output)


class S3(Local):
    def __init__(self, folder: Path, server, bucket: str):
        self.server = server
        self.bucket = bucket
        self.client = server.bucket(bucket)
        super().__init__(folder)

    def copy(self, name: str) -> str:
        listed = self.client.list_objects_v2(Bucket=self.bucket, Prefix="first/")
        for item in listed["Contents"]:
            source = {"Bucket": self.bucket, "Key": item["Key"]}
            target = name + item["Key"].removeprefix("first")
            self.client.copy_object(Bucket=self.bucket, Key=target, CopySource=source)
        return name

    def config(self, output, endpoint=None) -> Path:
        url = f"s3://{self.bucket}/{getattr(output, 'name', output)}"
        return self.server.config(self.folder, self.folder / "in", url, endpoint=endpoint)

    def run(self, output, endpoint=None, **options) -> tuple[int, str]:
        return Child(self.folder, "--config", self.config(output, endpoint), **options).end()

    def location(self, output) -> etl.Location:
        settings = etl.read_settings(["--config", str(self.config(output))])
        return etl.open_location(settings.output, settings)


def local_location(folder) -> etl.Location:
    return etl.Location(f"file://{folder}", etl.LocalStore(str(folder)))


def published(lake: etl.Location) -> dict[str, dict[int, Counter]]:
    """Table -> version -> how often each of its rows is there, for a reader of the folders."""
    found = {}
    for table in etl.COLUMNS:
        versions = found[table] = {}
        for key in lake.list(table):
            if key.endswith(".parquet"):
                for row in pyarrow.parquet.read_table(io.BytesIO(lake.read(key))).to_pylist():
                    versions.setdefault(row["version"], Counter())[row["row"]] += 1
    return found


def check_is(lake: etl.Location, version: int) -> None:
    """All tables hold this version and no other row, and nothing is left in staging."""
    found = published(lake)
    assert all(versions == {version: WHOLE} for versions in found.values()), found
    assert not lake.list("_etl/staging")


def check_no_gap(lake: etl.Location, *allowed: int) -> None:
    """In each table one version is whole, and no row is there twice or of another version."""
    for versions in published(lake).values():
        assert WHOLE in versions.values(), versions
        assert versions.keys() <= set(allowed), versions
        assert all(count == 1 for rows in versions.values() for count in rows.values()), versions
