"""Runs a command and says what it cost, together with every process that it started.

    python bench/timed.py [--patience SECONDS] COMMAND ...

Prints one JSON object; what the command itself prints goes to stderr.

    seconds       until the command ended
    cpu_seconds   of the whole process tree
    peak_mb       what the whole process tree held in memory at most
    other_cores   how many cores all other processes of this machine used meanwhile
    exit_code     the command's
    stopped       whether it outlasted our patience and was stopped
"""

import argparse
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
SECONDS_BETWEEN_LOOKS = 0.2
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def adopt_orphans() -> None:
    """Makes this process the parent of those whose own parent has ended.

    Java outlives the Python program that started it by a moment. Only a process that is waited
    for is counted in RUSAGE_CHILDREN.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def parents() -> dict[int, int]:
    """Each process of this machine and its parent."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = status.read_text().rpartition(")")[2]
        except OSError:
            # the process ended while we looked
            continue
        found[int(status.parent.name)] = int(after_name.split()[1])
    return found


def descendants() -> set[int]:
    """All processes below this one."""
    parent_of = parents()
    family = {os.getpid()}
    grown = True
    while grown:
        children = {child for child, parent in parent_of.items() if parent in family}
        grown = not children <= family
        family |= children
    return family - {os.getpid()}


def resident_mb() -> float:
    """Memory that all processes below this one hold now."""
    pages = 0
    for process in descendants():
        try:
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
        except OSError:
            continue
    return pages * PAGE_BYTES / 1e6


def busy_seconds() -> float:
    """CPU seconds that this machine has spent on all its processes so far."""
    _, user, nice, system, *_ = Path("/proc/stat").read_text().splitlines()[0].split()
    return (int(user) + int(nice) + int(system)) / TICKS_PER_SECOND


def stop_all() -> None:
    for process in descendants():
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def wait_for_all() -> None:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def measure(command: list[str], patience: float) -> dict:
    """Runs the command to its end, or to the end of our patience."""
    adopt_orphans()
    start = time.monotonic()
    busy_before = busy_seconds()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    peak_mb = 0.0
    stopped = False
    while process.poll() is None:
        peak_mb = max(peak_mb, resident_mb())
        if time.monotonic() - start > patience:
            stopped = True
            stop_all()
        try:
            process.wait(SECONDS_BETWEEN_LOOKS)
        except subprocess.TimeoutExpired:
            continue
    seconds = time.monotonic() - start
    wait_for_all()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = used.ru_utime + used.ru_stime
    busy_elsewhere = busy_seconds() - busy_before - cpu_seconds
    elapsed = time.monotonic() - start
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "peak_mb": round(peak_mb),
        "other_cores": round(max(0.0, busy_elsewhere / elapsed), 2),
        "exit_code": process.returncode,
        "stopped": stopped,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patience", type=float, default=600, help="seconds")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    print(json.dumps(measure(given.command, given.patience)))


if __name__ == "__main__":
    main()
