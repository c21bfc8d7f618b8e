"""Whole runs in processes of their own, as users start them."""

import json
import os
from collections import Counter

import pytest
from helpers import ROOT, SAMPLE, all_tables, files_below, run_process

import etl

RIGHT_ROWS = {
    "songplays": 2062,
    "users": 77,
    "songs": 149,
    "artists": 82,
    "time": 2062,
}
RIGHT_EVENTS = {
    "lines": 2411,
    "blank": 1,
    "malformed": 3,
    "invalid": 0,
    "out_of_scope": 339,
    "duplicate": 5,
    "key_conflict": 1,
    "songplays": 2062,
    "matched": 654,
    "ambiguous": 49,
}
RIGHT_SONGS = {
    "records": 150,
    "malformed": 0,
    "invalid": 0,
    "duplicate": 0,
    "variant": 1,
    "songs": 149,
}


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """The README's command on the sample; its output, tables and what it printed."""
    folder = tmp_path_factory.mktemp("first")
    done = run_process("--output", folder / "out", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "out", all_tables(folder / "out"), done.stdout


def test_the_sample_has_its_right_answers(first_run):
    output, tables, _ = first_run
    report = json.loads(next((output / "_etl" / "runs").iterdir()).read_text())
    assert {name: len(rows) for name, rows in tables.items()} == RIGHT_ROWS
    assert report["events"] == RIGHT_EVENTS
    assert report["songs"] == RIGHT_SONGS
    assert {name: made["rows"] for name, made in report["tables"].items()} == RIGHT_ROWS


def test_the_end_of_a_run_is_one_screen_in_the_readers_words(first_run):
    output, _, printed = first_run
    assert all(len(line) <= 80 for line in printed.splitlines() if str(output) not in line)
    screen = " ".join(printed.split())
    for words in (
        "2,411 log lines",
        "2,062 songplays plays, one row each",
        "3 malformed not exactly one JSON object",
        "150 song records",
        "654 of 2,062 plays match a song of the catalogue.",
        f"Rejected lines: {output}/_etl/quarantine/",
        f"The tables are in {output} (commit 1).",
        "Next: python analytics/report.py",
    ):
        assert words in screen
    # a class without lines is not listed
    assert "invalid" not in screen


def test_a_second_run_publishes_nothing_and_every_file_is_as_it_was(first_run, tmp_path):
    output, _, _ = first_run
    before = files_below(output)
    done = run_process("--output", output, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Nothing to do" in done.stdout
    assert f"The tables are in {output}" in done.stdout
    assert files_below(output) == before


def test_a_dry_run_writes_nothing_and_no_folder(tmp_path):
    done = run_process("--output", tmp_path / "a" / "b" / "c", "--dry-run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "would write songplays" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("zone", "cores"),
    [
        ("America/Los_Angeles", 1),
        ("Asia/Kolkata", 4),
    ],
)
def test_same_rows_in_other_time_zones_on_other_cores_and_from_other_files(
    first_run, tmp_path, zone, cores
):
    """A hostile environment, too: what users set for their own Spark changes no row."""
    lines = []
    for file in sorted(SAMPLE.glob("log_data/**/*.json")):
        lines += reversed(file.read_text().splitlines())
    (tmp_path / "in" / "log_data").mkdir(parents=True)
    (tmp_path / "in" / "log_data" / "z.json").write_text("\n".join(lines[1::2]) + "\n")
    (tmp_path / "in" / "log_data" / "a.json").write_text("\n".join(lines[::2]))
    os.symlink(SAMPLE / "song_data", tmp_path / "in" / "song_data")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "spark-defaults.conf").write_text(HOSTILE_DEFAULTS.format(zone=zone))
    (tmp_path / "conf" / "spark-env.sh").write_text("echo a word; no-such-command; false\n")
    (tmp_path / "conf" / "log4j2.properties").write_text("no name\n= no level\n")
    env = {
        "TZ": zone,
        "PYSPARK_SUBMIT_ARGS": f"--master local[{cores}] pyspark-shell",
        "SPARK_CONF_DIR": str(tmp_path / "conf"),
    }
    flags = ["--input", tmp_path / "in", "--output", tmp_path / "out"]
    done = run_process(*flags, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert all_tables(tmp_path / "out") == first_run[1]


HOSTILE_DEFAULTS = """\ufeff# not a setting
no_setting_of_spark 1
spark.without.a.value
= without a name
spark.sql.session.timeZone {zone}
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
spark.sql.adaptive.enabled false
spark.sql.timestampType TIMESTAMP_NTZ
spark.sql.parquet.compression.codec gzip
spark.serializer org.apache.spark.serializer.KryoSerializer
spark.speculation true
"""


def start_spark(tmp_path, code, conf="", **env):
    """What a process prints that starts the job's session, with this spark-defaults.conf."""
    (tmp_path / "spark-defaults.conf").write_text(conf, encoding="latin-1")
    start = "import etl; place = etl.open_place('file:///', None, None); "
    start += "spark = etl.start_spark(etl.Run(None, place, place)); jvm = spark._jvm; "
    env["SPARK_CONF_DIR"] = str(tmp_path)
    done = run_process(cwd=tmp_path, code=start + code, env=env)
    assert done.returncode == 0, done.stderr
    return done


def test_a_spark_home_without_spark_is_an_error_of_settings(tmp_path):
    env = {"SPARK_HOME": str(tmp_path)}
    done = run_process("--output", str(tmp_path / "out"), cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert "SPARK_HOME names no folder of Spark; correct it, or unset it" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_address_that_this_machine_lacks_is_named_with_its_variable(tmp_path):
    env = {"SPARK_LOCAL_IP": "192.0.2.1"}
    done = run_process("--output", str(tmp_path / "out"), cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert "correct SPARK_LOCAL_IP, or unset it (BindException)" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_settings_of_the_user_win_over_the_jobs_own(tmp_path):
    conf = """
        # für den Treiber, not in UTF-8
        spark.driver.memory            700m
        spark.driver.extraJavaOptions=-Dhttp.proxyHost=proxy
        spark.sql.shuffle.partitions:  3
    """
    code = "print(jvm.java.lang.System.getProperty('http.proxyHost'), "
    code += "jvm.java.lang.Runtime.getRuntime().maxMemory() < 8e8, "
    code += "spark.conf.get('spark.sql.shuffle.partitions'))"
    assert start_spark(tmp_path, code, conf).stdout == "proxy True 3\n"


def test_the_environment_that_java_and_python_read_does_no_harm(tmp_path):
    """JAVA_TOOL_OPTIONS makes each Java print a line, which must not hide its version."""
    env = {
        "JAVA_TOOL_OPTIONS": "-Dfile.encoding=ISO-8859-1",
        "_JAVA_OPTIONS": "-Duser.language=tr",
        "JDK_JAVA_OPTIONS": "-Duser.country=TR",
        "HADOOP_CONF_DIR": "/nonexistent",
        "SPARK_CONF_DIR": "/nonexistent",
        "PYSPARK_PYTHON": "/nonexistent",
        "PYSPARK_DRIVER_PYTHON": "/nonexistent",
        "PYTHONIOENCODING": "latin-1",
        "PYTHONWARNINGS": "error",
        "PYTHONDEVMODE": "",
        "PYTHONOPTIMIZE": "2",
        "PYTHONUTF8": "0",
        "PYTHONUNBUFFERED": "1",
        "SPARK_LOCAL_DIRS": str(tmp_path),
        "SPARK_TESTING": "",
        "HOME": "/nonexistent",
        "TMPDIR": "/nonexistent",
    }
    done = run_process("--output", tmp_path / "out", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert len(all_tables(tmp_path / "out")["songplays"]) == RIGHT_ROWS["songplays"]


def test_a_session_that_is_there_is_used_and_left_running(job, spark):
    """Also if main is called more than once, and from a thread."""
    before = spark.sparkContext.applicationId
    results = etl.in_parallel(lambda _: job(SAMPLE, "--force"), [1])
    results.append(job(SAMPLE, "--force"))
    assert [result.code for result in results] == [0, 0]
    assert spark.sparkContext.applicationId == before
    assert spark.range(3).count() == 3


def test_main_starts_one_java_at_a_time_and_leaves_sigterm_alone(tmp_path):
    """As a notebook calls it: twice, and then with a session of its own."""
    code = """
import signal, subprocess, sys, etl
# pyspark itself handles SIGINT
handler = signal.getsignal(signal.SIGTERM)
for number in range(2):
    assert etl.main(["--output", sys.argv[1], "--force"]) == 0
assert etl.main(["--output", sys.argv[1]]) == 0
assert etl.SparkContext._active_spark_context is None
spark = etl.SparkSession.builder.master("local[1]").getOrCreate()
assert spark.range(3).count() == 3
assert signal.getsignal(signal.SIGTERM) == handler
children = ["ps", "-o", "comm=", "--ppid", str(etl.os.getpid())]
print(subprocess.check_output(children, text=True).split().count("java"))
"""
    done = run_process(tmp_path / "out", cwd=tmp_path, code=code)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "1"


def test_every_row_of_songplays_is_in_one_file_and_month_of_its_own(first_run):
    output, tables, _ = first_run
    folders = Counter(path.parent.name for path in output.glob("songplays/**/*.parquet"))
    assert folders == {"month=10": 1, "month=11": 1}
    assert {row[-1] for row in tables["songplays"]} == {10, 11}


def test_the_job_is_one_file_that_runs_alone(tmp_path):
    """spark-submit ships nothing but etl.py."""
    (tmp_path / "etl.py").write_bytes((ROOT / "etl.py").read_bytes())
    code = "import sys; sys.path.insert(0, '.'); import etl; sys.exit(etl.main())"
    flags = ["--input", SAMPLE, "--output", tmp_path / "out", "--dry-run"]
    done = run_process(*flags, cwd=tmp_path, code=code, env={"PYTHONPATH": ""})
    assert (done.returncode, done.stderr) == (0, "")
