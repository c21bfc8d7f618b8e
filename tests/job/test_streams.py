"""Streams that are closed, full or of another encoding, no terminal, and a locale without UTF-8."""

import contextlib
import os
import pty
import subprocess
import sys

import pytest
from helpers import ROOT, all_tables, play, run_process, song, write_input


def run_shell(words, tmp_path, *flags, **env):
    """A shell's command with etl.py in place of JOB; its exit code and streams."""
    job = " ".join([sys.executable, str(ROOT / "etl.py"), *map(str, flags)])
    command = words.replace("JOB", job)
    environment = {**os.environ, **env}
    return subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
    )


CLOSED = {
    "stdin": "JOB <&-",
    "stdout": "JOB >&-",
    "stderr": "JOB 2>&-",
    "all": "JOB <&- >&- 2>&-",
}


@pytest.mark.parametrize("streams", CLOSED)
def test_closed_streams_change_nothing(tmp_path, streams):
    done = run_shell(CLOSED[streams], tmp_path, "--output", "out", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    wrong = run_shell(CLOSED[streams], tmp_path, "--max-rejected", "2")
    assert wrong.returncode == 2


@pytest.mark.parametrize("reader", ["true", "head -n 1"])
def test_a_reader_that_goes_away_changes_nothing(tmp_path, reader):
    words = f"set -o pipefail; JOB | {reader}"
    done = run_shell(words, tmp_path, "--output", "out", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_behind_stdout_changes_nothing(tmp_path):
    done = run_shell("JOB >/dev/full", tmp_path, "--output", "out", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16", "cp1252"])
def test_any_encoding_of_the_streams_will_do(tmp_path, encoding):
    write_input(tmp_path / "in é", [song()], [[play()]])
    flags = ["--input", tmp_path / "in é", "--output", tmp_path / "out \u266b"]
    command = [sys.executable, ROOT / "etl.py", *flags, "--dry-run"]
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


WITHOUT_UTF_8 = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.parametrize("place", ["INPUT", "OUTPUT", "a log file"])
def test_a_name_that_javas_locale_cannot_hold_is_refused(tmp_path, place):
    names = {"INPUT": "in", "OUTPUT": "out", "a log file": "a"}
    names[place] += "ü"
    write_input(tmp_path / names["INPUT"], [song()], [[play()]])
    log = tmp_path / names["INPUT"] / "log_data" / "2018" / "00-events.json"
    log.rename(log.with_name(f"{names['a log file']}.json"))
    flags = ["--input", tmp_path / names["INPUT"], "--output", tmp_path / names["OUTPUT"]]
    for more in ([], ["--dry-run"]):
        done = run_process(*flags, *more, cwd=tmp_path, env=WITHOUT_UTF_8)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert "set LC_ALL=C.UTF-8" in done.stderr


def test_a_whole_run_without_streams_terminal_and_locale(tmp_path):
    """As cron, systemd and bare containers start it; song files may have any name."""
    write_input(tmp_path / "in", [song()], [[play()]])
    (tmp_path / "in" / "song_data" / "ü.json").write_text('{"song_id": "SO2"}')
    flags = ["--input", "in", "--output", "out", "--max-rejected", "1"]
    done = run_shell("setsid JOB <&- >&- 2>err", tmp_path, *flags, **WITHOUT_UTF_8)
    assert (done.returncode, (tmp_path / "err").read_text()) == (0, "")
    assert len(all_tables(tmp_path / "out")["songplays"]) == 1


def test_a_whole_run_on_a_terminal_that_is_not_its_own_shows_its_progress(tmp_path):
    """Spark's bar for stages is seen on the terminal, and nothing else of Java."""
    write_input(tmp_path / "in", [song()], [[play()]])
    here, there = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, ROOT / "etl.py", "--input", "in", "--output", "out"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYSPARK_SUBMIT_ARGS": "--conf spark.ui.consoleProgress.delay=1 pyspark-shell",
        },
        stdin=subprocess.DEVNULL,
        stdout=there,
        stderr=there,
        start_new_session=True,
    )
    os.close(there)
    said = b""
    # Linux answers with an error once nobody holds the other end
    with contextlib.suppress(OSError):
        while data := os.read(here, 65536):
            said += data
    assert process.wait(60) == 0, said
    text = said.decode()
    assert "song 1 of 1" in text
    assert "WARN" not in text and "Exception" not in text
