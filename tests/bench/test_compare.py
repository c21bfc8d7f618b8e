"""The benchmark measures what it says, and DuckDB builds the tables that etl.py builds."""

import json
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import HTTPServer, SimpleHTTPRequestHandler

import duckdb
import pytest
import slow_s3

from tests.helpers import ROOT, SAMPLE, all_tables

BURN = "import time\nwhile time.process_time() < 0.5: pass"
ORPHAN = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {BURN!r}])"
MEASURE = """
import compare, json, sys
print(json.dumps(compare.time_command([sys.executable, "-c", sys.argv[1]], sys.stderr)))
"""


def measure(program):
    """In a process of its own, because it waits for all children."""
    command = [sys.executable, "-c", MEASURE, program]
    return subprocess.run(command, cwd=ROOT / "bench", capture_output=True, text=True)


@pytest.mark.parametrize("program", [BURN, ORPHAN], ids=["itself", "a child that outlives it"])
def test_the_cpu_seconds_are_those_of_the_whole_process_tree(program):
    assert json.loads(measure(program).stdout)["cpu_seconds"] >= 0.5


def test_the_peak_memory_is_that_of_the_command():
    assert 200 < json.loads(measure("b'x' * 200_000_000").stdout)["peak_mb"] < 400


def test_a_command_that_fails_ends_the_comparison():
    assert "exit 3" in measure("raise SystemExit(3)").stderr


def test_the_proxy_delays_each_answer_and_counts_requests():
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        proxy = slow_s3.SlowProxy(server.server_port)
        proxy.start()
        start = time.monotonic()
        urllib.request.urlopen(f"http://127.0.0.1:{proxy.port}/").close()
        assert time.monotonic() - start > slow_s3.DELAY_SECONDS
        assert proxy.requests == 1
        server.shutdown()


def test_duckdb_builds_as_many_rows(sample_tables, tmp_path):
    subprocess.run([sys.executable, ROOT / "bench" / "duck.py", SAMPLE, tmp_path], check=True)
    for table, rows in all_tables(sample_tables).items():
        found = duckdb.sql(f"SELECT count(*) FROM '{tmp_path}/{table}/**/*.parquet'").fetchall()
        assert found == [(len(rows),)], table
