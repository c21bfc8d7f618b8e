"""Whole runs in processes of their own, as users start them."""

import contextlib
import os
import pty
import shlex
import struct
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pyspark
import pytest

import etl
from tests import reference
from tests.helpers import ROOT, SAMPLE, Result, check_tables


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """The README's command on the sample, in India, with a terminal behind stderr alone.

    And with an archive of classes that another Java wrote.
    """
    folder = tmp_path_factory.mktemp("first")
    package = folder / "pyspark"
    package.mkdir()
    for file in Path(pyspark.__file__).parent.iterdir():
        if file.suffix != ".jsa":
            (package / file.name).symlink_to(file)
    # the magic number of an archive, a checksum, and a version that no Java has
    archive = struct.pack("<III", 0xF00BABA8, 0, 1) + bytes(4096)
    (package / f"classes-{pyspark.__version__}.jsa").write_bytes(archive)
    env = {"TZ": "Asia/Kolkata", "COLUMNS": "80", "PYTHONPATH": str(folder)}
    here, there = pty.openpty()
    said = []

    def read():
        # Linux answers with an error once nobody holds the other end
        with contextlib.suppress(OSError):
            while data := os.read(here, 65536):
                said.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    submit = "--conf spark.ui.consoleProgress.delay=1 pyspark-shell"
    done = subprocess.run(
        [sys.executable, ROOT / "etl.py", "--output", folder / "out"],
        cwd=folder,
        env={**os.environ, **env, "PYSPARK_SUBMIT_ARGS": submit},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=there,
        text=True,
        start_new_session=True,
    )
    os.close(there)
    reader.join()
    err = b"".join(said).decode()
    assert done.returncode == 0, err
    return Result(0, done.stdout, err, folder / "out")


@pytest.fixture(scope="module")
def expected():
    """The right answers, from the rules in plain Python."""
    return reference.answer(SAMPLE)


def test_the_sample_has_its_right_answers(first_run, expected):
    check_tables(first_run.output, expected)
    summary = first_run.summary
    assert summary["events"] == {name: expected.events[name] for name in summary["events"]}
    assert summary["songs"] == {name: expected.songs[name] for name in summary["songs"]}
    assert (summary["commit"], summary["exit"], summary["error"]) == (1, 0, "")
    assert summary["input"] == str(SAMPLE) and summary["output"] == str(first_run.output)
    assert summary["versions"]["spark"] == pyspark.__version__


def test_the_end_of_a_run_is_one_screen_of_80_columns(first_run, expected):
    output, events = first_run.output, expected.events
    *lines, _ = first_run.out.splitlines()
    assert all(len(line) <= 80 for line in lines if str(output) not in line)
    screen = " ".join(first_run.out.split())
    for words in (
        f"{events['lines']:,} log lines",
        f"{events['songplays']:,} songplays plays, one row each",
        f"{events['malformed']:,} malformed ",
        f"{expected.songs['records']:,} song records",
        f"{events['matched']:,} of {events['songplays']:,} plays match a song",
        f"Rejected lines are in {output}/_etl/quarantine/",
        f"The tables are in {output} (commit 1).",
    ):
        assert words in screen
    # a class without lines is not listed
    assert events["invalid"] == 0 and "invalid" not in screen


def test_a_terminal_shows_sparks_progress_and_none_of_its_log(first_run):
    assert "\r[Stage " in first_run.err
    for word in ("WARN", "INFO", "Exception", "log4j", "incubator", "[warning]"):
        assert word not in first_run.err + first_run.out


def test_every_play_is_in_one_file_a_month(first_run, expected):
    folders = Counter(path.parent.name for path in first_run.output.glob("songplays/**/*.parquet"))
    assert folders == {f"month={row[-1]}": 1 for row in expected.tables["songplays"]}


def test_the_next_command_names_this_output_for_a_shell(quick, monkeypatch, tmp_path):
    """And that of a run that had nothing to do; if duckdb is missing, pip installs it first."""
    monkeypatch.setattr(etl.importlib.util, "find_spec", lambda name: None)
    for _ in range(2):
        result = quick("--output", "my lake's")
        *_, install, show = result.out.splitlines()
        program, _, _, _, _, requirements = shlex.split(install)
        assert Path(requirements).samefile(ROOT / "analytics" / "requirements.txt")
        assert subprocess.run([program, "--version"], capture_output=True).returncode == 0
        _, report, lake = shlex.split(show)
        assert Path(report).samefile(ROOT / "analytics" / "report.py")
        assert lake == f"{tmp_path}/my lake's"


def test_a_dry_run_writes_nothing_and_says_that_it_read_no_file(quick, tmp_path):
    before = set(tmp_path.rglob("*"))
    result = quick("--output", "a/b", "--dry-run")
    assert (result.code, result.err) == (0, "")
    assert "The data was not read" in result.out
    assert set(tmp_path.rglob("*")) == before


HOSTILE_DEFAULTS = """
spark.master local[1]
spark.sql.session.timeZone America/Los_Angeles
spark.sql.ansi.enabled false
spark.sql.caseSensitive false
spark.sql.parquet.outputTimestampType INT96
spark.sql.sources.partitionColumnTypeInference.enabled true
spark.sql.sources.partitionOverwriteMode dynamic
spark.sql.files.ignoreCorruptFiles true
spark.sql.files.ignoreMissingFiles true
spark.sql.files.maxPartitionBytes 100000
spark.sql.files.maxRecordsPerFile 700
spark.sql.legacy.timeParserPolicy LEGACY
spark.sql.timestampType TIMESTAMP_NTZ
spark.sql.parquet.compression.codec gzip
spark.serializer org.apache.spark.serializer.KryoSerializer
spark.sql.shuffle.partitions 3
spark.driver.extraJavaOptions -XX:TieredStopAtLevel=1
"""


def test_spark_submit_on_another_machine_makes_the_same_rows_from_shuffled_files(
    expected, tmp_path
):
    """What users set for Spark, Java and the time zone changes no row."""
    lines = []
    for file in sorted(SAMPLE.glob("log_data/**/*.json")):
        lines += reversed(file.read_text().splitlines())
    source = tmp_path / "in"
    (source / "log_data").mkdir(parents=True)
    (source / "log_data" / "z.json").write_text("\n".join(lines[1::2]) + "\n")
    (source / "log_data" / "a.json").write_text("\n".join(lines[::2]))
    os.symlink(SAMPLE / "song_data", source / "song_data")
    (tmp_path / "hostile.conf").write_text(HOSTILE_DEFAULTS)
    submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
    command = [submit, "--properties-file", tmp_path / "hostile.conf", ROOT / "etl.py"]
    env = {
        "TZ": "America/Los_Angeles",
        "JAVA_TOOL_OPTIONS": "-Duser.language=tr -Duser.country=TR -Dfile.encoding=ISO-8859-1",
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "PYSPARK_PYTHON": "/nonexistent",
        "SPARK_LOCAL_DIRS": str(tmp_path / "scratch"),
    }
    done = subprocess.run(
        [*command, "--input", source, "--output", tmp_path / "out"],
        cwd=tmp_path,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    check_tables(tmp_path / "out", expected)


def test_the_job_is_one_file_that_runs_alone(tmp_path):
    """spark-submit ships nothing but etl.py."""
    (tmp_path / "etl.py").write_bytes((ROOT / "etl.py").read_bytes())
    command = [sys.executable, tmp_path / "etl.py", "--input", SAMPLE, "--output", "out"]
    done = subprocess.run([*command, "--dry-run"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
