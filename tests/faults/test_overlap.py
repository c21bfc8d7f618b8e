"""Real runs, without Spark, that overlap on one OUTPUT, and plain readers while they publish."""

import io
import multiprocessing
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import product

import duckdb
import pyarrow
import pyarrow.parquet
import pytest

import etl
from tests.helpers import run_main, without_spark, write_input

# of each table, in two files
HALVES = (range(3), range(3, 6))
PUBLICATIONS = 20


def parquet(version, rows):
    data = io.BytesIO()
    table = pyarrow.table({"version": [version] * len(rows), "row": rows})
    pyarrow.parquet.write_table(table, data)
    return data.getvalue()


def publish(folder, version):
    """A run, in this process, after which all tables hold this version."""
    without_spark()
    songs = [parquet(version, rows) for rows in HALVES]
    source = write_input(folder / f"in-{version}", songs, [[b"{}"]])
    return run_main("--input", source, "--output", folder / "out", output=folder / "out")


@pytest.fixture(scope="module")
def pool():
    """Processes for runs: forks of one that has never started a thread."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.helpers"])
    with ProcessPoolExecutor(5, context) as processes:
        yield processes


def duckdb_rows(folder, spark):
    return duckdb.connect().execute(f"FROM read_parquet('{folder}/**/*.parquet')").fetchall()


def spark_rows(folder, spark):
    return [tuple(row) for row in spark.read.parquet(str(folder)).collect()]


READERS = (duckdb_rows, spark_rows)


def kind(rows):
    """What a reader got: one version, two, or what nobody may get."""
    versions = {}
    for version, row in rows:
        versions.setdefault(version, []).append(row)
    whole = [version for version, found in versions.items() if sorted(found) == list(range(6))]
    is_doubled = any(len(set(found)) < len(found) for found in versions.values())
    if not whole or is_doubled:
        return f"gap: {versions}"
    return "one set" if len(versions) == 1 else "old and new"


def test_of_runs_at_once_one_commits_at_a_time_and_the_tables_are_those_of_one(pool, tmp_path):
    codes = []
    for apart, together in product((0, 0.02, 0.05), (2, 5, 5)):
        runs = []
        for _ in range(together):
            runs.append(pool.submit(publish, tmp_path, len(codes) + len(runs)))
            time.sleep(apart)
        ended = [run.result() for run in runs]
        assert {result.code for result in ended} <= {0, 75}, [result.err for result in ended]
        assert any(result.code == 0 for result in ended)
        codes += [result.code for result in ended]
        for table in etl.COLUMNS:
            assert kind(duckdb_rows(tmp_path / "out" / table, None)) == "one set"
        staged = (tmp_path / "out" / "_etl" / "staging").rglob("*")
        assert not [path for path in staged if path.is_file()]
    assert 75 in codes
    commits = sorted(path.stem for path in (tmp_path / "out" / "_etl" / "commits").iterdir())
    assert commits == [f"{number + 1:09d}" for number in range(codes.count(0))]


def test_no_reader_ever_gets_fewer_rows_than_a_whole_commit(pool, spark, tmp_path):
    """An old set, a new one, both, or an error that says what is not there."""
    assert pool.submit(publish, tmp_path, 0).result().code == 0
    seen = {reader: Counter() for reader in READERS}
    is_over = threading.Event()

    def read(reader):
        while not is_over.is_set():
            try:
                seen[reader][kind(reader(tmp_path / "out" / "songplays", spark))] += 1
            except Exception as error:
                seen[reader]["loud error" if str(error) else "gap: an error without words"] += 1

    threads = [threading.Thread(target=read, args=[reader]) for reader in READERS]
    for thread in threads:
        thread.start()
    for version in range(1, PUBLICATIONS):
        assert pool.submit(publish, tmp_path, version).result().code == 0
        # Spark takes that long from listing to reading
        time.sleep(0.4)
    # each has read at least once since the last publication
    while not all(results["one set"] for results in seen.values()):
        time.sleep(0.1)
    is_over.set()
    for thread in threads:
        thread.join()
    assert not [kind for results in seen.values() for kind in results if "gap" in kind], seen
