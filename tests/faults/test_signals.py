"""Ctrl-C and SIGTERM end a run within five seconds, whatever it is at, and a hanging store too."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT, files_below
from proxy import at, bad_store

CODE = """
import harness
harness.etl.build = harness.build
harness.etl.run_until_signal()
"""
HANGING = {
    "creates its probe": {"method": "PUT", "path": "_etl/probes"},
    "deletes its probe": {"method": "POST", "path": "delete"},
    "lists": {"method": "GET", "path": "list-type"},
    "fetches songs": {"method": "GET", "path": "song_data/a.json"},
    "packs songs": {"method": "PUT", "path": "packed"},
    "commits": {"method": "PUT", "path": "_etl/commits"},
    "copies": {"method": "PUT", "header": "x-amz-copy-source"},
    "is done": {"method": "PUT", "path": "_etl/done"},
    "writes its summary": {"method": "PUT", "path": "_etl/runs"},
}


def check_end(process, kind):
    """It ends in time, with one line and the right code."""
    start = time.monotonic()
    process.send_signal(kind)
    process.wait(60)
    assert time.monotonic() - start < 5
    # a Java that is about to start holds the streams some seconds longer
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    words = "etl.py: interrupted; the next run removes or finishes what this one left\n"
    assert err == words


@pytest.fixture(scope="module")
def source(s3):
    client = s3.bucket("signals")
    for side in ("song_data", "log_data"):
        body = json.dumps({"version": 1}).encode()
        client.put_object(Bucket="signals", Key=f"in/{side}/a.json", Body=body)


@pytest.mark.parametrize("step", HANGING)
def test_a_run_that_waits_for_a_store_ends_at_once(s3, source, tmp_path, step):
    kind = signal.SIGTERM if step in ("lists", "commits") else signal.SIGINT
    with bad_store(s3.endpoint, at("hang", **HANGING[step])) as store:
        output = f"s3://signals/{step.replace(' ', '-')}"
        config = s3.config(tmp_path, "s3://signals/in", output, endpoint=store.endpoint)
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, "--config", config],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": ".:tests:tests/faults"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        while not store.fates["hang"]:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        check_end(process, kind)


@pytest.mark.parametrize(
    ("word", "wait", "kind"),
    [
        ("Checking OUTPUT", 0, signal.SIGTERM),
        ("Reading songs and starting Spark", 1, signal.SIGINT),
        ("Building the tables", 1, signal.SIGTERM),
        ("Auditing the tables", 0, signal.SIGINT),
    ],
)
def test_a_run_of_spark_ends_at_once_and_leaves_no_java(tmp_path, word, wait, kind):
    process = subprocess.Popen(
        [sys.executable, ROOT / "etl.py", "--output", tmp_path / "out"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith(word):
            break
    time.sleep(wait)
    children = ["ps", "-o", "pid=", "--ppid", str(process.pid)]
    javas = subprocess.run(children, capture_output=True, text=True).stdout.split()
    check_end(process, kind)
    for pid in javas:
        for _ in range(100):
            if not Path("/proc", pid).exists():
                break
            time.sleep(0.1)
        assert not Path("/proc", pid).exists()
    # no summary is written, and nothing is published
    left = {name.split("/")[1] for name in files_below(tmp_path / "out")}
    assert left <= {"staging", "probes", "quarantine"}


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_python_starts_ends_with_130(tmp_path, kind):
    process = subprocess.Popen(
        [sys.executable, "-v", ROOT / "etl.py", "--output", tmp_path / "out"],
        stderr=subprocess.PIPE,
        text=True,
    )
    # the last module of its own that etl.py imports before the packages
    for line in process.stderr:
        if "urllib.parse" in line:
            break
    process.send_signal(kind)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
