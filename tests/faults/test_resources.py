"""A disk that fills while a run packs, shuffles or stages: one line, and the tables as before."""

import shutil
import subprocess

import pytest
from helpers import SAMPLE, files_below, play, song, write_input

import etl

resource = pytest.importorskip("resource")
if not hasattr(resource, "prlimit"):
    pytest.skip("limits of another process are Linux's", allow_module_level=True)


def tables(output):
    return {name: file for name, file in files_below(output).items() if not name.startswith("_etl")}


@pytest.fixture
def first(job, tmp_path):
    write_input(tmp_path / "in", [song()], [[play()]])
    return tables(job(tmp_path / "in").output)


def check_failure(result, first, words):
    assert (result.code, len(result.err.splitlines())) == (1, 1), result.err
    assert words in result.err and "nothing is published" in result.err
    assert tables(result.output) == first
    assert not list(result.output.glob("_etl/staging/*"))


@pytest.mark.parametrize("step", ["pack_songs", "process_log_data", "stage_table"])
def test_files_that_cannot_grow(job, spark, first, tmp_path, monkeypatch, step):
    """As `ulimit -f` does it, from one step of the job on."""
    here, java = 0, spark.sparkContext._gateway.proc.pid
    limits = {process: resource.prlimit(process, resource.RLIMIT_FSIZE) for process in (here, java)}
    real = getattr(etl, step)

    def grow_no_more(*given):
        process = here if step == "pack_songs" else java
        resource.prlimit(process, resource.RLIMIT_FSIZE, (1000, limits[process][1]))
        return real(*given)

    monkeypatch.setattr(etl, step, grow_no_more)
    try:
        result = job(SAMPLE)
    finally:
        for process, limit in limits.items():
            resource.prlimit(process, resource.RLIMIT_FSIZE, limit)
    check_failure(result, first, "File too large")
    monkeypatch.undo()


def test_a_full_disk(job, first, tmp_path):
    """A small file system of its own, where that is allowed."""
    full = tmp_path / "output" / "_etl"
    kept = shutil.move(full, tmp_path / "kept")
    full.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", full], capture_output=True
    ).returncode:
        pytest.skip("mounting takes root")
    try:
        shutil.copytree(kept, full, dirs_exist_ok=True)
        check_failure(job(SAMPLE), first, "the disk is full")
    finally:
        # lazily, because Java may keep a file open that it could not write to its end
        subprocess.run(["umount", "--lazy", full], check=True)
