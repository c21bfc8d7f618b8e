"""What is wrong is said in one line that names the thing; a traceback is kept for bugs."""

import ast
import os
import subprocess
import sys

import pytest

import etl
from tests.helpers import ROOT, SAMPLE, Result, play, run_process, song, write_input

# ── Python, Spark and Java ────────────────────────────────────────────────────────────────────


def test_an_older_python_is_told_before_anything_else(tmp_path):
    ast.parse((ROOT / "etl.py").read_text(), feature_version=(3, 8))
    code = "import runpy, sys; sys.version_info = (3, 10, 1); sys.version = '3.10.1 (main)'; "
    code += f"runpy.run_path({str(ROOT / 'etl.py')!r}, run_name='__main__')"
    done = run_process(cwd=tmp_path, code=code)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "etl.py: Python 3.11 or newer is needed, not 3.10.1\n"


def run_with_package(folder, name, source):
    """The job with another package of this name."""
    (folder / "packages" / name).mkdir(parents=True)
    (folder / "packages" / name / "__init__.py").write_text(source)
    env = {"PYTHONPATH": str(folder / "packages")}
    return run_process("--dry-run", cwd=folder, env=env)


@pytest.mark.parametrize("version", ["3.4.4", "2.4.8"])
def test_an_older_spark_is_told_before_anything_else(tmp_path, version):
    done = run_with_package(tmp_path, "pyspark", f"__version__ = '{version}'")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"etl.py: Spark 3.5 or newer is needed, not {version}\n"


@pytest.mark.parametrize("package", ["obstore", "pyspark"])
def test_a_missing_package_is_said_with_the_command_that_installs_it(tmp_path, package):
    code = f"raise ModuleNotFoundError(name='{package}')"
    done = run_with_package(tmp_path, package, code)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert f"the package {package} is missing" in done.stderr
    assert "pip install -r requirements.txt" in done.stderr


def test_a_missing_java_is_said(tmp_path):
    flags = ["--output", tmp_path / "out"]
    done = run_process(*flags, cwd=tmp_path, env={"JAVA_HOME": str(tmp_path)})
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "Java not found; install Java 17, 21 or 25, or set JAVA_HOME" in done.stderr


LAUNCHES = {
    "an address that this machine lacks": (
        {"SPARK_LOCAL_IP": "192.0.2.1"},
        "Cannot assign requested address",
    ),
    "memory that Java cannot have": (
        {"JAVA_TOOL_OPTIONS": "-Dpassword=canary -Xmx1x"},
        "Invalid maximum heap size: -Xmx1x",
    ),
}


@pytest.mark.parametrize("name", LAUNCHES)
def test_a_launch_that_fails_is_quoted_and_java_is_not_blamed(tmp_path, name):
    env, words = LAUNCHES[name]
    done = run_process("--output", tmp_path / "out", cwd=tmp_path, env=env)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert done.stderr.splitlines()[-1].startswith("etl.py: Spark did not start: ")
    assert "JAVA_HOME" not in done.stderr and "canary" not in done.stderr


def test_a_java_that_is_killed_ends_the_run_with_one_line_and_a_traceback(tmp_path):
    flags = ["--input", SAMPLE, "--output", tmp_path / "out"]
    process = subprocess.Popen(
        [sys.executable, ROOT / "etl.py", *flags],
        cwd=tmp_path,
        # where a Java that is killed leaves its folder
        env={**os.environ, "JAVA_TOOL_OPTIONS": f"-Djava.io.tmpdir={tmp_path}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("Building the tables"):
            break
    subprocess.run(["pkill", "-KILL", "-P", str(process.pid), "java"], check=True)
    out, err = process.communicate(timeout=300)
    result = Result(process.returncode, out, err, tmp_path / "out")
    assert result.code == 1, err
    assert "Java exited during the run" in result.error
    assert len(err.splitlines()) == 1
    assert "in process_log_data" in result.summary["traceback"]
    assert not list(result.output.rglob("*.parquet"))


# ── Bugs ──────────────────────────────────────────────────────────────────────────────────────


def test_a_bug_is_one_line_and_its_traceback_is_in_the_summary_and_with_verbose_on_stderr(
    job, tmp_path, monkeypatch
):
    def songs_table(song_records):
        return {}["song"]

    monkeypatch.setattr(etl, "songs_table", songs_table)
    write_input(tmp_path / "in", [song()], [[play()]])
    result = job(tmp_path / "in")
    assert (result.code, result.error) == (
        1,
        "etl.py: Building the tables: KeyError: 'song'; nothing is published",
    )
    assert "in songs_table" in result.summary["traceback"]
    verbose = job(tmp_path / "in", "--verbose")
    assert "in songs_table" in verbose.err
    assert verbose.err.splitlines()[-1] == result.error


def test_a_session_that_is_there_is_used_and_left_running(job, spark, tmp_path):
    write_input(tmp_path / "in", [song()], [[play()]])
    before = spark.sparkContext.applicationId
    # a thread has no active session of its own
    [result] = etl.in_parallel(lambda _: job(tmp_path / "in"), [1])
    assert result.code == 0, result.err
    assert spark.sparkContext.applicationId == before
    assert spark.range(3).count() == 3


# ── Locations ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_an_input_that_is_not_there_or_the_folder_above_is_named(quick, tmp_path, flags):
    result = quick("--input", "nowhere", *flags)
    assert (result.code, f"{tmp_path}/nowhere: no such folder" in result.error) == (2, True)
    result = quick("--input", ROOT / "data", *flags)
    assert (result.code, "data/song_data: no file to read" in result.error) == (2, True)


@pytest.mark.parametrize("output", ["file", "file/out"])
def test_an_output_that_is_a_file_is_named(quick, tmp_path, output):
    (tmp_path / "file").touch()
    result = quick("--output", output)
    assert (result.code, output in result.error) == (2, True)
    assert "a file is where a folder should be" in result.error


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can become somebody who may not write")
def test_an_output_that_nobody_may_write_is_named(tmp_path):
    code = "import encodings.utf_8_sig, os, sys, etl; os.setuid(65534); sys.exit(etl.main())"
    flags = ["--input", SAMPLE, "--output", "/usr/sparkify/output"]
    done = run_process(*flags, cwd="/", code=code)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "/usr/sparkify" in done.stderr
    assert "this user may not read or write there" in done.stderr


@pytest.mark.parametrize("dataset", ["song_data", "log_data"])
@pytest.mark.parametrize("name", [b"a\tb", b"a\x1b[31mb", b"a\nb", b"caf\xe9"])
def test_a_name_that_cannot_be_addressed_is_printed_without_control_characters(
    quick, dataset, name
):
    os.close(os.open(os.fsencode(quick.source / dataset) + b"/" + name + b".json", os.O_CREAT))
    result = quick()
    assert (result.code, "rename the object" in result.error) == (2, True)
    assert "\x1b" not in result.err
