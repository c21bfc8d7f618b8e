"""One Spark session for each process of the tests, one S3 server, one OUTPUT of the sample."""

import json
import tempfile

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from xdist.scheduler import LoadScopeScheduling

import etl
from tests.helpers import SAMPLE, S3Server, run_main

FETCH_PACKAGES = ("tests/cloud/", "tests/job/test_s3.py", "tests/analytics/test_notebook.py")


def pytest_addoption(parser):
    parser.addoption("--bucket", help="a bucket of yours on AWS, for `pytest -m aws`")


class ByFile(LoadScopeScheduling):
    """Tests of one file stay in one process, because they share fixtures.

    So do those that let Spark fetch packages for S3, which two processes cannot do at once.
    """

    def _split_scope(self, nodeid):
        path = nodeid.partition("::")[0]
        return "packages" if path.startswith(FETCH_PACKAGES) else path


def pytest_xdist_make_scheduler(config, log):
    config.option.loadscopereorder = False
    return ByFile(config, log)


def pytest_collection_modifyitems(items):
    """The last files are quick, so that both processes end at about the same time."""
    items.sort(key=lambda item: item.path, reverse=True)


@pytest.fixture(scope="session", autouse=True)
def scratch():
    """A temporary folder for all that tests start: programs that are killed leave files."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TMPDIR", folder)
        patch.setenv("SPARK_LOCAL_DIRS", folder)
        yield


@pytest.fixture(scope="session")
def spark():
    """Spark as it is for little input, which saves 30 % of the time of these tests."""
    options = {**etl.OPTIONS, **etl.SMALL_RUN, **etl.GUARANTEES}
    # one compiler alone reserves 48 MB for its code, which generated code fills in minutes
    options["spark.driver.extraJavaOptions"] += " -XX:ReservedCodeCacheSize=240m"
    options["spark.sql.shuffle.partitions"] = "2"
    options["spark.ui.showConsoleProgress"] = "false"
    session = SparkSession.builder.master("local[2]").config(map=options).getOrCreate()
    session.sparkContext.setLogLevel("OFF")
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
            cells = [cell.strip() for cell in line.split("|")]
            lines.append([None if cell == "-" else cell for cell in cells])
        header, *rows = lines
        given = spark.createDataFrame(rows, ", ".join(f"{name} STRING" for name in header))
        columns = []
        for item in spark.createDataFrame([], schema).schema:
            value = F.col(item.name) if item.name in header else F.lit(None)
            columns.append(value.cast(item.dataType).alias(item.name))
        return given.select(columns)

    return build


@pytest.fixture
def json_lines(spark):
    """A frame of `file` and `line`, as the readers return it, from records or bytes."""

    def build(*lines):
        rows = []
        for line in lines:
            data = line if isinstance(line, bytes) else json.dumps(line).encode()
            rows.append(("log_data/a.json", bytearray(data)))
        given = spark.createDataFrame(rows, "file STRING, line BINARY").coalesce(1)
        return given.select("file", F.col("line").cast("string").alias("line"))

    return build


@pytest.fixture
def job(spark, monkeypatch, tmp_path):
    """Runs the job in this process and on this session; `output` is in the test's own folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dl.cfg").touch()

    def run(source, *arguments, output=None):
        output = output or tmp_path / "output"
        result = run_main("--input", source, "--output", output, *arguments, output=output)
        spark.catalog.clearCache()
        return result

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
