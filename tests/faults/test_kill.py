"""Whole runs that are killed or ended anywhere: readers lose nothing, and a plain run mends it."""

import shutil
import signal
import time
from pathlib import Path
from subprocess import PIPE, Popen
from sys import executable

import pytest
import reference
from helpers import ROOT, all_tables, play, run_process, song, write_input

import etl

CODE = """
import sys
sys.path[:0] = [{root!r}, {tests!r}, {faults!r}]
import harness
if {point}:
    harness.signal_before(*{point})
harness.etl.run_until_signal()
"""
POINTS = {  # function of etl, which call of it, and seconds after it
    "before the logs are listed": ("pin", 2),
    "before songs are packed": ("pack_songs", 1),
    "before Spark starts": ("start_spark", 1),
    "while Java starts": ("start_spark", 1, 2),
    "before logs are read": ("read_logs", 1),
    "before a table is staged": ("stage_table", 1),
    "while tables are staged": ("stage_table", 2, 0.7),
    "before the last table is staged": ("stage_table", 5),
    "before the audit": ("audit", 1),
    "before the commit": ("commit", 1),
    "before publication": ("publish", 1),
    "between copies and deletes": ("superseded", 2),
    "before the clean-up": ("clean", 2),
    "before the summary": ("summary", 1),
}
QUICK = {
    ("SIGKILL", "while tables are staged"),
    ("SIGTERM", "before the commit"),
    ("SIGTERM", "before the clean-up"),
}
EVENTS = [[play(itemInSession=item) for item in range(40)], [play(userId="9", level="paid")]]


def code_of(*point):
    return CODE.format(
        root=str(ROOT), tests=str(ROOT / "tests"), faults=str(Path(__file__).parent), point=point
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kill")


@pytest.fixture
def lake(job, folder, tmp_path):
    """An output that holds a first commit, and whose input has grown since."""
    write_input(folder / "in", [song(title="Old")], EVENTS[:1])
    if not (folder / "first").exists():
        assert job(folder / "in", output=folder / "first").code == 0
    write_input(folder / "in", [song(title="Old"), song(song_id="SO2")], EVENTS)
    return shutil.copytree(folder / "first", tmp_path / "lake")


def check_rerun(job, folder, lake):
    again = job(folder / "in", output=lake)
    assert again.code == 0, again.err
    files = {
        side: sorted((folder / "in" / side).rglob("*.json")) for side in ("song_data", "log_data")
    }
    tables, *_ = reference.derive(*([path.read_bytes() for path in files[side]] for side in files))
    assert all_tables(lake) == {table: sorted(rows, key=repr) for table, rows in tables.items()}


@pytest.mark.parametrize(
    ("kind", "point"),
    [
        pytest.param(kind, point, marks=() if (kind, point) in QUICK else pytest.mark.long)
        for kind in ("SIGKILL", "SIGTERM", "SIGINT")
        for point in POINTS
    ],
)
def test_a_run_that_dies_anywhere_loses_nothing_and_the_next_is_right(
    job, folder, lake, tmp_path, kind, point
):
    old = all_tables(lake)
    name, number, *wait = POINTS[point]
    code = code_of(name, number, int(getattr(signal, kind)), *wait)
    died = run_process("--input", folder / "in", "--output", lake, cwd=tmp_path, code=code)
    assert died.returncode == (-9 if kind == "SIGKILL" else 130), died.stderr
    found, new = (
        all_tables(lake),
        etl.newest(etl.open_place(f"file://{lake}", None, None), "done") == 2,
    )
    for table, rows in old.items():
        assert new or set(rows) <= set(found[table]), table
    if kind != "SIGKILL":
        assert len(died.stderr.splitlines()) == 1 and "interrupted" in died.stderr, died.stderr
    check_rerun(job, folder, lake)


def start(folder, lake, cwd, *point):
    command = [executable, "-c", code_of(*point), "--input", folder / "in", "--output", lake]
    return Popen([*map(str, command)], cwd=cwd, stdout=PIPE, stderr=PIPE, text=True)


@pytest.mark.parametrize(
    ("together", "apart"),
    [
        (2, 1),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in ((2, 0), (2, 4), (5, 0), (5, 1), (5, 4))
        ),
    ],
)
def test_whole_runs_at_once_leave_the_tables_of_one(job, folder, lake, tmp_path, together, apart):
    runs = []
    for _ in range(together):
        runs.append(start(folder, lake, tmp_path))
        time.sleep(apart)
    ends = [(*run.communicate(timeout=600), run.returncode) for run in runs]
    codes = [code for *_, code in ends]
    assert set(codes) <= {0, 75} and 0 in codes, ends
    assert codes.count(0) == sum("The tables are in" in out for out, _, _ in ends)
    check_rerun(job, folder, lake)
    assert not list(lake.glob("_etl/staging/*")) and not list(lake.glob("_etl/probes/*"))


@pytest.mark.long
@pytest.mark.parametrize(
    ("point", "code"), [(("commit", 1), 75), (("publish", 1), 0)], ids=["commit", "publish"]
)
def test_a_whole_run_that_sleeps_while_another_finishes_changes_nothing(
    job, folder, lake, tmp_path, point, code
):
    sleeper = start(folder, lake, tmp_path, *point, int(signal.SIGSTOP))
    state = Path(f"/proc/{sleeper.pid}/stat")
    while state.read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.1)
    check_rerun(job, folder, lake)
    before = {path: path.stat().st_ino for path in lake.glob("[!_]*/**/*.parquet")}
    sleeper.send_signal(signal.SIGCONT)
    _, err = sleeper.communicate(timeout=120)
    assert sleeper.returncode == code, err
    assert {path: path.stat().st_ino for path in lake.glob("[!_]*/**/*.parquet")} == before
