"""Plain readers while publications go by: an old set, a new one, both, or an error; no gap."""

import threading
import time
from collections import Counter

import duckdb
import polars
import pyarrow.dataset
import pytest
from harness import WHOLE
from test_overlap import Runs

READERS = {
    "DuckDB": lambda folder, spark: (
        duckdb.connect().execute(f"FROM read_parquet('{folder}/**/*.parquet')").fetchall()
    ),
    "Polars": lambda folder, spark: polars.read_parquet(f"{folder}/**/*.parquet").rows(),
    "PyArrow": lambda folder, spark: [
        (row["version"], row["row"])
        for row in pyarrow.dataset.dataset(folder, partitioning="hive").to_table().to_pylist()
    ],
    "Spark": lambda folder, spark: [
        tuple(row) for row in spark.read.parquet(str(folder)).collect()
    ],
}


def kind(rows) -> str:
    versions = {}
    for version, row, *_ in rows:
        versions.setdefault(version, Counter())[row] += 1
    whole = [version for version, found in versions.items() if found == WHOLE]
    if not whole or any(count > 1 for found in versions.values() for count in found.values()):
        return f"gap: {versions}"
    return "one set" if len(versions) == 1 else "old and new"


@pytest.mark.parametrize("publications", [20, pytest.param(300, marks=pytest.mark.long)])
def test_no_reader_ever_gets_fewer_rows_than_a_whole_commit(spark, tmp_path, publications):
    runs = Runs(tmp_path)
    assert runs.start().end()[0] == 0
    seen, is_over = {name: Counter() for name in READERS}, threading.Event()

    def read(name):
        while not is_over.is_set():
            try:
                seen[name][kind(READERS[name](tmp_path / "out" / "songplays", spark))] += 1
            except Exception as error:
                seen[name]["loud error" if str(error) else "gap: an error that says nothing"] += 1

    threads = [threading.Thread(target=read, args=[name]) for name in READERS]
    for thread in threads:
        thread.start()
    codes = set()
    for _ in range(publications):
        codes.add(runs.start().end()[0])
        time.sleep(0.4)  # Spark takes that long from listing to reading
    time.sleep(3)
    is_over.set()
    for thread in threads:
        thread.join(60)
    print(seen)
    assert codes == {0}
    assert all(results["one set"] > 0 for results in seen.values()), seen
    assert not any(result.startswith("gap") for results in seen.values() for result in results), (
        seen
    )
