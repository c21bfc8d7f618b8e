"""What the benchmark found: results.json, and the table and the chart that are drawn from it.

python bench/report.py [FOLDER]    draws both again
"""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

NAMES = {  # of the contenders, in the table's and the chart's words
    "etl.py": "etl.py",
    "plain": "plain Spark script",
    "classic": "classic Spark script",
    "duckdb": "DuckDB",
    "session": "bare Spark session",
}

COLOURS = {
    "etl.py": "#1f5fbf",
    "plain": "#c05a00",
    "classic": "#b2182b",
    "duckdb": "#2c7a3f",
    "session": "#6f6f6f",
}
BUSY_CORES = 0.5  # of others, in the median


def first_line(command: list[str]) -> str:
    """What a command says first, on either channel."""
    try:
        said = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return next(iter((said.stdout + said.stderr).splitlines()), "unknown")


def processor() -> str:
    """The model of the CPU."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def machine() -> dict:
    """The card of this machine."""
    import pyspark

    bytes_of_memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    java = Path(os.environ.get("JAVA_HOME", ""), "bin", "java")
    version = first_line([str(java) if java.is_file() else "java", "-version"])
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(bytes_of_memory / 2**30),
        "system": platform.platform(),
        "java": version,
        "spark": pyspark.__version__,
        "python": platform.python_version(),
    }


def row(title: str, commit: str, costs: dict[str, list[dict]]) -> dict:
    """One row of results.json."""
    return {
        "work": title,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit,
        "machine": machine(),
        "contenders": costs,
    }


def read(folder: Path) -> dict:
    path = folder / "results.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write(folder: Path, results: dict) -> None:
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "results.md").write_text(markdown(results) + "\n")
    chart(results).save(folder / "results.svg")


def median(costs: list[dict], what: str) -> float:
    return statistics.median(cost[what] for cost in costs)


def is_stopped(costs: list[dict]) -> bool:
    return any(cost["stopped"] for cost in costs)


def label(seconds: float) -> str:
    """Seconds as a reader says them: three digits are enough."""
    return f"{seconds:.1f}" if seconds < 100 else f"{seconds:,.0f}"


def ratio(costs: list[dict], base: list[dict], what: str) -> str:
    return f"{median(costs, what) / median(base, what):.2f} ×"


def markdown(results: dict) -> str:
    """The table, and under it when and where its rows were measured."""
    lines = [
        "| work | who | seconds | of etl.py's | CPU seconds | of etl.py's | peak MB | S3 requests "
        "| turns |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for found in results.values():
        contenders = found["contenders"]
        base = contenders["etl.py"]
        for name, costs in contenders.items():
            over = "over " if is_stopped(costs) else ""
            requests = [cost.get("requests", 0) for cost in costs]
            cells = [
                found["work"],
                NAMES.get(name, name),
                over + label(median(costs, "seconds")),
                ratio(costs, base, "seconds"),
                over + label(median(costs, "cpu_seconds")),
                ratio(costs, base, "cpu_seconds"),
                f"{max(cost['peak_mb'] for cost in costs):,}",
                f"{max(requests):,}" if any(requests) else "",
                str(len(costs)),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Seconds and CPU seconds are medians, peak MB and requests the largest of all turns;",
        "each is of the whole process with everything that it started.",
        "",
        *provenance(results),
    ]
    return "\n".join(lines)


def provenance(results: dict) -> list[str]:
    """When, from which commit and on which machine each row comes, and how busy it was."""
    lines = [
        "| work | date | commit | cores that others used |",
        "| --- | --- | --- | ---: |",
    ]
    cards = []
    for found in results.values():
        costs = [cost for turns in found["contenders"].values() for cost in turns]
        others = median(costs, "other_cores")
        lines.append(f"| {found['work']} | {found['date']} | {found['commit']} | {others:.1f} |")
        card = found["machine"]
        parts = [
            card["processor"],
            f"{card['cores']} cores",
            f"{card['memory_gb']} GB",
            card["system"],
            card["java"],
            f"Spark {card['spark']}",
            f"Python {card['python']}",
        ]
        text = " · ".join(parts)
        if text not in cards:
            cards.append(text)
    return [*lines, "", *cards]


def is_busy(results: dict) -> bool:
    """Whether others used the machine so much that seconds say little of the contenders."""
    for found in results.values():
        costs = [cost for turns in found["contenders"].values() for cost in turns]
        if median(costs, "other_cores") > BUSY_CORES:
            return True
    return False


def chart(results: dict):
    """One line per work on a scale of seconds, one dot per contender.

    If others used the machine in the meantime, it shows CPU seconds.
    """
    import altair

    what, title = "seconds", "seconds of the whole process"
    if is_busy(results):
        what, title = "cpu_seconds", "CPU seconds of the whole process tree (a busy machine)"
    dots = []
    for found in results.values():
        for name, costs in found["contenders"].items():
            if name not in NAMES:
                continue
            seconds = median(costs, what)
            over = "over " if is_stopped(costs) else ""
            dots.append(
                {
                    "work": found["work"],
                    "who": NAMES[name],
                    "seconds": seconds,
                    "label": f"{over}{label(seconds)}",
                }
            )
    shown = [name for name in NAMES if any(dot["who"] == NAMES[name] for dot in dots)]
    works = [found["work"] for found in results.values()]
    base = altair.Chart(altair.Data(values=dots)).encode(
        x=altair.X(
            "seconds:Q",
            scale=altair.Scale(type="log", nice=False, padding=20),
            axis=altair.Axis(values=[1, 3, 10, 30, 100, 300, 1000], grid=True, tickCount=7),
            title=f"{title}; each grid line is about three times the last",
        ),
        y=altair.Y(
            "work:N",
            sort=works,
            title=None,
            axis=altair.Axis(labelLimit=400, grid=False, ticks=False, domain=False),
        ),
    )
    colours = altair.Color(
        "who:N",
        title=None,
        scale=altair.Scale(
            domain=[NAMES[name] for name in shown],
            range=[COLOURS[name] for name in shown],
        ),
        legend=altair.Legend(orient="top", symbolType="circle", symbolOpacity=1),
    )
    spans = base.mark_line(color="#cccccc", strokeWidth=2).encode(detail="work:N")
    marks = base.mark_circle(size=110, opacity=1).encode(color=colours)
    # etl.py's label stands below its dot, so that it never covers another's
    is_etl = altair.datum.who == NAMES["etl.py"]
    above = base.transform_filter(~is_etl).mark_text(dy=-12, fontSize=11)
    below = base.transform_filter(is_etl).mark_text(dy=15, fontSize=11, fontWeight="bold")
    labels = [text.encode(text="label:N", color=colours) for text in (above, below)]
    layers = altair.layer(spans, marks, *labels)
    return layers.properties(
        width=620, height={"step": 44}, title=headline(results, what)
    ).configure_view(stroke=None)


def headline(results: dict, what: str) -> str:
    """What the chart shows, said from its figures."""
    unit = {"seconds": "time", "cpu_seconds": "CPU time"}[what]
    for row, rival in (("public", "classic"), ("million", "plain")):
        found = results.get(row, {}).get("contenders", {})
        if rival in found:
            share = median(found["etl.py"], what) / median(found[rival], what)
            work = results[row]["work"]
            return f"{work}: etl.py takes {share:.0%} of the {NAMES[rival]}'s {unit}"
    return "etl.py beside other ways to do its work"


if __name__ == "__main__":
    where = Path(*sys.argv[1:]) if sys.argv[1:] else Path(__file__).parent
    write(where, read(where))
