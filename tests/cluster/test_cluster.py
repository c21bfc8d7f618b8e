"""The job on YARN with HDFS and on a standalone cluster, by spark-submit, with both ends on S3.

Executors are other processes without Python; what they know of S3 they get from the driver.
"""

import subprocess
import sys

import pytest
import upload

import etl
from tests.cluster.clusters import Standalone, Yarn, kill, wait_for
from tests.helpers import (
    ROOT,
    all_tables,
    download_folder,
    keys_below,
    play,
    run_process,
    song,
    upload_folder,
    write_input,
)

pytestmark = pytest.mark.cluster
BUCKET = "cluster"


@pytest.fixture(scope="module")
def lake(s3, tmp_path_factory):
    """A bucket with good input below in/ and bad below bad/; and what a local run makes of in/."""
    folder, client = tmp_path_factory.mktemp("input"), s3.bucket(BUCKET)
    songs = [
        song(song_id=f"SO{number}", title=f"Title {number}", year=2000 + number % 3)
        for number in range(20)
    ]
    days = [
        [
            play(
                sessionId=day,
                itemInSession=number,
                song=f"Title {number}",
                ts=1541106106796 + day * 86_400_000 + number,
            )
            for number in range(200)
        ]
        for day in range(4)
    ]
    write_input(folder / "in", songs, days)
    write_input(folder / "bad", songs, [[b"{"] * 10 + days[0][:10]])
    upload_folder(client, folder, BUCKET)
    done = run_process("--input", folder / "in", "--output", folder / "output", cwd=folder)
    assert done.returncode == 0, done.stderr
    client.expected = all_tables(folder / "output")
    assert len(client.expected["songplays"]) == 800 and len(client.expected["songs"]) == 20
    return client


@pytest.fixture(scope="module")
def yarn(tmp_path_factory):
    yield from started(Yarn, tmp_path_factory)


@pytest.fixture(scope="module")
def standalone(tmp_path_factory):
    yield from started(Standalone, tmp_path_factory)


def started(kind, tmp_path_factory):
    cluster = kind(tmp_path_factory.mktemp(kind.__name__.lower()))
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(params=["yarn", "standalone"])
def cluster(request):
    return request.getfixturevalue(request.param)


def is_staged(lake, output):
    """Whether executors have begun to write a table."""
    return any(
        f"/{table}/" in key
        for key in keys_below(lake, BUCKET, f"{output}/_etl/staging/")
        for table in etl.COLUMNS
    )


def published(lake, output, folder):
    """The tables below a prefix of the bucket, as a reader sees them; nothing else is left."""
    assert not keys_below(lake, BUCKET, f"{output}/_etl/staging/")
    return all_tables(download_folder(lake, BUCKET, output, folder / "copy"))


@pytest.fixture
def settings(s3, tmp_path):
    """Writes a dl.cfg into the test's folder, the working directory of spark-submit."""

    def write(source, output):
        made = s3.config(tmp_path, f"s3://{BUCKET}/{source}", f"s3://{BUCKET}/{output}")
        return str(made.rename(tmp_path / "dl.cfg"))

    return write


ETL = str(ROOT / "etl.py")


def test_in_client_mode_an_executor_that_is_killed_costs_no_row(cluster, lake, settings, tmp_path):
    output = f"client-{type(cluster).__name__}".lower()
    process = cluster.submit(
        "--deploy-mode", "client", ETL, "--config", settings("in", output), cwd=tmp_path
    )
    wait_for("a staged table", lambda: process.runs() and is_staged(lake, output))
    killed, *_ = wait_for("an executor", cluster.executors)
    kill(killed)
    code, _, err = process.ended()
    assert code == 0, err[-3000:]
    assert published(lake, output, tmp_path) == lake.expected


def test_in_client_mode_refused_data_exit_with_3(cluster, lake, settings, tmp_path):
    output = f"refused-{type(cluster).__name__}".lower()
    code, out, _ = cluster.submit(ETL, "--config", settings("bad", output), cwd=tmp_path).ended()
    # spark-submit sends Python's stderr to its stdout
    assert code == 3 and "MAX_REJECTED = 0.01 allows less" in out
    assert keys_below(lake, BUCKET, f"{output}/_etl/quarantine/")
    assert not keys_below(lake, BUCKET, f"{output}/songplays")


def test_in_cluster_mode_the_driver_finds_the_dl_cfg_of_files(yarn, lake, settings, tmp_path):
    process = yarn.submit(
        "--deploy-mode", "cluster", "--files", settings("in", "shipped"), ETL, cwd=tmp_path
    )
    code, _, err = process.ended()
    assert (code, yarn.attempts()) == (0, 1), err[-2000:] + yarn.driver_logs()
    assert published(lake, "shipped", tmp_path) == lake.expected


def test_in_cluster_mode_a_bare_python_gets_its_packages_from_an_archive_and_errors_are_said(
    yarn, s3, lake, tmp_path
):
    """As EMR Serverless runs it: packages come as zips, and nothing names Spark's home."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    (tmp_path / "packages.zip").write_bytes(upload.packages("X86_64"))
    config = s3.config(tmp_path, "s3://no-such-source/in", f"s3://{BUCKET}/nothing")
    config = config.rename(tmp_path / "dl.cfg")
    settings = {
        "spark.pyspark.driver.python": tmp_path / "bare" / "bin" / "python",
        "spark.yarn.appMasterEnv.PYTHONPATH": "packages",
        "spark.yarn.maxAppAttempts": "1",
    }
    conf = [word for name, value in settings.items() for word in ("--conf", f"{name}={value}")]
    files = ["--archives", f"{tmp_path}/packages.zip#packages", "--files", str(config)]
    code, _, _ = yarn.submit("--deploy-mode", "cluster", *conf, *files, ETL, cwd=tmp_path).ended()
    assert (code, yarn.attempts()) == (1, 1)
    said = [line for line in yarn.driver_logs().splitlines() if line.startswith("etl.py: ")]
    assert len(said) == 1 and "no-such-source" in said[0] and "NoSuchBucket" in said[0]


def test_in_cluster_mode_a_driver_that_is_killed_is_run_again_and_each_row_is_there_once(
    yarn, lake, settings, tmp_path
):
    process = yarn.submit(
        "--deploy-mode", "cluster", "--files", settings("in", "again"), ETL, cwd=tmp_path
    )
    wait_for("a staged table", lambda: process.runs() and is_staged(lake, "again"))
    kill(*yarn.drivers())
    code, _, err = process.ended()
    assert (code, yarn.attempts()) == (0, 2), err[-2000:] + yarn.driver_logs()
    assert published(lake, "again", tmp_path) == lake.expected


def test_in_cluster_mode_refused_data_exit_with_1_and_a_second_attempt_does_no_harm(
    yarn, lake, settings, tmp_path
):
    config = settings("bad", "refused-twice")
    code, _, _ = yarn.submit(
        "--deploy-mode", "cluster", "--files", config, ETL, cwd=tmp_path
    ).ended()
    assert (code, yarn.attempts()) == (1, 2)
    assert yarn.driver_logs().count("MAX_REJECTED = 0.01 allows less") == 2
    assert not [key for key in keys_below(lake, BUCKET, "refused-twice/") if "/_etl/" not in key]
    assert not keys_below(lake, BUCKET, "refused-twice/_etl/staging/")
