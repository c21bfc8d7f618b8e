"""What is wrong is said in one line that names the thing, the place and the remedy."""

import os
import subprocess
import sys

import pytest
from helpers import ROOT, SAMPLE, run_process

import etl


def check_line(result, code, *words):
    assert result.code == code, result.err
    assert len(result.err.splitlines()) == 1, result.err
    for word in words:
        assert word in result.err


@pytest.mark.parametrize("side", ["song_data", "log_data"])
def test_a_side_without_files_is_refused(quick, side):
    (quick.source / side / "a.json").rename(quick.source / side / "a.txt")
    for arguments in ([], ["--dry-run"]):
        result = quick(*arguments)
        check_line(result, 2, f"/in/{side}: no file ends in .json", "INPUT is the folder that")


def test_an_input_that_is_the_folder_above_is_refused(main):
    result = main("--input", ROOT / "data", "--output", "output")
    remedy = "INPUT is the folder that holds song_data and log_data"
    check_line(result, 2, "data/song_data: no file ends in .json", remedy)


@pytest.mark.parametrize("output", ["file", "file/out"])
def test_an_output_that_is_a_file_is_refused(quick, tmp_path, output):
    (tmp_path / "file").touch()
    for arguments in ([], ["--dry-run"]):
        result = quick(*arguments, "--output", output)
        check_line(result, 2, output, "a file stands where a folder should be")


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can become somebody who may not write")
def test_an_output_that_nobody_may_write_is_refused(tmp_path):
    code = "import encodings.utf_8_sig, os, sys, etl; os.setuid(65534); sys.exit(etl.main())"
    flags = ["--input", SAMPLE, "--output", "/usr/sparkify/output"]
    done = run_process(*flags, cwd="/", code=code)
    assert done.returncode == 2
    assert "/usr/sparkify/output: this user may not read or write there" in done.stderr


def test_words_in_names_are_no_errors(quick, tmp_path):
    """A remedy is looked for in an error's words, and names of files may hold any."""
    for name in ("SSO data", "403 Forbidden", "AccessDenied", "NoSuchBucket"):
        source = (tmp_path / "in").rename(tmp_path / name)
        (source / "log_data" / "loop").symlink_to(source / "log_data")
        result = quick("--input", source, "--dry-run")
        (source / "log_data" / "loop").unlink()
        source.rename(tmp_path / "in")
        assert result.code in (0, 1), result.err
        for words in ("expired", "denied", "bucket"):
            assert words not in result.err


@pytest.mark.parametrize("side", ["song_data", "log_data"])
def test_names_that_are_not_utf_8_are_refused(quick, side):
    os.close(os.open(os.fsencode(quick.source / side) + b"/caf\xe9.json", os.O_CREAT))
    check_line(quick(), 2, "/in: a key cannot be addressed: its name is not UTF-8")


@pytest.mark.parametrize("name", ["a\tb", "a\x1b[31mb", "a\nb"])
def test_a_name_that_cannot_be_addressed_is_printed_without_control_characters(quick, name):
    (quick.source / "song_data" / f"{name}.json").touch()
    result = quick()
    check_line(result, 2, "/in: a key cannot be addressed: ", "rename it")
    assert "\x1b" not in result.err


@pytest.mark.parametrize("package", ["obstore", "pyspark"])
def test_a_missing_package_is_said_with_the_command_that_installs_it(tmp_path, package):
    """-S leaves all packages out; PYTHONPATH gives the other one back, as an empty module."""
    other = {"obstore": "pyspark", "pyspark": "obstore"}[package]
    if package == "pyspark":
        for name in ("obstore/__init__", "obstore/store", "obstore/exceptions"):
            (tmp_path / "obstore").mkdir(exist_ok=True)
            (tmp_path / f"{name}.py").write_text("def __getattr__(name): return Exception")
    command = [sys.executable, "-S", ROOT / "etl.py", "--dry-run"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path) if other == "obstore" else ""}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    words = f"etl.py: the Python package {package} is missing; pip install"
    assert done.stderr.startswith(words) and len(done.stderr.splitlines()) == 1


def test_boto3_is_wanted_only_if_a_path_is_on_s3(quick, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert quick("--dry-run").code == 0
    result = quick("--output", "s3://bucket/lake")
    check_line(result, 2, "the Python package boto3 is missing; pip install")


JAVAS = {
    "8": "1.8.0_392",
    "11": "11.0.2",
    "16": "16",
}


def fake_java(folder, version):
    java = folder / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho 'Picked up X'>&2; echo 'java version \"{version}\"' >&2\n")
    java.chmod(0o755)
    return java


@pytest.mark.parametrize("version", JAVAS)
def test_a_java_that_does_not_fit_is_refused_before_anything_is_written(
    quick, tmp_path, monkeypatch, version
):
    java = fake_java(tmp_path, JAVAS[version])
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    for arguments in ([], ["--dry-run"]):
        check_line(quick(*arguments), 2, f"{java} is Java {version}, which Spark", "Java 17 or 21")
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("spark", "java", "fits"),
    [
        ("3.5.6", "1.8.0_392", True),
        ("3.5.6", "17.0.1", True),
        ("3.5.6", "25", False),
        ("4.1.1", "11.0.2", False),
        ("4.1.1", "21.0.4", True),
        ("4.1.1", "25", False),
        ("4.3.0", "25", True),
        ("4.3.0", "26-ea", True),
        ("5.0.0", "17.0.1", False),
        ("5.0.0", "21.0.4", True),
    ],
)
def test_each_spark_has_its_javas(quick, tmp_path, monkeypatch, spark, java, fits):
    fake_java(tmp_path, java)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setattr(etl.pyspark, "__version__", spark)
    assert quick("--dry-run").code == (0 if fits else 2)


def test_a_java_that_does_not_start_is_quoted_without_the_options_it_repeats(quick, monkeypatch):
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Dpassword=canary -Xmx1x")
    result = quick()
    check_line(result, 2, "/java cannot tell its version; it says: Picked up JAVA_TOOL_OPTIONS;")
    assert "Invalid maximum heap size: -Xmx1x" in result.err
    assert "canary" not in result.err


def test_no_java_is_said_with_the_place_where_it_was_looked_for(quick, tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    check_line(quick(), 2, f"no Java in JAVA_HOME, {tmp_path}", "install Java 17 or 21")
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    check_line(quick(), 2, "no Java on the PATH", "install Java 17 or 21")


def test_hadoop_aws_is_not_missing_because_a_stack_trace_names_it():
    trace = (
        "Py4JError: timeout\n\tat org.apache.hadoop.fs.s3a.S3AFileSystem.open(S3AFileSystem.java:1)"
    )
    assert "lacks" not in str(etl.explain(RuntimeError(trace), "Spark"))
    missing = "ClassNotFoundException: Class org.apache.hadoop.fs.s3a.S3AFileSystem not found"
    assert "Spark lacks hadoop-aws" in str(etl.explain(RuntimeError(missing), "Spark"))


def test_a_store_that_overwrites_is_refused(quick, monkeypatch):
    """Not by the probe alone: nothing else is written either."""
    real = etl.obstore.put
    monkeypatch.setattr(etl.obstore, "put", lambda store, key, data, **_: real(store, key, data))
    result = quick()
    check_line(result, 2, "the store overwrites what it should only create; choose another store")
    assert not [path for path in result.output.rglob("*") if path.is_file()]


def test_nothing_to_do_says_where_the_tables_are(quick, tmp_path):
    assert "(commit 1)" in quick().out
    result = quick()
    assert (result.code, result.err) == (0, "")
    assert f"The tables are in {tmp_path}/output" in result.out
