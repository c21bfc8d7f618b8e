"""Times etl.py as a whole process beside the classic script and a DuckDB build, turn about in one run.

python bench/run.py --songs 14896 --events 8000 --repeat 3 [--without classic]

Prints a Markdown table of median seconds, ratios and the peak memory of each process with its children.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent


def family(root):
    """The process and all below it, from /proc."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            pass
    found = {root}
    for _ in range(4):
        found |= {child for child, parent in parents.items() if parent in found}
    return found


def resident(process):
    """Megabytes that a process and its children hold now."""
    pages = 0
    for one in family(process):
        try:
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
        except OSError:
            pass
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def timed(command, log):
    """Seconds and peak megabytes of one whole process.  Raises RuntimeError where it fails."""
    start, peak = time.monotonic(), 0.0
    process = subprocess.Popen(command, stdout=log, stderr=log)
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(0.1)
    if process.returncode:
        raise RuntimeError(f"{command[1]} exited with {process.returncode}; see {log.name}")
    return time.monotonic() - start, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", default="14896")
    parser.add_argument("--events", default="8000")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--without", action="append", default=[], choices=("classic", "duckdb"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open(Path(tempfile.gettempdir(), "bench.log"), "w") as log:
        source, python = f"{folder}/in", sys.executable
        subprocess.run(
            [python, HERE.parent / "data/generate.py", source, "--songs", given.songs, "--events", given.events],
            check=True,
        )
        commands = {
            "etl.py": lambda output: [python, HERE.parent / "etl.py", "--input", source, "--output", output],
            "classic": lambda output: [python, HERE / "classic.py", source, output],
            "duckdb": lambda output: [python, HERE / "duck.py", source, output],
        }
        runs = {name: [] for name in commands if name not in given.without}
        for turn in range(given.repeat):
            for name, found in runs.items():
                found.append(timed(commands[name](f"{folder}/{name}-{turn}"), log))
                print(f"{name}: {found[-1][0]:.1f} s", file=sys.stderr)
    seconds = {name: statistics.median(run[0] for run in found) for name, found in runs.items()}
    print(f"| {given.songs} songs, {given.events} events | median s | of etl.py | peak MB |\n| --- | --- | --- | --- |")
    for name, found in runs.items():
        ratio = seconds[name] / seconds["etl.py"]
        print(f"| {name} | {seconds[name]:.1f} | {ratio:.2f} x | {max(run[1] for run in found):.0f} |")


if __name__ == "__main__":
    main()
