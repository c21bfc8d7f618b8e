"""What people listen to, as one page of charts and tables.

    python analytics/report.py                      of the OUTPUT in dl.cfg
    python analytics/report.py s3a://my-bucket/lake --timezone listeners

Writes report/report.html, one file that works offline and without JavaScript,
and each chart as SVG and PNG. Every figure is the result of a query that the
page shows.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import shlex
import sys
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

try:
    import charts
    import jinja2
    import markupsafe
    import vl_convert
    from charts import WEEKDAYS, leaders, number, plural, show_day
    from lake import HERE, Lake, Rows, add_arguments, open_lake, run_program
    from queries import LISTENERS, Query, ask_logs, read_queries, use_local_time

    import etl
except ModuleNotFoundError as error:
    sys.exit(f"Package {error.name} not found. Run: pip install -r analytics/requirements.txt")

Row = dict[str, Any]

# A longer table is folded away.
OPEN_ROWS = 12
# Text whose order is not the alphabet's.
IN_ORDER = ("weekday_name", "plays_per_session")


class Section(NamedTuple):
    """One query's part of the page."""

    query: str
    chart: charts.Draw | None = None
    bar: str = ""  # the column that the table draws as bars
    # For the sentence that names the rows with the most:
    ranked: str = ""  # the column that is compared
    name: Callable[[Row], str] = str  # what a row is called
    unit: str = ""  # what is counted
    per: str = ""


def hour_name(row: Row) -> str:
    return f"{row['hour']}:00 to {row['hour'] + 1}:00"


def song_name(row: Row) -> str:
    return f"{row['song']} by {row['artist']}"


def name_in(column: str) -> Callable[[Row], str]:
    return lambda row: str(row[column])


GROUPS = {
    "When": (
        Section(
            "plays_per_day",
            charts.per_day,
            ranked="plays",
            name=lambda row: show_day(row["day"]),
            unit="play",
        ),
        Section(
            "plays_by_weekday",
            bar="plays_per_day",
            ranked="plays_per_day",
            name=name_in("weekday_name"),
            unit="play",
            per=" a day",
        ),
        Section("plays_by_hour", charts.by_hour, ranked="plays", name=hour_name, unit="play"),
        Section(
            "plays_by_weekday_and_hour",
            charts.by_weekday_and_hour,
            ranked="plays_per_day",
            name=lambda row: f"{WEEKDAYS[row['weekday'] - 1]}, {hour_name(row)}",
            unit="play",
            per=" on average",
        ),
        Section("listeners_per_week", charts.per_week),
    ),
    "What": (
        Section("top_songs", bar="plays", ranked="plays", name=song_name, unit="play"),
        Section(
            "top_artists",
            bar="plays",
            ranked="plays",
            name=name_in("artist"),
            unit="play",
        ),
        Section("songs_by_decade", charts.by_decade),
    ),
    "Who": (
        Section("plays_by_gender", bar="plays_per_listener"),
        Section("plays_by_level", bar="plays_per_listener"),
        Section("level_history", charts.level_history),
        Section("top_listeners", bar="plays"),
        Section("sessions", bar="sessions"),
    ),
    "Where, and with what": (
        Section("top_locations", bar="listeners"),
        Section("systems", bar="listeners"),
        Section("browsers", bar="listeners"),
    ),
}
SECTIONS = [section for sections in GROUPS.values() for section in sections]

# ── Words ────────────────────────────────────────────────────────────────────────────────────────


def name_leaders(section: Section, rows: Rows) -> str:
    """A sentence that names the rows with the most, or counts them if they are many."""
    most = plural(max(row[section.ranked] for row in rows), section.unit) + section.per
    named = [section.name(row) for row in leaders(rows, section.ranked)]
    if not named:
        return f"Several rows have the most, {most}."
    each = " each" if len(named) > 1 else ""
    return f"Most: {' and '.join(named)}, {most}{each}."


def state_fact(section: Section, rows: Rows, head: Row) -> str:
    """What the rows say, in words that are true of any rows."""
    if section.query == "level_history":
        changed = f"{head['changed_level']:,} of {plural(head['listeners'], 'listener')}"
        return f"{changed} had plays at more than one level."
    return name_leaders(section, rows) if section.ranked else ""


def write_note(section: Section, query: Query, rows: Rows, head: Row) -> str:
    """What a reader must know about the rows."""
    words = [query.note]
    if section.query == "plays_per_day":
        missing = (rows[-1]["day"] - rows[0]["day"]).days + 1 - len(rows)
        if missing:
            words.append(f"{plural(missing, 'day')} between the first and the last had no plays.")
    if section.query == "listeners_per_week" and any(row["days"] < 7 for row in rows):
        words.append("The chart shows partial weeks paler.")
    if section.query in ("top_songs", "top_artists"):
        words.append(f"Plays that match a song: {head['matched']:,} of {head['plays']:,}.")
    return " ".join(words).strip()


def subtitle(lake: Lake) -> str:
    commit = lake.commit
    published = datetime.strptime(commit["run"][:15], "%Y%m%dT%H%M%S")
    source = commit["settings"]["input"]
    words = f"{lake.output}, commit {commit['commit']} of {show_day(published)} {published:%H:%M} "
    words += f"UTC, made from {source}."
    if source.endswith("data/sample"):
        words += " This is the invented sample: no real people, songs or plays."
    return words


def clock_rule(lake: Lake, zone: str) -> str:
    if zone == "UTC":
        return "Days and hours are UTC."
    if zone != LISTENERS:
        return f"Days and hours are those of {zone}."
    (row,) = lake.rows("""
        SELECT count(state) AS known, count(*) AS plays
        FROM main.songplays
        LEFT JOIN local_time.zones ON state = substr(split_part(location, ', ', 2), 1, 2)
    """)
    return (
        "Days and hours are local time where the listener is, judged by the first state in the "
        f"location. It is known for {row['known']:,} of {plural(row['plays'], 'play')}; "
        "any other counts in UTC."
    )


def shell_commands(output: str) -> str:
    """Starts a DuckDB shell in which the page's SQL runs."""
    start = f"OUTPUT={shlex.quote(output)} duckdb"
    if "://" not in output:
        return f"{start} -init analytics/views.sql"
    secret = '-cmd "CREATE SECRET (TYPE s3, PROVIDER credential_chain)"'
    return f'{start} \\\n    {secret} -cmd ".read analytics/views.sql"'


def local_time_commands(zone: str) -> str:
    """What makes the times of that shell local."""
    if zone == "UTC":
        return ""
    variable = "" if zone == LISTENERS else f"SET VARIABLE timezone = '{zone}';\n"
    return variable + ".read analytics/local_time.sql"


# ── Tables ───────────────────────────────────────────────────────────────────────────────────────


def show_cell(name: str, value: Any, position: int) -> Row:
    is_number = isinstance(value, (int, float)) and not name.endswith("_id")
    text = str(value)
    sort = ""
    if is_number or value is None:
        text = number(value)
    if isinstance(value, date):
        text = show_day(value)
        sort = str(value)
    if name in IN_ORDER:
        sort = str(position)
    return {"text": text, "sort": sort, "is_number": is_number, "part": None, "is_top": False}


def show_table(
    rows: Rows, caption: str, bar: str = "", ranked: str = "", kind: str = "sorts"
) -> Row:
    """A table as page.html shows it."""
    most = max((row[bar] for row in rows), default=0) if bar else 0
    tops = leaders(rows, bar) if bar and ranked == bar else []
    shown = []
    for position, row in enumerate(rows):
        cells = [show_cell(name, value, position) for name, value in row.items()]
        for name, cell in zip(row, cells):
            if name == bar:
                cell["part"] = round(row[bar] / most, 4) if most else 0
                cell["is_top"] = row in tops
        shown.append(cells)
    return {
        "caption": caption,
        "kind": kind,
        "is_open": len(rows) <= OPEN_ROWS,
        "heads": [
            {
                "text": name.replace("_", " "),
                "is_number": cell["is_number"] and name != bar and cell is not shown[0][0],
            }
            for name, cell in zip(rows[0], shown[0])
        ],
        "rows": shown,
    }


def hours_table(rows: Rows) -> Rows:
    """One row per hour, one column per weekday."""
    found = {(row["hour"], row["weekday"]): row["plays_per_day"] for row in rows}
    weekdays = sorted({row["weekday"] for row in rows}, key=lambda weekday: (weekday + 5) % 7)
    return [
        {
            "hour": f"{hour}:00",
            **{WEEKDAYS[day - 1][:3]: found.get((hour, day), 0.0) for day in weekdays},
        }
        for hour in range(24)
    ]


def csv_link(rows: Rows) -> str:
    """The rows as a file inside a link.

    Text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow(
            f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value
            for value in row.values()
        )
    # the mark that tells Excel that it is UTF-8
    return "data:text/csv;charset=utf-8," + quote("\ufeff" + file.getvalue())


# ── The page ─────────────────────────────────────────────────────────────────────────────────────


class Report(NamedTuple):
    page: str
    pictures: dict[str, tuple[charts.Chart, str]]  # query -> chart, and its title of two lines


def make_tiles(head: Row, days: int) -> list[Row]:
    per_session = head["plays"] / max(head["sessions"], 1)
    matched = 100 * head["matched"] / max(head["plays"], 1)
    first, last = head["first_day"], head["last_day"]
    tiles = (
        ("plays", number(head["plays"]), f"on {plural(days, 'day')}"),
        (
            "last play",
            show_day(last) if last else "–",
            f"first: {show_day(first)}" if first else "",
        ),
        ("listeners", number(head["listeners"]), f"of {plural(head['users'], 'user')}"),
        ("sessions", number(head["sessions"]), f"{number(per_session)} plays each"),
        ("plays that match a song", f"{matched:.1f} %", number(head["matched"])),
        ("songs", number(head["songs"]), f"by {plural(head['artists'], 'artist')}"),
    )
    return [{"name": name, "figure": figure, "words": words} for name, figure, words in tiles]


def draw(chart: charts.Chart, question: str, width: int) -> markupsafe.Markup:
    named = f'<svg role="img" aria-label="{markupsafe.escape(question)}" '
    return markupsafe.Markup(charts.svg(chart, width).replace("<svg ", named, 1))


def section_part(section: Section, query: Query, rows: Rows, head: Row, clock: str) -> Row:
    """A section as page.html shows it."""
    part: Row = {"name": section.query, "title": query.question, "sql": query.sql}
    if not rows:
        return part | {"fact": "There is nothing to show."}
    table = show_table(rows, query.question, section.bar, section.ranked)
    if section.query == "plays_by_weekday_and_hour":
        table = show_table(hours_table(rows), query.question, kind="sorts hours")
    part["fact"] = state_fact(section, rows, head)
    part["note"] = write_note(section, query, rows, head)
    part["tables"] = [table]
    part["csv"] = csv_link(rows)
    if section.chart:
        for size, width in (("wide", charts.WIDE), ("narrow", charts.NARROW)):
            part[size] = draw(section.chart(rows, clock, width), query.question, width)
    return part


def counts_part(commit: Row) -> Row:
    """What became of each line that the run read."""
    events, songs = commit["events"], commit["songs"]
    datasets = (
        ("log lines", events, "lines", etl.EVENT_CLASSES),
        ("song records", songs, "records", etl.SONG_CLASSES),
    )
    tables = []
    for unit, counts, total, classes in datasets:
        rows = [
            {"class": name.replace("_", " "), unit: counts[name], "meaning": meaning}
            for name, meaning in classes.items()
            if counts.get(name)
        ]
        rows.append({"class": "total", unit: counts[total], "meaning": ""})
        tables.append(show_table(rows, f"What became of the {unit}", kind=""))
    return {
        "name": "counts",
        "title": "What became of each line of the input?",
        "fact": f"{events['songplays']:,} of {plural(events['lines'], 'log line')} are plays.",
        "tables": tables,
    }


def render(**values: object) -> str:
    """page.html with these values, each of which is escaped."""
    loader = jinja2.FileSystemLoader(HERE)
    template = jinja2.Environment(loader=loader, autoescape=True).get_template("page.html")
    script = (HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return template.render(
        script=markupsafe.Markup(script),
        script_hash=f"sha256-{digest}",
        style=markupsafe.Markup((HERE / "page.css").read_text(encoding="utf-8")),
        light=charts.css(charts.LIGHT),
        dark=charts.css(charts.DARK),
        font=charts.FONT,
        **values,
    )


def make_report(lake: Lake, zone: str = "UTC") -> Report:
    """The page and its charts.

    zone   of days and hours: UTC, another name, or `listeners` for the time where each listener is
    """
    if zone != "UTC":
        use_local_time(lake, zone)
    queries = read_queries()
    results = {name: lake.rows(query.sql) for name, query in queries.items()}
    (head,) = results["headline"]
    try:
        queries["top_songs"], results["top_songs"] = ask_logs(lake)
    except Exception as error:
        # the logs may be gone or elsewhere
        why = etl.explain(error, "log_data")
        note = f"Only plays that match a song count, because the logs cannot be read: {why}."
        queries["top_songs"] = queries["top_songs"]._replace(note=note)

    clock = "local time" if zone == LISTENERS else zone
    groups = []
    pictures = {}
    for name, sections in GROUPS.items():
        parts = []
        for section in sections:
            query, rows = queries[section.query], results[section.query]
            parts.append(section_part(section, query, rows, head, clock))
            if rows and section.chart:
                chart = section.chart(rows, clock, charts.WIDE)
                title = f"{query.question}\n{parts[-1]['fact']}"
                pictures[section.query] = (chart, title)
        groups.append({"title": name, "parts": parts})
    groups.append({"title": "The run", "parts": [counts_part(lake.commit)]})
    for position, group in enumerate(groups):
        group["id"] = f"group-{position}"
    page = render(
        subtitle=subtitle(lake),
        clock_rule=clock_rule(lake, zone),
        shell=shell_commands(lake.output),
        local_time=local_time_commands(zone),
        tiles=make_tiles(head, len(results["plays_per_day"])),
        groups=groups,
    )
    return Report(page, pictures)


def write_report(report: Report, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text(report.page, encoding="utf-8")
    for name, (chart, title) in report.pictures.items():
        picture = charts.in_light(charts.svg(chart, charts.WIDE, title))
        (folder / f"{name}.svg").write_text(picture, encoding="utf-8")
        (folder / f"{name}.png").write_bytes(vl_convert.svg_to_png(picture, scale=2))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument(
        "--timezone",
        default="UTC",
        metavar="ZONE",
        help="of days and hours: such as America/Los_Angeles, or `listeners` for the time where "
        "each listener is (default: UTC)",
    )
    parser.add_argument(
        "--to",
        metavar="FOLDER",
        default="report",
        type=Path,
        help="for the files (default: report)",
    )
    given = parser.parse_args()
    report = make_report(open_lake(given.output, given.config), given.timezone)
    try:
        write_report(report, given.to)
    except OSError as error:
        raise etl.Stop(2, f"--to {given.to}: {error.strerror}. Name another folder.") from None
    print(f"Wrote {given.to / 'report.html'}. Open it in a browser.")
    print(f"{plural(len(report.pictures), 'chart')} are beside it as SVG and PNG.")


if __name__ == "__main__":
    sys.exit(run_program(main))
