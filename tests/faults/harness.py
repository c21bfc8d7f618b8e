"""The job without Spark, in processes of its own: it lists, packs, commits, publishes and cleans.

The tables that Spark would stage are ready-made Parquet files, with the version of the input in
every row; so
what a reader sees tells which commits it comes from.
"""

import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from functools import lru_cache
from itertools import count
from multiprocessing import forkserver
from pathlib import Path

import obstore
import pyarrow
import pyarrow.parquet
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ConnectionClosedError

import etl

numbers = count()  # of children
ROWS = 6  # of each table; songplays has them in two files
WHOLE = Counter(range(ROWS))
real_put = obstore.put


@lru_cache
def children():
    """Children are forks of a process that imported all of this, but never started a thread."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["harness", "boto3", "obstore.auth.boto3"])
    with pytest.MonkeyPatch.context() as environment:
        folders = Path(__file__).parents
        environment.setenv("PYTHONPATH", os.pathsep.join(map(str, folders[:3])))
        forkserver.ensure_running()
    return context


def parquet(version: int, rows: range) -> bytes:
    data = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.table({"version": [version] * len(rows), "row": rows}), data
    )
    return data.getvalue()


def build(run):
    """What etl.build leaves, as far as the publisher is concerned; its songs are really packed."""
    with run.phase("songs", "Packing songs", run.lake.uri):
        run.songs["records"] = etl.pack_songs(run)
    key = run.pinned["song_data"][0].key
    version = json.loads(run.source.read(key))["version"]
    # each commit writes other folders
    halves = {
        f"year={2018 + version % 2}/": range(3),
        f"year={2020 + version % 2}/": range(3, ROWS),
    }
    for table in etl.COLUMNS:
        parts = halves if table == "songplays" else {"": range(ROWS)}
        for folder, rows in parts.items():
            key = f"{run.staging}/{table}/{folder}part-0.parquet"
            real_put(run.lake.store, key, parquet(version, rows))
        run.tables[table] = {"rows": ROWS, "files": etl.staged_files(run)[table]}
    run.events.update(dict.fromkeys(("lines", "matched", "ambiguous", *etl.EVENT_CLASSES), 0))
    run.songs.update(dict.fromkeys(etl.SONG_CLASSES, 0))


def write_version(folder: Path, version: int) -> None:
    for side in ("song_data", "log_data"):
        (folder / side).mkdir(parents=True, exist_ok=True)
        (folder / side / "a.json").write_text(json.dumps({"version": version}))


class Faults:
    """Makes the n-th request that changes the store go wrong in one of WAYS."""

    WAYS = (
        "refused",  # it fails before it acts
        "lost",  # it acts, and its answer is lost
        "lost twice",  # so is the answer to the next question, which might have told
        "killed",  # it is the last that the process does
        "terminated",  # the process is told to end just after it
    )

    def __init__(self, way: str, number: int):
        self.way, self.number, self.count, self.lock, self.is_deaf = (
            way,
            number,
            0,
            threading.Lock(),
            False,
        )

    def change(self, act, error):
        with self.lock:
            self.count += 1
            is_hit = self.count == self.number
        if is_hit and self.way == "refused":
            raise error
        result = act()
        if is_hit and self.way in ("killed", "terminated"):
            os.kill(os.getpid(), signal.SIGKILL if self.way == "killed" else signal.SIGTERM)
        elif is_hit:
            self.is_deaf = self.way == "lost twice"
            raise error
        return result

    def read(self, act, error):
        if self.is_deaf:
            self.is_deaf = False
            raise error
        return act()

    def install(self):
        def wrap(owner, name, request, error, applies=lambda *_: True):
            real = getattr(owner, name)

            def call(*arguments, **options):
                act = lambda: real(*arguments, **options)  # noqa: E731
                return request(act, error) if applies(*arguments) else act()

            setattr(owner, name, call)

        reset = etl.BaseError("connection reset by peer")
        for name in (
            "put",
            "put_async",
            "copy",
            "delete",
        ):  # put_async is lost before it is awaited
            wrap(obstore, name, self.change, reset)
        for name in ("get", "list"):
            wrap(obstore, name, self.read, reset)
        for name in ("unlink", "rmdir"):
            wrap(os, name, self.change, OSError(5, "Input/output error"))
        is_delete = lambda _, operation, *__: operation == "DeleteObjects"  # noqa: E731
        wrap(
            BaseClient,
            "_make_api_call",
            self.change,
            ConnectionClosedError(endpoint_url="http://store"),
            is_delete,
        )


def signal_before(name: str, number: int, kind=signal.SIGSTOP, wait=0.0):
    """The process signals itself before, or seconds after, its n-th call of a function of etl."""
    real, calls = getattr(etl, name), count(1)

    def call(*given):
        if next(calls) == number:
            if wait:
                threading.Timer(wait, os.kill, [os.getpid(), kind]).start()
            else:
                os.kill(os.getpid(), kind)
        return real(*given)

    setattr(etl, name, call)


def child(arguments, said, faults, pause, patience):
    with open(said, "w", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
        etl.ANSWER_SECONDS = patience or etl.ANSWER_SECONDS
        etl.check_java = lambda: None
        etl.build = build
        if pause:
            signal_before(*pause)
        layer = Faults(*faults) if faults else None
        if layer:
            layer.install()
        code = etl.main(arguments)
        print(f"requests: {layer.count if layer else 0}")
    os._exit(code)


class Child:
    """A run of the job in a child; see Faults and signal_before for what may befall it."""

    def __init__(self, folder: Path, *arguments, faults=None, pause=(), patience=0):
        self.said = folder / f"said-{next(numbers)}"
        given = [list(map(str, arguments)), self.said, faults, pause, patience]
        self.process = children().Process(target=child, args=given)
        self.process.start()

    def wait_until_stopped(self):
        state = ["ps", "-o", "state=", "-p", str(self.process.pid)]
        while "T" not in subprocess.run(state, capture_output=True, text=True, check=True).stdout:
            time.sleep(0.01)

    def wake(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def end(self, timeout=60):
        """Exit code (-9 when killed) and what was said; a run that hangs fails the test."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"still running after {timeout} s: {self.said.read_text()}")
        return self.process.exitcode, self.said.read_text()


class Local:
    """Lakes on this machine: copies of one that holds version 1 and whose input is version 2."""

    def __init__(self, folder: Path):
        self.folder, self.first = folder, folder / "first"
        write_version(folder / "in", 1)
        assert self.run(self.first)[0] == 0
        write_version(folder / "in", 2)

    def copy(self, name: str):
        return shutil.copytree(self.first, self.folder / name, symlinks=True)

    def run(self, output, **options):
        return Child(
            self.folder, "--input", self.folder / "in", "--output", output, **options
        ).end()

    def place(self, output) -> etl.Place:
        return etl.open_place(f"file://{output}", None, None)


class S3(Local):
    def __init__(self, folder: Path, server, bucket: str):
        self.server, self.bucket, self.client = server, bucket, server.bucket(bucket)
        super().__init__(folder)

    def keys(self, prefix: str):
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix
        )
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def check_no_secret(self, *secrets: str):
        """In no object of the bucket, and in nothing that a run has said."""
        objects = (
            self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            for key in self.keys("")
        )
        for text in (*objects, *(path.read_bytes() for path in self.folder.glob("said-*"))):
            assert not any(secret.encode() in text for secret in secrets)

    def copy(self, name: str):
        for key in self.keys("first/"):
            source = {"Bucket": self.bucket, "Key": key}
            self.client.copy_object(
                Bucket=self.bucket, Key=name + key[len("first") :], CopySource=source
            )
        return name

    def config(self, output, endpoint=None) -> Path:
        name = getattr(output, "name", output)
        return self.server.config(
            self.folder, self.folder / "in", f"s3://{self.bucket}/{name}", endpoint=endpoint
        )

    def run(self, output, endpoint=None, **options):
        return Child(self.folder, "--config", self.config(output, endpoint), **options).end()

    def place(self, output) -> etl.Place:
        settings = etl.read_settings(["--config", str(self.config(output))])
        return etl.open_place(f"s3a://{self.bucket}/{output}", settings, etl.connect(settings))


def published(lake: etl.Place) -> dict:
    """Table -> version -> how often each of its rows is there, for a reader of the folders."""
    found = {}
    for table in etl.COLUMNS:
        versions = found.setdefault(table, {})
        for key in lake.list(table):
            if key.endswith(".parquet"):
                data = pyarrow.parquet.read_table(
                    io.BytesIO(bytes(obstore.get(lake.store, key).bytes()))
                )
                for version, row in zip(*(data[name].to_pylist() for name in ("version", "row"))):
                    versions.setdefault(version, Counter())[row] += 1
    return found


def check_no_gap(versions: dict, allowed) -> None:
    """One version is there whole, no row of any is there twice, and there is none but those."""
    assert WHOLE in versions.values(), versions
    assert versions.keys() <= set(allowed), versions
    assert all(count == 1 for rows in versions.values() for count in rows.values()), versions
