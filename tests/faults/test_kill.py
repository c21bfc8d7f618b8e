"""Whole runs of Spark that end in the middle, or fill a disk: the next run is right."""

import resource
import shutil
import signal

import pytest

import etl
from tests import reference
from tests.helpers import all_tables, check_tables, play, run_process, song, write_input

CODE = """
import os, signal, sys, etl

etl.{step} = lambda *given, **options: os.kill(os.getpid(), {kind})
signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.exit(etl.main())
"""
EVENTS = [[play(itemInSession=item) for item in range(40)], [play(userId="9", level="paid")]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kill")


@pytest.fixture
def lake(job, folder, tmp_path):
    """An output that holds a first commit, and whose input has grown since."""
    write_input(folder / "in", [song(title="Old")], EVENTS[:1])
    if not (folder / "first").exists():
        result = job(folder / "in", output=folder / "first")
        assert result.code == 0, result.err
    write_input(folder / "in", [song(title="Old"), song(song_id="SO2")], EVENTS)
    return shutil.copytree(folder / "first", tmp_path / "lake")


def check_rerun(job, folder, lake):
    again = job(folder / "in", output=lake)
    assert again.code == 0, again.err
    check_tables(lake, reference.answer(folder / "in"))
    assert not list(lake.glob("_etl/staging/*"))


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        (signal.SIGINT, "audit"),
        (signal.SIGTERM, "read_logs"),
        # the newest commit is made, and not one of its files is in a table
        (signal.SIGKILL, "publish"),
    ],
)
def test_a_run_that_is_killed_loses_nothing_and_the_next_is_right(
    job, folder, lake, tmp_path, kind, step
):
    old = all_tables(lake)
    code = CODE.format(kind=int(kind), step=step)
    ended = run_process("--input", folder / "in", "--output", lake, cwd=tmp_path, code=code)
    assert ended.returncode == -kind, ended.stderr
    assert "Traceback" not in ended.stderr
    assert all_tables(lake) == old
    check_rerun(job, folder, lake)


def test_a_disk_that_is_full_ends_a_run_and_the_next_is_right(
    job, spark, folder, lake, monkeypatch
):
    """As `ulimit -f` does it to Java, from the first table on."""
    if not hasattr(resource, "prlimit"):
        pytest.skip("limits of another process are Linux's")
    old = all_tables(lake)
    java = spark.sparkContext._gateway.proc.pid
    limits = resource.prlimit(java, resource.RLIMIT_FSIZE)
    stage_table = etl.stage_table

    def stage_and_grow_no_more(*given):
        resource.prlimit(java, resource.RLIMIT_FSIZE, (1000, limits[1]))
        stage_table(*given)

    monkeypatch.setattr(etl, "stage_table", stage_and_grow_no_more)
    try:
        result = job(folder / "in", output=lake)
    finally:
        resource.prlimit(java, resource.RLIMIT_FSIZE, limits)
    monkeypatch.undo()
    assert result.code == etl.FAILED, result.err
    assert "File too large" in result.err and "nothing is published" in result.err
    assert all_tables(lake) == old
    assert not list(lake.glob("_etl/staging/*"))
    check_rerun(job, folder, lake)
