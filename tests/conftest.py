"""One Spark session, one S3 server and one OUTPUT of the sample for all tests."""

import contextlib
import io

import pytest
from helpers import SAMPLE, Result, S3Server
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from xdist.scheduler import LoadFileScheduling

import etl


def pytest_addoption(parser):
    parser.addoption("--bucket", help="a bucket of yours on AWS, for `pytest -m aws`")


class ByFile(LoadFileScheduling):
    """Tests of one file stay in one process, and so do those of tests/cloud, which share a run."""

    def _split_scope(self, nodeid):
        return "cloud" if nodeid.startswith("tests/cloud/") else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config, log):
    return ByFile(config, log)


@pytest.fixture(scope="session")
def spark():
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.caseSensitive", "true")
        .config("spark.sql.sources.partitionColumnTypeInference.enabled", "false")
        .config("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
        # as in a run on little input: saves 30 % of the time of these tests
        .config("spark.sql.codegen.wholeStage", "false")
        .config("spark.sql.codegen.factoryMode", "NO_CODEGEN")
        .config("spark.sql.adaptive.enabled", "false")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        # one compiler alone reserves 48 MB for its code, which generated code fills in minutes
        .config(
            "spark.driver.extraJavaOptions",
            "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m",
        )
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("OFF")
    etl.use_plain_files(session)
    yield session
    session.stop()


@pytest.fixture
def frame(spark):
    """Builds a frame from text: a header, then one row per line.

    "-" is NULL, and so are the columns of the schema that the text lacks.
    """

    def build(schema: str, text: str):
        lines = []
        for line in text.strip().splitlines():
            lines.append(
                [None if cell.strip() == "-" else cell.strip() for cell in line.split("|")]
            )
        header, *rows = lines
        given = spark.createDataFrame(rows, ", ".join(f"{name} STRING" for name in header))
        columns = []
        for item in spark.createDataFrame([], schema).schema:
            value = F.col(item.name) if item.name in header else F.lit(None)
            columns.append(value.cast(item.dataType).alias(item.name))
        return given.select(columns)

    return build


@pytest.fixture
def job(spark, monkeypatch, tmp_path):
    """Runs the job in this process and on this session; `output` is in the test's own folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dl.cfg").write_text("[DATA]\n")

    def run(source, *arguments, output=None):
        output = output or tmp_path / "output"
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = etl.main(["--input", str(source), "--output", str(output), *arguments])
        spark.catalog.clearCache()
        return Result(code, out.getvalue(), err.getvalue(), output)

    return run


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def sample_tables(spark, tmp_path_factory):
    """An OUTPUT that one run made from the sample."""
    output = tmp_path_factory.mktemp("sample") / "output"
    assert etl.main(["--input", str(SAMPLE), "--output", str(output)]) == 0
    spark.catalog.clearCache()
    return output
