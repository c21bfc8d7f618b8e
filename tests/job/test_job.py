"""Whole runs in processes of their own, as users start them."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from helpers import ROOT, SAMPLE, all_tables, files_below, run_process


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """The README's command on the sample; its output, tables and what it printed."""
    folder = tmp_path_factory.mktemp("first")
    done = run_process("--output", folder / "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "out", all_tables(folder / "out"), done.stdout


def test_the_sample_has_its_right_answers(first_run):
    output, tables, printed = first_run
    report = json.loads(next((output / "_etl" / "runs").iterdir()).read_text())
    assert {name: len(rows) for name, rows in tables.items()} == {
        "songplays": 2003, "users": 100, "songs": 149, "artists": 73, "time": 2003,
    }  # fmt: skip
    assert report["events"] == {
        "lines": 2375, "blank": 1, "malformed": 3, "invalid": 0, "out_of_scope": 362, "duplicate": 5,
        "key_conflict": 1, "songplays": 2003, "matched": 637, "ambiguous": 23,
    }  # fmt: skip
    assert report["songs"] == {
        "records": 150, "malformed": 0, "invalid": 0, "duplicate": 0, "variant": 1, "songs": 149,
    }  # fmt: skip
    assert (
        "2,375 log lines = 1 blank + 3 malformed" in printed
        and f"the tables are in file://{output}" in printed
    )


def test_a_second_run_publishes_nothing_and_every_file_is_as_it_was(first_run, tmp_path):
    output, _, _ = first_run
    before = files_below(output)
    done = run_process("--output", output, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Nothing to do" in done.stdout and files_below(output) == before


def test_a_dry_run_writes_nothing(tmp_path):
    done = run_process("--output", tmp_path / "out", "--dry-run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "would write songplays" in done.stdout and files_below(tmp_path) == {}


@pytest.mark.parametrize(
    ("zone", "cores"),
    [("America/Los_Angeles", 1), ("Asia/Kolkata", 4)],
    ids=["Los Angeles, 1 core", "Kolkata, 4 cores"],
)
def test_same_rows_in_other_time_zones_on_other_cores_and_from_other_files(
    first_run, tmp_path, zone, cores
):
    lines = [
        line
        for file in sorted(SAMPLE.glob("log_data/**/*.json"))
        for line in file.read_text().splitlines()
    ]
    (tmp_path / "in" / "log_data").mkdir(parents=True)
    (tmp_path / "in" / "log_data" / "z.json").write_text("\n".join(lines[1::2][::-1]) + "\n")
    (tmp_path / "in" / "log_data" / "a.json").write_text("\n".join(lines[::2][::-1]))
    os.symlink(SAMPLE / "song_data", tmp_path / "in" / "song_data")
    env = {"TZ": zone, "PYSPARK_SUBMIT_ARGS": f"--master local[{cores}] pyspark-shell"}
    done = run_process(
        "--input", tmp_path / "in", "--output", tmp_path / "out", cwd=tmp_path, env=env
    )
    assert done.returncode == 0, done.stderr
    assert all_tables(tmp_path / "out") == first_run[1]


def test_ctrl_c_ends_with_130_and_leaves_no_staging(tmp_path):
    process = subprocess.Popen(
        [sys.executable, ROOT / "etl.py", "--output", tmp_path / "out"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith("tables"):
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted, nothing is published; run again" in err.splitlines()[-1]
    assert not [
        name
        for name in files_below(tmp_path / "out")
        if "staging" in name or name.endswith(".parquet")
    ]
