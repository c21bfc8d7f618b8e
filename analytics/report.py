"""What people listen to, as one page of charts and tables, from the tables that etl.py published.

    python analytics/report.py                            of dl.cfg's OUTPUT, into report/
    python analytics/report.py s3a://my-bucket/lake --timezone America/Los_Angeles

Writes report/report.html, which needs nothing else, no network and no JavaScript, and each chart
as SVG and PNG. Every figure is the answer to a query, which stands beneath it.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import json
import sys
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from common import SETTINGS, Stop, etl_constant, needed_packages, run_main

with needed_packages("analytics/requirements.txt"):
    import charts
    import findings
    import jinja2
    import logged
    import markupsafe
    from findings import label, number, plural, share
    from lake import Lake, add_arguments, done_commits, explain, from_arguments, read_runs
    from queries import LISTENERS, Query, choose_clock, read_queries

HERE = Path(__file__).parent
Rows = list[dict]

# Longer tables are folded away beneath their chart.
OPEN_ROWS = 12
RUNS_SHOWN = 10
REJECTED_SHOWN, REJECTED_BYTES = 20, 2**20
HIDDEN = ("ranked", "tied")
# The rankings of matched plays alone.
MATCHED = ("top_songs", "top_artists")
RULES = (
    "A title names a leader, and all who share the lead. Numbers of which the smaller is at least "
    "90 % of the larger are said to hardly differ. A group of fewer than 10 listeners, or fewer "
    "than 30 plays, is called too few to compare. An hour stands out only if its plays exceed the "
    "even share by three standard deviations of what chance would do to sessions of this size, "
    "and an hour of the week by four. Two levels differ clearly only if the middle halves of "
    "their listeners do not overlap. If there are 15 days or more, the first and the last do not "
    "count towards averages, because the data may begin and end within them."
)

# ── Sections ─────────────────────────────────────────────────────────────────────────────────────


class Section(NamedTuple):
    """One query's part of the page."""

    query: str
    finding: Callable[[Rows, dict], str]  # what the title says
    empty: str  # what it says if there are no rows
    chart: Callable[[Rows, dict, int], object] | None = None
    bar: str = ""  # the column that the page's table draws as bars, in place of the chart
    noun: str = ""  # what a ranking ranks


def ranking(query, finding, empty, name, bar, noun) -> Section:
    """A ranking: bars in the table of the page, and a chart for the folder."""
    return Section(query, finding, empty, charts.bars(name, bar, bar[:-1]), bar, noun)


def text_of(column: str) -> Callable[[dict], str]:
    return lambda row: label(row[column])


GROUPS = {
    "When": (
        Section("plays_per_day", findings.per_day, "No plays, so no days", charts.per_day),
        Section(
            "plays_by_weekday",
            findings.by_weekday,
            "No plays, so no busiest day",
            charts.by_weekday,
        ),
        Section("plays_by_hour", findings.by_hour, "No plays, so no busiest hour", charts.by_hour),
        Section(
            "plays_by_weekday_and_hour",
            findings.by_weekday_and_hour,
            "No plays, so no pattern of the week",
            charts.by_weekday_and_hour,
        ),
    ),
    "What": (
        ranking(
            "logged_songs",
            findings.logged_ranking(findings.song_name),
            "Titles as logged cannot be ranked",
            findings.song_name,
            "plays",
            "song",
        ),
        ranking(
            "logged_artists",
            findings.logged_ranking(findings.artist_name),
            "Artists as logged cannot be ranked",
            findings.artist_name,
            "plays",
            "artist",
        ),
        ranking(
            "top_songs",
            findings.matched_ranking(findings.song_name),
            "No play matches a song of the catalogue, so its songs cannot be ranked",
            findings.song_name,
            "plays",
            "song",
        ),
        ranking(
            "top_artists",
            findings.matched_ranking(findings.artist_name),
            "No play matches a song of the catalogue, so its artists cannot be ranked",
            findings.artist_name,
            "plays",
            "artist",
        ),
    ),
    "Who": (
        Section("plays_by_level", findings.by_level, "No plays, so no levels", charts.by_level),
        Section("level_changes", findings.level_changes, "No listener changed level"),
        Section(
            "level_history",
            findings.level_history,
            "No history, because no listener changed level",
            charts.level_history,
        ),
        Section(
            "listeners_per_week",
            findings.per_week,
            "No plays, so no listeners",
            charts.per_week,
        ),
        ranking(
            "sessions",
            findings.sessions,
            "No plays, so no sessions",
            lambda row: f"{row['plays_per_session']} plays",
            "sessions",
            "size",
        ),
    ),
    "Where and with what": (
        ranking(
            "top_places",
            findings.by_place,
            "No plays, so no places",
            text_of("place"),
            "listeners",
            "place",
        ),
        ranking(
            "client_systems",
            findings.by_client("system"),
            "No plays, so no systems",
            text_of("system"),
            "listeners",
            "system",
        ),
        ranking(
            "client_browsers",
            findings.by_client("browser"),
            "No plays, so no browsers",
            text_of("browser"),
            "listeners",
            "browser",
        ),
    ),
    "The catalogue": (
        Section(
            "songs_by_decade",
            findings.by_decade,
            "No songs in the catalogue",
            charts.by_decade,
        ),
    ),
}
SECTIONS = [section for sections in GROUPS.values() for section in sections]

# ── Tables ───────────────────────────────────────────────────────────────────────────────────────


def part_of(value: float, most: float) -> float:
    return round(value / most, 4) if most else 0


def show_cells(row: dict, bar: str, most: float) -> list[dict]:
    cells = []
    for name, value in row.items():
        is_number = isinstance(value, (int, float)) and not name.endswith("_id")
        text = number(value) if is_number or value is None else str(value)
        if isinstance(value, (date, datetime)):
            text = number(value)
        cells.append(
            {
                "text": text,
                "sort": str(value) if isinstance(value, date) else "",
                "is_number": is_number,
                "part": part_of(value, most) if name == bar and is_number else None,
                "is_top": name == bar and value == most,
            }
        )
    return cells


def show_table(rows: Rows, caption: str, bar: str = "", sums: Rows = (), kind: str = "") -> dict:
    """A table as page.html shows it.  `bar` names the column that is drawn as bars."""
    visible = [
        {name: value for name, value in row.items() if name not in HIDDEN} for row in [*rows, *sums]
    ]
    most = max((row[bar] for row in rows), default=0) if bar else 0
    numbers = {
        name
        for row in visible
        for name, value in row.items()
        if isinstance(value, (int, float)) and name != bar and not name.endswith("_id")
    }
    first = next(iter(visible[0]))
    return {
        "caption": caption,
        "kind": kind,
        "is_open": len(visible) <= OPEN_ROWS,
        "heads": [
            {"text": name.replace("_", " "), "is_number": name in numbers and name != first}
            for name in visible[0]
        ],
        "rows": [
            {"cells": show_cells(row, bar, most), "is_sum": place >= len(rows)}
            for place, row in enumerate(visible)
        ],
    }


def csv_link(rows: Rows) -> str:
    """The rows as a file that a link holds.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    names = [name for name in rows[0] if name not in HIDDEN]
    writer.writerow(names)
    for row in rows:
        values = [row[name] for name in names]
        writer.writerow(
            f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value
            for value in values
        )
    return "data:text/csv;charset=utf-8," + quote("\ufeff" + file.getvalue())


def hours_table(rows: Rows) -> Rows:
    """The heat map as a table: one row per hour, one column per weekday that occurred."""
    found = {(row["hour"], row["weekday"]): row for row in findings.all_cells(rows)}
    days = list(dict.fromkeys(row["weekday"] for row in rows))
    return [
        {
            "hour": f"{hour}:00",
            **{day[:3]: found[hour, day]["plays_per_day"] for day in days},
        }
        for hour in range(24)
    ]


# ── The run ──────────────────────────────────────────────────────────────────────────────────────


def started(run: str) -> datetime:
    return datetime.strptime(run[:15], "%Y%m%dT%H%M%S")


def read_account(lake: Lake) -> dict:
    """The run's own summary; if it was cut off before that, what its commit holds."""
    try:
        return json.loads(lake.place.read(f"_etl/runs/{lake.commit['run']}.json"))
    except (FileNotFoundError, ValueError):
        return lake.commit


def rejected_lines(lake: Lake) -> Rows:
    """File, reason and text of the first rejected lines."""
    found = []
    sizes = lake.place.sizes(f"_etl/quarantine/{lake.commit['run']}")
    for key in sorted(key for key, size in sizes.items() if key.endswith(".json") and size):
        text = lake.place.read(key)[:REJECTED_BYTES]
        for line in map(json.loads, text.split(b"\n")[:-1]):
            raw = line.get("raw") or line.get("raw_base64") or ""
            found.append(
                {
                    "file": line["file"],
                    "reason": line["reason"],
                    "line": raw[:300] + "…" * (len(raw) > 300),
                }
            )
    return found


def rejected_tables(lines: Rows, with_text: bool) -> list[dict]:
    """The rejected lines by file and reason, and their text only if it was asked for."""
    if not lines:
        return []
    counts = Counter((line["file"], line["reason"]) for line in lines)
    rows = [
        {"file": file, "reason": reason, "lines": count}
        for (file, reason), count in list(counts.items())[:REJECTED_SHOWN]
    ]
    tables = [show_table(rows, "Rejected lines, by file and reason")]
    if with_text:
        tables.append(show_table(lines[:REJECTED_SHOWN], "Rejected lines, as they were logged"))
    return [{**table, "is_open": True} for table in tables]


def account_part(lake: Lake, with_text: bool) -> dict:
    """What became of each line that the run read."""
    account = read_account(lake)
    if "events" not in account or "songs" not in account:
        return {"name": "account", "title": "The run left no account", "words": ""}
    events, songs = account["events"], account["songs"]
    rejected = events["key_conflict"]
    rejected += sum(side[name] for side in (events, songs) for name in ("malformed", "invalid"))
    tables = []
    sides = (
        (events, "lines", "log lines", "EVENT_CLASSES"),
        (songs, "records", "song records", "SONG_CLASSES"),
    )
    for side, whole, unit, classes in sides:
        rows = [
            {"class": name.replace("_", " "), "lines": side[name], "what": words}
            for name, words in etl_constant(classes).items()
            if side.get(name)
        ]
        total = [{"class": "sum", "lines": side[whole], "what": unit}]
        tables.append(show_table(rows, f"What became of the {unit}", sums=total))
    lines = rejected_lines(lake) if rejected else []
    words = "What became of each line that the run read?"
    if lines and not with_text:
        words += (
            " The rejected lines themselves may name people; report.py --rejected-lines adds "
            "them to the page."
        )
    verdict = "no line was rejected"
    if rejected:
        verdict = f"{plural(rejected, 'line')} {'was' if rejected == 1 else 'were'} rejected"
    title = f"{events['songplays']:,} of {plural(events['lines'], 'log line')} are plays; {verdict}"
    return {
        "name": "account",
        "title": title,
        "words": words,
        "tables": tables + rejected_tables(lines, with_text),
    }


def table_rows(commit: dict) -> dict[str, int]:
    """Table -> its rows at a commit."""
    return {table: made["rows"] for table, made in commit["tables"].items()}


def changes(lake: Lake) -> str:
    """How the tables differ from those of the commit before."""
    keys = done_commits(lake.place)
    if len(keys) < 2:
        return "These are the tables of the first commit"
    before = json.loads(lake.place.read(keys[-2]))
    old, new = table_rows(before), table_rows(lake.commit)
    texts = []
    for table, rows in new.items():
        more = rows - old.get(table, 0)
        if more:
            texts.append(f"{plural(abs(more), 'row')} {'more' if more > 0 else 'fewer'} in {table}")
    changed = findings.listed(texts) if texts else "as many rows in every table"
    return f"Since commit {before['commit']}: {changed}"


def runs_part(lake: Lake) -> dict:
    """The runs over time, newest first."""
    rows = []
    for run in reversed(read_runs(lake, RUNS_SHOWN)):
        events, songs = run.get("events", {}), run.get("songs", {})
        read = events.get("lines", 0) - events.get("blank", 0) + songs.get("records", 0)
        rejected = sum(
            side.get(name, 0) for side in (events, songs) for name in ("malformed", "invalid")
        )
        plays = events.get("songplays", 0)
        rows.append(
            {
                "run (UTC)": f"{started(run['run']):%Y-%m-%d %H:%M}",
                "commit": number(run.get("commit")),
                "exit": str(run.get("exit", "–")),
                "plays": plays,
                "rejected": share(rejected, read),
                "matched": share(events.get("matched", 0), plays),
                "seconds": float(sum(run.get("seconds", {}).values())),
            }
        )
    settings = lake.commit.get("settings", {})
    words = (
        f"The newest runs that left a summary, at most {RUNS_SHOWN}. The tables lie in "
        f"{lake.uri}, commit {lake.commit['commit']}; they were made from "
        f"{settings.get('input', 'an unknown INPUT')}."
    )
    return {
        "name": "runs",
        "title": changes(lake),
        "words": words,
        "tables": [show_table(rows, "The newest runs", bar="seconds")] if rows else [],
    }


# ── The page ─────────────────────────────────────────────────────────────────────────────────────


class Report(NamedTuple):
    page: str
    pictures: dict[str, tuple[object, str]]  # query -> chart and title, if there are rows
    head: dict
    answers: dict[str, Rows]


def make_tiles(lake: Lake, head: dict) -> list[dict]:
    days = len(head["days"])
    per_session = head["plays"] / max(head["sessions"], 1)
    tiles = {
        "plays": (number(head["plays"]), f"on {plural(days, 'day')}"),
        "listeners": (number(head["listeners"]), f"of {plural(head['users'], 'user')}"),
        "sessions": (number(head["sessions"]), f"{number(per_session)} plays each"),
        "newest play": (number(head["last_day"]), f"the first: {number(head['first_day'])}"),
        "plays that match a song": (
            share(head["matched"], head["plays"]),
            f"{head['matched']:,} of {plural(head['plays'], 'play')}",
        ),
        "catalogue": (plural(head["songs"], "song"), f"by {plural(head['artists'], 'artist')}"),
    }
    return [
        {"name": name, "figure": figure, "words": words} for name, (figure, words) in tiles.items()
    ]


def section_words(section: Section, query: Query, rows: Rows, head: dict) -> str:
    """What stands between the title and the chart."""
    words = [query.question, query.note if rows else ""]
    if section.query == "plays_per_day" and rows:
        missing = (rows[-1]["day"] - rows[0]["day"]).days + 1 - len(rows)
        words[1] = query.note if missing else ""
        if missing:
            words.append(f"{plural(missing, 'day')} between the first and the last are missing.")
        if len(rows) >= findings.EDGES_FROM:
            words.append("The title leaves out the first day and the last.")
    if section.query == "plays_by_weekday" and rows:
        words.append(f"Each dot is a day. {findings.widest_weekday(rows)}")
    if section.query == "plays_by_hour" and head["clock"].zone == LISTENERS:
        words.append("The night, 22:00 to 6:00, is shaded.")
    if section.query == "plays_by_level" and rows:
        words.append("In the picture each line stands for ten times the plays of the line before.")
    if section.query in MATCHED and head["plays"]:
        counts = f"{head['matched']:,} of {plural(head['plays'], 'play')}"
        words.append(f"Matched: {counts} ({share(head['matched'], head['plays'])}).")
    if section.query in logged.QUERIES:
        words.append(head["logged"].missing or head["logged"].note)
    if section.noun and rows and "tied" in rows[0]:
        words.append(findings.cut_off(rows, section.bar, section.noun))
    return " ".join(filter(None, words)).replace("`", "")


def has_few(section: Section, head: dict) -> bool:
    """Whether a ranking is of so few plays that bars would only seem to say something."""
    plays = head["matched"] if section.query in MATCHED else head["plays"]
    return plays < findings.FEW_PLAYS


def picture_html(chart: object, title: str, width: int) -> markupsafe.Markup:
    text = charts.svg(chart, width)
    named = f'<svg role="img" aria-label="{markupsafe.escape(title)}" '
    return markupsafe.Markup(text.replace("<svg ", named, 1))


def section_part(section: Section, query: Query, rows: Rows, head: dict) -> dict:
    """A section as page.html shows it."""
    part = {
        "name": section.query,
        "title": section.finding(rows, head) if rows else section.empty,
        "question": query.question,
        "words": section_words(section, query, rows, head),
        "sql": query.sql,
    }
    if not rows:
        return part
    shown, kind = rows, ""
    if section.query == "plays_by_weekday_and_hour":
        shown, kind = hours_table(rows), "hours"
    bar = "" if has_few(section, head) else section.bar
    part["tables"] = [show_table(shown, query.question, bar, kind=kind)]
    part["csv"] = csv_link(rows)
    if section.chart and not section.bar:
        part["wide"], part["narrow"] = (
            picture_html(section.chart(rows, head, width), part["title"], width)
            for width in (charts.WIDE, charts.NARROW)
        )
    return part


def render(**values) -> str:
    """page.html with these values, each of which is escaped."""
    loader = jinja2.FileSystemLoader(HERE)
    template = jinja2.Environment(loader=loader, autoescape=True).get_template("page.html")
    script = (HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return template.render(
        script=markupsafe.Markup(script),
        style=markupsafe.Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script_hash=f"sha256-{digest}",
        light=charts.css(charts.LIGHT),
        dark=charts.css(charts.DARK),
        font=charts.FONT,
        rules=RULES,
        **values,
    )


def has_plays(rows: Rows) -> bool:
    """Seven weekdays without a day are no answer."""
    return any(row.get("days", True) for row in rows)


def make_report(
    lake: Lake, timezone: str = LISTENERS, source: str = "", with_text: bool = False
) -> Report:
    """The page and its charts.

    timezone    a zone's name, or `listeners` for the time where each listener is
    source      the INPUT whose logs are read, if it is not the commit's
    with_text   whether the page shows rejected lines as they are
    """
    clock = choose_clock(lake, timezone)
    queries = read_queries(clock.zone)
    answers = {name: lake.rows(query.sql) for name, query in queries.items()}
    (head,) = answers.pop("headline")
    head |= {
        "clock": clock,
        "days": answers["plays_per_day"],
        "logged": logged.read_logged(lake, head["plays"], source),
    }
    queries |= logged.QUERIES
    answers |= head["logged"].answers
    answers = {name: rows for name, rows in answers.items() if has_plays(rows)}

    groups, pictures = [], {}
    for title, sections in GROUPS.items():
        parts = []
        for section in sections:
            rows = answers.get(section.query, [])
            parts.append(section_part(section, queries[section.query], rows, head))
            is_drawn = section.chart and not (section.bar and has_few(section, head))
            if rows and is_drawn:
                chart = section.chart(rows, head, charts.WIDE)
                pictures[section.query] = (chart, parts[-1]["title"])
        groups.append({"title": title, "parts": parts})
    groups.append({"title": "The run", "parts": [account_part(lake, with_text), runs_part(lake)]})
    for group in groups:
        group["id"] = group["title"].lower().replace(" ", "-")
    made = started(lake.commit["run"])
    page = render(
        subtitle=f"From the tables that etl.py made on {number(made.date())} at {made:%H:%M} UTC.",
        clock_rule=clock.rule if head["plays"] else "",
        tiles=make_tiles(lake, head),
        groups=groups,
    )
    return Report(page, pictures, head, answers)


def write_report(report: Report, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text(report.page, encoding="utf-8")
    for name, (chart, title) in report.pictures.items():
        text = charts.svg(chart, charts.WIDE, title)
        picture = charts.coloured(text, charts.EITHER)
        (folder / f"{name}.svg").write_text(picture, encoding="utf-8")
        (folder / f"{name}.png").write_bytes(charts.png(text))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument(
        "--timezone",
        default=LISTENERS,
        help="of days and hours: a zone such as America/Los_Angeles, or `listeners`, the time "
        "where each listener is (default)",
    )
    parser.add_argument(
        "--input",
        default="",
        help="where the logs are now, for titles as logged (default: the INPUT of the tables' run)",
    )
    parser.add_argument(
        "--rejected-lines",
        action="store_true",
        help="show rejected lines as they were logged, with people's names",
    )
    parser.add_argument(
        "--to",
        metavar="FOLDER",
        default="report",
        type=Path,
        help="for the page and its charts (default: %(default)s)",
    )
    given = parser.parse_args()
    lake = from_arguments(given)
    report = make_report(lake, given.timezone, given.input, given.rejected_lines)
    try:
        write_report(report, given.to)
    except OSError as error:
        remedy = "name a folder that this user may write"
        raise Stop(SETTINGS, f"--to {given.to}: {error.strerror}; {remedy}") from None
    head = report.head
    rate = share(head["matched"], head["plays"])
    print(f"{head['matched']:,} of {plural(head['plays'], 'play')} ({rate}) match a song")
    beside = f"{plural(len(report.pictures), 'chart')} beside it as SVG and PNG"
    print(f"{given.to / 'report.html'}, and {beside}")


if __name__ == "__main__":
    sys.exit(run_main("report.py", main, explain))
