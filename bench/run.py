"""Times etl.py as a whole process beside other ways to do its work, turn about in one run.

    python bench/run.py                        all rows, which takes hours
    python bench/run.py sample public          some of them

Writes bench/results.md and bench/results.svg: median seconds, ratios, the peak memory of a process with its children,
and for S3 the requests that the server counted. The classic script, which takes minutes, runs in the first turn only.
S3 is SeaweedFS behind toxiproxy (`--toxiproxy`, its server's binary), which adds 25 ms to every answer.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE, PYTHON = Path(__file__).parent, sys.executable
sys.path.insert(0, str(HERE.parent / "tests"))
from conftest import KEY, SECRET, S3Server, etl, free_port  # noqa: E402

PUBLIC = ("--songs", "14896", "--events", "8000")
BY_ARTIST = ("--songs-partition-by", "year,artist_id")
ROWS = {  # name: what it is, the generator's arguments, etl.py's, and who runs beside it
    "sample": ("the sample", (), (), ("session",)),
    "public": ("14,896 songs + 8,000 events", PUBLIC, (), ("classic", "duckdb")),
    "s3": ("14,896 songs + 8,000 events on S3, 25 ms an answer", PUBLIC, (), ("classic",)),
    "artists": ("14,896 songs + 8,000 events by year,artist_id", PUBLIC, BY_ARTIST, ("classic",)),
    "s3-artists": (
        "14,896 songs + 8,000 events by year,artist_id on S3, 25 ms an answer",
        PUBLIC,
        BY_ARTIST,
        (),
    ),
    "million": (
        "15,000 songs + 1 M events",
        ("--songs", "15000", "--events", "1060000"),
        (),
        ("duckdb",),
    ),
    "ten-million": (
        "15,000 songs + 10 M events",
        ("--songs", "15000", "--events", "10600000"),
        (),
        ("duckdb",),
    ),
    "again": ("a second run over unchanged input", PUBLIC, (), ()),
}
PATIENCE = 600  # seconds until a run is stopped


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


def timed(command, log, environment=None):
    """Seconds and peak megabytes of one whole process.  Raises RuntimeError where it fails."""
    start, peak = time.monotonic(), 0.0
    process = subprocess.Popen(
        command, stdout=log, stderr=log, env={**os.environ, **(environment or {})}
    )
    while process.poll() is None and time.monotonic() - start < PATIENCE:
        peak = max(peak, resident(process.pid))
        time.sleep(0.1)
    if process.poll() is None:
        process.kill()
        process.wait()
    elif process.returncode:
        raise RuntimeError(f"{command[1]} exited with {process.returncode}; see {log.name}")
    return time.monotonic() - start, peak


class SlowS3:
    """SeaweedFS that counts requests, behind toxiproxy that adds 25 ms to each answer."""

    def __init__(self, folder, toxiproxy):
        self.metrics, control, port = free_port(), free_port(), free_port()
        self.server = S3Server(folder, f"-metricsPort={self.metrics}")
        self.client = self.server.bucket("lake")
        self.proxy = subprocess.Popen([toxiproxy, "-port", str(control)], stdout=subprocess.DEVNULL)
        time.sleep(1)
        upstream = self.server.endpoint.removeprefix("http://")
        self.post(
            control, "proxies", {"name": "s3", "listen": f"127.0.0.1:{port}", "upstream": upstream}
        )
        latency = {
            "type": "latency",
            "stream": "downstream",
            "attributes": {"latency": 25, "jitter": 0},
        }
        self.post(control, "proxies/s3/toxics", latency)
        self.config = self.server.config(
            folder, "s3://lake/in", "s3://lake/out", endpoint=f"http://127.0.0.1:{port}"
        )
        hadoop = {
            "access.key": KEY, "secret.key": SECRET, "endpoint": f"http://127.0.0.1:{port}",
            "endpoint.region": "us-east-1", "path.style.access": "true",
        }  # fmt: skip
        conf = {f"spark.hadoop.fs.s3a.{name}": value for name, value in hadoop.items()}
        conf.update(etl.s3a_packages(etl.hadoop_version()))
        settings = " ".join(f'--conf "{name}={value}"' for name, value in conf.items())
        self.environment = {"PYSPARK_SUBMIT_ARGS": f"{settings} pyspark-shell"}

    def post(self, port, path, body):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/{path}", json.dumps(body).encode()
        )
        urllib.request.urlopen(request).close()

    def upload(self, folder):
        for path in folder.rglob("*.json"):
            self.client.upload_file(str(path), "lake", f"in/{path.relative_to(folder)}")

    def requests(self):
        """How many requests the server has answered so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics") as page:
            lines = page.read().decode().splitlines()
        return sum(
            float(line.split()[-1])
            for line in lines
            if line.startswith("SeaweedFS_s3_request_total{")
        )

    def stop(self):
        self.proxy.terminate()
        self.server.stop()


def measure(name, given, folder, log):
    """One row: each contender's median seconds, peak megabytes and, on S3, requests."""
    _, size, settings, beside = ROWS[name]
    source = folder / ("-".join(size) or "sample")
    if not source.exists():
        subprocess.run([PYTHON, HERE.parent / "data/generate.py", source, *size], check=True)
    outputs = Path(tempfile.mkdtemp(dir=folder))
    slow = SlowS3(outputs, given.toxiproxy) if name.startswith("s3") else None
    if slow:
        slow.upload(source)
    found = {}
    for turn in range(given.repeat):
        for one in ["etl.py", *(one for one in beside if one not in given.without)]:
            if one == "classic" and turn:
                continue
            output = outputs / f"{one}-{0 if name == 'again' else turn}"
            places = ("s3a://lake/in", f"s3a://lake/{output.name}") if slow else (source, output)
            commands = {
                "etl.py": [
                    HERE.parent / "etl.py",
                    "--input",
                    places[0],
                    "--output",
                    places[1],
                    *settings,
                ],
                "classic": [HERE / "classic.py", *places],
                "duckdb": [HERE / "duck.py", *places],
                "session": [
                    "-c",
                    "from pyspark.sql import SparkSession; SparkSession.builder.getOrCreate().stop()",
                ],
            }
            command = [PYTHON, *commands[one]]
            if slow and one == "etl.py":
                command += ["--config", slow.config]
            if name == "again" and turn == 0:
                timed(command, log)
            before = slow.requests() if slow else 0
            seconds, peak = timed(
                command, log, slow.environment if slow and one == "classic" else None
            )
            found.setdefault(one, []).append(
                (seconds, peak, slow.requests() - before if slow else 0)
            )
            print(f"{name}: {one} {seconds:.1f} s, {peak:.0f} MB", file=sys.stderr)
    if slow:
        slow.stop()
    shutil.rmtree(outputs)
    return {
        one: (
            statistics.median(run[0] for run in runs),
            max(run[1] for run in runs),
            max(run[2] for run in runs),
        )
        for one, runs in found.items()
    }


def markdown(results):
    lines = [
        "| work | who | median s | of etl.py | peak MB | S3 requests |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in results.items():
        for one, (seconds, peak, requests) in row.items():
            bound = "over " if seconds >= PATIENCE else ""
            ratio = f"{seconds / row['etl.py'][0]:.2f} x"
            counted = f"{requests:,.0f}" if requests else ""
            lines.append(
                f"| {ROWS[name][0]} | {one} | {bound}{seconds:.1f} | {ratio} | {peak:,.0f} | {counted} |"
            )
    cores = f"{os.cpu_count()} cores, {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GB"
    return "\n".join(
        [
            *lines,
            "",
            f"{platform.system()} {platform.machine()}, {cores}, Python {sys.version.split()[0]}",
        ]
    )


def chart(results):
    import altair

    rows = [
        {"work": ROWS[name][0], "who": one, "seconds": round(found[0], 1)}
        for name, row in results.items()
        for one, found in row.items()
    ]
    bars = altair.Chart(altair.Data(values=rows)).mark_bar()
    bars = bars.encode(
        x=altair.X("seconds:Q", title="median seconds, whole process"),
        y=altair.Y("who:N", title=None),
        color=altair.Color("who:N", legend=None),
        row=altair.Row(
            "work:N",
            title=None,
            sort=[ROWS[name][0] for name in results],
            header=altair.Header(labelAngle=0, labelAlign="left", labelLimit=300),
        ),
    )
    return bars.properties(width=500).resolve_scale(y="independent")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help=f"some of: {', '.join(ROWS)}")
    parser.add_argument(
        "--without", action="append", default=[], help="leave out classic, duckdb or session"
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--toxiproxy", default="toxiproxy-server")
    parser.add_argument("--folder", type=Path, help="where inputs are kept for the next time")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        kept, results = HERE / "results.json", {}
        if kept.exists():
            results = json.loads(kept.read_text())
        with (folder / "bench.log").open("w") as log:
            for name in given.rows or ROWS:
                results[name] = measure(name, given, folder, log)
                results = {row: results[row] for row in ROWS if row in results}
                kept.write_text(json.dumps(results, indent=1))
                (HERE / "results.md").write_text(markdown(results) + "\n")
                chart(results).save(HERE / "results.svg")
    print(markdown(results))


if __name__ == "__main__":
    main()
