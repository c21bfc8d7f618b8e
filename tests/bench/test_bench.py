"""The benchmark counts what it says it counts, and its table and chart come from results.json."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench"
BURN = "import time\nwhile time.process_time() < 0.5: pass"
ORPHAN = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", '''import time; time.sleep(0.3)\n{BURN}'''])
"""


def timed(*command, patience=60):
    """What bench/timed.py says of a command."""
    arguments = [str(BENCH / "timed.py"), "--patience", str(patience), *command]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("program", [BURN, ORPHAN], ids=["itself", "a child that outlives it"])
def test_the_cpu_seconds_are_those_of_the_whole_process_tree(program):
    assert timed(sys.executable, "-c", program)["cpu_seconds"] >= 0.5


def test_a_command_that_outlasts_our_patience_is_stopped_and_marked():
    cost = timed("sleep", "60", patience=0.5)
    assert cost["stopped"]
    assert cost["seconds"] < 30


def test_a_command_that_fails_is_marked_with_its_exit_code():
    assert timed("false")["exit_code"] == 1


def test_the_peak_memory_is_that_of_the_command():
    program = "import time; kept = b'x' * 200_000_000; time.sleep(1)"
    assert 200 < timed(sys.executable, "-c", program)["peak_mb"] < 400


def test_a_missing_package_is_named_in_one_line_with_the_command_that_installs_it():
    code = f"""
import importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "altair" else find_spec(name)
sys.path.insert(0, {str(BENCH)!r})
import run
run.check_packages(["sample"], [], "toxiproxy-server")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    said = "run.py: altair is not installed; run `pip install -r requirements-dev.txt`\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_the_table_and_the_chart_are_drawn_from_the_results(tmp_path):
    (tmp_path / "results.json").write_text((BENCH / "results.json").read_text())
    subprocess.run([sys.executable, str(BENCH / "report.py"), str(tmp_path)], check=True)
    assert (tmp_path / "results.md").read_text() == (BENCH / "results.md").read_text()
    results = json.loads((tmp_path / "results.json").read_text())
    for row in results.values():
        assert row["work"] in (tmp_path / "results.svg").read_text()
