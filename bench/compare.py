"""Times etl.py and its alternatives in turn, each from a cold start.

    python bench/compare.py sample million               two rows
    python bench/compare.py million --base 42d3457       and an older etl.py
    python bench/compare.py ten-million --scale 0.001    keeps no results

results.json gets medians: seconds, CPU seconds of the whole process tree, and
peak memory of its largest process. Inputs stay in TMPDIR/sparkify-bench.
"""

import argparse
import ctypes
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

import slow_s3

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results.json"
FOLDER = Path(tempfile.gettempdir(), "sparkify-bench")
BARE_SESSION = "from pyspark.sql import SparkSession; SparkSession.builder.getOrCreate().stop()"


class Row(NamedTuple):
    title: str
    contenders: str
    songs: int = 15_000  # 0 is the sample
    events: int = 0
    days: int = 30
    layout: str = "year"
    is_on_s3: bool = False


ROWS = {
    "sample": Row("the sample", "etl base session", songs=0),
    "public": Row("15,000 song files, 8,000 events", "etl base plain duck classic", events=8000),
    "artists": Row(
        "the same by year and artist", "etl base classic", events=8000, layout="year,artist_id"
    ),
    "s3": Row("the same on S3, 25 ms away", "etl base", events=8000, is_on_s3=True),
    "million": Row("a million events", "etl base plain duck", events=1_000_000),
    "ten-million": Row("10 million events", "etl base plain duck", events=10_000_000),
    "month": Row("12 million events in 30 files", "etl base", events=12_000_000),
    "year": Row("12 million events in 365 files", "etl base", events=12_000_000, days=365),
}


def make_input(row: Row, scale: float) -> Path:
    """The input of a row, which is kept for the next time."""
    if not row.songs:
        return ROOT / "data" / "sample"
    songs = max(100, round(row.songs * scale))
    events = max(1000, round(row.events * scale))
    size = f"--songs {songs} --events {events} --users {events // 50} --days {row.days}"
    source = FOLDER / size.replace(" ", "").lstrip("-")
    if not source.exists():
        half_made = tempfile.mkdtemp(dir=FOLDER)
        generate = [sys.executable, f"{ROOT}/data/generate.py", half_made]
        subprocess.run([*generate, *size.split()], check=True)
        os.rename(half_made, source)
    return source


def command_of(contender: str, row: Row, source: str, output: str, folder: str) -> list[str]:
    if contender == "session":
        return [sys.executable, "-c", BARE_SESSION]
    if contender in ("plain", "classic", "duck"):
        return [sys.executable, f"{ROOT}/bench/{contender}.py", source, output]
    checkout = folder if contender == "base" else ROOT
    settings = ["--config", f"{folder}/dl.cfg", "--songs-partition-by", row.layout]
    ends = ["--input", source, "--output", output]
    return [sys.executable, f"{checkout}/etl.py", *settings, *ends]


def time_command(command: list[str], log) -> dict[str, float]:
    """What a command cost, together with every process that it started."""
    # PR_SET_CHILD_SUBREAPER: Java outlives the Python that started it, and becomes our child
    ctypes.CDLL(None).prctl(36, 1)
    cpu_seconds = 0.0
    peak_kb = 0
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=log, stderr=log)
    # until no child of this process group is left
    with suppress(ChildProcessError):
        while True:
            child, status, used = os.wait4(0, 0)
            cpu_seconds += used.ru_utime + used.ru_stime
            peak_kb = max(peak_kb, used.ru_maxrss)
            if child == process.pid:
                seconds = time.monotonic() - start
                process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit {process.returncode}, see {log.name}")
    peak_mb = peak_kb * 1024 // 10**6
    return {"seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2), "peak_mb": peak_mb}


def run_turn(row: Row, contenders: list[str], given: argparse.Namespace) -> Iterator[tuple]:
    """Each contender, and what it cost this time."""
    source = str(make_input(row, given.scale))
    with (
        open(FOLDER / "log", "a") as log,
        tempfile.TemporaryDirectory(dir=FOLDER) as folder,
        slow_s3.serve(folder, source, log) if row.is_on_s3 else nullcontext() as s3,
    ):
        Path(folder, "dl.cfg").write_text(s3.settings() if s3 else "")
        if "base" in contenders:
            show = ["git", "-C", ROOT, "show", f"{given.base}:etl.py"]
            Path(folder, "etl.py").write_bytes(subprocess.check_output(show))
        for contender in contenders:
            output = f"{folder}/{contender}"
            if s3:
                source, output = "s3a://lake/in", f"s3a://lake/{contender}"
                s3.requests = 0
            cost = time_command(command_of(contender, row, source, output, folder), log)
            if s3:
                cost["requests"] = s3.requests
            yield contender, cost
            shutil.rmtree(output, ignore_errors=True)


def medians(turns: list[dict[str, float]]) -> dict[str, float]:
    found = {"turns": len(turns)}
    for name in turns[0]:
        found[name] = round(statistics.median(turn[name] for turn in turns), 2)
    return found


def main() -> None:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("rows", nargs="+", choices=ROWS)
    parser.add_argument("--base", metavar="REV", help="a commit whose etl.py runs as well")
    parser.add_argument("--without", nargs="+", default=[], metavar="WHO", help="keeps no results")
    parser.add_argument("--turns", type=int, default=3, help="3 by default; classic runs once")
    parser.add_argument("--scale", type=float, default=1, help="of the inputs; keeps no results")
    given = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    describe = ["git", "-C", ROOT, "describe", "--always", "--dirty"]
    commit = subprocess.check_output(describe, text=True).strip()
    skipped = {*given.without} if given.base else {*given.without, "base"}
    costs = {name: {} for name in given.rows}
    for _ in range(given.turns):
        for name in given.rows:
            row = ROWS[name]
            contenders = [one for one in row.contenders.split() if one not in skipped]
            for contender, cost in run_turn(row, contenders, given):
                costs[name].setdefault(contender, []).append(cost)
                print(name, contender, cost, file=sys.stderr)
            result = {
                "title": row.title,
                "date": time.strftime("%Y-%m-%d"),
                "commit": commit,
                "base": given.base,
                "medians": {who: medians(turns) for who, turns in costs[name].items()},
            }
            print(name, json.dumps(result, indent=1))
            if given.scale == 1 and not given.without:
                results = json.loads(RESULTS.read_text()) | {name: result}
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        # because it takes minutes
        skipped.add("classic")


if __name__ == "__main__":
    main()
