"""Plain readers while publications go by: an old set, a new one, both, or an error; no gap."""

import threading
import time
from collections import Counter

import duckdb

from tests.faults.harness import WHOLE
from tests.faults.test_overlap import Runs

PUBLICATIONS = 20


def duckdb_rows(folder, spark):
    return duckdb.connect().execute(f"FROM read_parquet('{folder}/**/*.parquet')").fetchall()


def spark_rows(folder, spark):
    return [tuple(row) for row in spark.read.parquet(str(folder)).collect()]


READERS = (duckdb_rows, spark_rows)


def kind(rows) -> str:
    versions = {}
    for version, row, *_ in rows:
        versions.setdefault(version, Counter())[row] += 1
    whole = [version for version, found in versions.items() if found == WHOLE]
    is_doubled = any(count > 1 for found in versions.values() for count in found.values())
    if not whole or is_doubled:
        return f"gap: {versions}"
    return "one set" if len(versions) == 1 else "old and new"


def test_no_reader_ever_gets_fewer_rows_than_a_whole_commit(spark, tmp_path):
    (tmp_path / "out").mkdir()
    runs = Runs(tmp_path)
    assert runs.start().end()[0] == 0
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
    for _ in range(PUBLICATIONS):
        assert runs.start().end()[0] == 0
        # Spark takes that long from listing to reading
        time.sleep(0.4)
    # each has read at least once since the last publication
    while not all(results["one set"] for results in seen.values()):
        time.sleep(0.1)
    is_over.set()
    for thread in threads:
        thread.join()
    assert not any(result.startswith("gap") for results in seen.values() for result in results), (
        seen
    )
