"""What people listen to, as one page of charts and tables, from the tables that etl.py published.

    python analytics/report.py                            of dl.cfg's OUTPUT, into report/
    python analytics/report.py s3a://my-bucket/lake --timezone America/Los_Angeles

Writes report/report.html, which needs nothing else, no network and no JavaScript, and each chart as SVG and PNG. Every
figure is the answer to a query of queries.sql, which stands beneath it.
"""

from __future__ import annotations

import argparse
import html
import itertools
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import altair as alt
import obstore
import vl_convert
from lake import SETTINGS, Lake, Stop, add_arguments, from_arguments, run_main

HERE = Path(__file__).parent
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
FEW = 30  # matched plays, below which a ranking says nothing
REJECTED_SHOWN, REJECTED_BYTES = 20, 2**20
CLASSES = {
    "blank": "no text",
    "malformed": "not exactly one JSON object, or a number that is none",
    "invalid": "lacks what a row needs",
    "out_of_scope": "an event that is no play",
    "duplicate": "a copy of another",
    "key_conflict": "another content of a play that is kept",
    "songplays": "rows of songplays",
    "variant": "another record of a song that is kept",
    "songs": "rows of songs",
}

# ── Queries ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Query(NamedTuple):
    question: str
    note: str
    sql: str


def read_queries(timezone: str = "UTC") -> dict[str, Query]:
    """The named queries of queries.sql, with their times in a zone that check_timezone knows."""
    text = (HERE / "queries.sql").read_text(encoding="utf-8").replace("'UTC'", f"'{timezone}'")
    found = re.findall(r"^-- name: (\w+)\n-- (.*)\n((?:-- .*\n)*)([^;]+);", text, re.MULTILINE)
    return {
        name: Query(question, note.replace("-- ", "").strip(), sql)
        for name, question, note, sql in found
    }


def run_query(lake: Lake, sql: str) -> list[dict]:
    answer = lake.db.execute(sql)
    names = [column[0] for column in answer.description]
    return [dict(zip(names, row)) for row in answer.fetchall()]


def check_timezone(lake: Lake, name: str) -> str:
    """The zone's name as the time zone database writes it.  Raises Stop where it is none."""
    found = lake.db.execute(
        "SELECT name FROM pg_timezone_names() WHERE lower(name) = lower(?)", [name]
    ).fetchone()
    if not found:
        raise Stop(
            SETTINGS,
            f"--timezone {name}: no such time zone; name one such as UTC or America/Los_Angeles",
        )
    return found[0]


# ── Words ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def number(value) -> str:
    """A value as a reader writes it: 1,234, 12.3, a date, or a dash for none."""
    if value is None:
        return "–"
    return (
        f"{value:,.1f}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def share(part: float, whole: float) -> str:
    """A percentage that is only 0 or 100 where it is exactly that."""
    percent = 100 * part / whole if whole else 0
    shown = f"{percent:.1f}"
    if (shown == "0.0" and part) or (shown == "100.0" and part != whole):
        shown = f"{percent:.2g}" if percent < 50 else f"{percent:.4f}"
    return f"{shown} %"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def label(value) -> str:
    """Text of the data for a chart: NULL named, and no control characters, which XML cannot hold."""
    return (
        "(none)" if value is None else re.sub(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]", " ", str(value))
    )


def is_tie(rows: list[dict], column: str) -> bool:
    """Whether a second row is as high as the highest, so that no title names one as the leader."""
    most = max(row[column] for row in rows)
    return sum(row[column] == most for row in rows) > 1


def weekday_finding(rows: list[dict], head: dict) -> str:
    played = [row for row in rows if row["days"]]
    best, worst = (pick(played, key=lambda row: row["plays_a_day"]) for pick in (max, min))
    if len(played) == 1:
        return f"All plays are on a {best['day']}"
    if best["plays_a_day"] == worst["plays_a_day"]:
        return f"No day of the week is busier than another: {best['plays_a_day']:,.1f} plays"
    times = f"{best['plays_a_day'] / worst['plays_a_day']:.1f} times as many as on a {worst['day']}"
    busiest = "one of the busiest days" if is_tie(rows, "plays_a_day") else "the busiest day"
    return f"{best['day']} is {busiest}: {best['plays_a_day']:,.1f} plays, {times}"


def hours(row: dict, head: dict) -> str:
    return f"{row['hour']}:00 to {row['hour'] + 1}:00 {head['timezone']}"


def hour_finding(rows: list[dict], head: dict) -> str:
    best = max(rows, key=lambda row: row["plays"])
    part = share(best["plays"], head["plays"])
    busiest = "one of the busiest hours" if is_tie(rows, "plays") else "the busiest hour"
    return f"{hours(best, head)} is {busiest}, with {part} of the plays"


def week_finding(rows: list[dict], head: dict) -> str:
    best = max(rows, key=lambda row: row["plays_a_day"])
    plays = f"{best['plays_a_day']:,.1f} plays in that hour"
    peak = "One of the week's peaks" if is_tie(rows, "plays_a_day") else "The week's peak"
    return f"{peak} is {best['day']}, {hours(best, head)}, with {plays}"


def leads(rows: list[dict]) -> str:
    return "shares the lead" if is_tie(rows, "plays") else "leads"


def ranking_finding(rows: list[dict], head: dict) -> str:
    best = rows[0]
    if head["matched"] < FEW:
        return f"Too few plays match the catalogue for a ranking: {head['matched']:,} of {head['plays']:,}"
    name = (
        f"“{best['song']}” by {best['artist'] or 'an unknown artist'}"
        if "song" in best
        else best["artist"]
    )
    rate = share(head["matched"], head["plays"])
    matched = f"{head['matched']:,} of {head['plays']:,} ({rate}) match"
    return f"{name} {leads(rows)} with {plural(best['plays'], 'play')}; {matched}"


def level_finding(rows: list[dict], head: dict) -> str:
    most, *others = sorted(rows, key=lambda row: -row["plays_a_listener"])
    if not others:
        return f"All plays are at level {label(most['level'])}"
    least = others[-1]
    return (
        f"A {label(most['level'])} listener plays {most['plays_a_listener']:,.1f} songs, "
        f"a {label(least['level'])} one {least['plays_a_listener']:,.1f}"
    )


def change_finding(rows: list[dict], head: dict) -> str:
    changes = (
        f"{plural(row['changes'], 'change')} from {label(row['from_level'])} to {label(row['to_level'])}"
        for row in rows
    )
    return ", ".join(changes)


def location_finding(rows: list[dict], head: dict) -> str:
    return f"{label(rows[0]['location'])} {leads(rows)} with {share(rows[0]['plays'], head['plays'])} of the plays"


def client_finding(rows: list[dict], head: dict) -> str:
    best = rows[0]
    part = share(best["plays"], head["plays"])
    return f"{best['browser']} on {best['system']} {leads(rows)} with {part} of the plays"


def decade_finding(rows: list[dict], head: dict) -> str:
    known = [row for row in rows if row["decade"] != "unknown"]
    if not known:
        return "No song's year is known"
    best, total = max(known, key=lambda row: row["songs"]), sum(row["songs"] for row in known)
    unknown = share(head["songs"] - total, head["songs"])
    lead = "are one of the fullest decades" if is_tie(known, "songs") else "are the fullest decade"
    dated = f"{best['songs']:,} of {plural(total, 'song')} with a year"
    return f"The {best['decade']} {lead}: {dated}; {unknown} of all have none"


def map_finding(rows: list[dict], head: dict) -> str:
    return f"Coordinates are known of {sum(row['artists'] for row in rows):,} of {plural(head['artists'], 'artist')}"


# ── Charts ───────────────────────────────────────────────────────────────────────────────────────────────────────────

# Okabe and Ito's blue and orange, which the colour-blind tell apart, in tones that suit a light and a dark page
LIGHT = {
    "paper": "#ffffff",
    "ink": "#1b1f24",
    "muted": "#57606a",
    "line": "#d8dee4",
    "mark": "#0072b2",
    "top": "#d55e00",
}
DARK = {
    "paper": "#14181d",
    "ink": "#e6edf3",
    "muted": "#9aa7b4",
    "line": "#3a434d",
    "mark": "#56b4e9",
    "top": "#e69f00",
}
WIDTH = 420  # pixels, small enough that text stays legible on a phone
DIGIT = 8  # pixels that a character of a number takes at most
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"  # vl-convert brings the first: no machine measures otherwise
PALETTE = "".join(
    f"{media}:root{{{';'.join(f'--{name}:{value}' for name, value in colours.items())};color-scheme:{scheme}}}{end}"
    for media, colours, scheme, end in (
        ("", LIGHT, "light", ""),
        ("@media (prefers-color-scheme:dark){", DARK, "dark", "}"),
    )
)


def data(values: list[dict]) -> alt.Data:
    return alt.Data(values=values)


def number_axis(most: float) -> alt.Axis:
    """Few ticks, and at whole numbers where what is counted is whole."""
    is_few = isinstance(most, int) and most < 4
    return alt.Axis(values=list(range(most + 1)), format="d") if is_few else alt.Axis(tickCount=4)


def bars(rows: list[dict], name: Callable[[dict], str], value: str, unit: str) -> alt.LayerChart:
    """A bar a row, in their order, each with its number; the longest, or the `top` ones, in a colour of their own."""
    most, seen, values = max(row[value] for row in rows), {}, []
    for row in rows:
        text = label(name(row))
        seen[text] = (
            seen.get(text, 0) + 1
        )  # two artists may share a name: an invisible mark keeps their bars apart
        text += "\u200b" * (seen[text] - 1)
        shown = number(row[value]) + (" %" if unit.startswith("percent") else "")
        values.append(
            {
                "name": text,
                "value": row[value],
                "shown": shown,
                "is_top": row.get("top", row[value] == most),
            }
        )
    names = alt.Axis(labelLimit=180, labelPadding=6, ticks=False, domain=False)
    room = 8 + DIGIT * max(
        len(row["shown"]) for row in values
    )  # for the number beside the longest bar
    scale = alt.Scale(domain=[0, most], range=[0, alt.ExprRef(f"width - {room}")])
    chart = alt.Chart(data(values)).encode(
        y=alt.Y("name:N", sort=None, title=None, axis=names),
        x=alt.X("value:Q", title=unit, axis=number_axis(most), scale=scale),
    )
    colour = alt.condition("datum.is_top", alt.value("var(--top)"), alt.value("var(--mark)"))
    text = chart.mark_text(align="left", dx=4, color="var(--ink)").encode(text="shown:N")
    return (chart.mark_bar().encode(color=colour) + text).properties(height=27 * len(rows) + 50)


def hour_axis(head: dict) -> alt.X:
    every_third = alt.Axis(labelAngle=0, labelExpr="datum.value % 3 ? '' : datum.label")
    return alt.X(
        "hour:O",
        title=f"hour of the day, {head['timezone']}",
        scale=alt.Scale(domain=list(range(24))),
        axis=every_third,
    )


def hour_chart(rows: list[dict], head: dict) -> alt.Chart:
    most = max(row["plays"] for row in rows)
    values = [
        {"hour": row["hour"], "plays": row["plays"], "is_top": row["plays"] == most} for row in rows
    ]
    colour = alt.condition("datum.is_top", alt.value("var(--top)"), alt.value("var(--mark)"))
    plays = alt.Y("plays:Q", title="plays", axis=number_axis(most))
    return (
        alt.Chart(data(values))
        .mark_bar()
        .encode(x=hour_axis(head), y=plays, color=colour)
        .properties(height=220)
    )


def week_chart(rows: list[dict], head: dict) -> alt.Chart:
    values = [
        {"day": row["day"][:3], "hour": row["hour"], "plays": row["plays_a_day"]} for row in rows
    ]
    legend = alt.Legend(
        title="plays in the hour",
        orient="bottom",
        symbolFillColor="var(--mark)",
        symbolType="square",
    )
    cells = alt.Chart(data(values)).mark_rect(color="var(--mark)")
    return cells.encode(
        x=hour_axis(head),
        y=alt.Y("day:O", title=None, scale=alt.Scale(domain=[day[:3] for day in DAYS])),
        opacity=alt.Opacity(
            "plays:Q", scale=alt.Scale(domainMin=0, range=[0.06, 1]), legend=legend
        ),
    ).properties(height=260)


def level_chart(rows: list[dict], head: dict) -> alt.LayerChart:
    keenest = max(rows, key=lambda row: row["plays_a_listener"])
    shares = [
        {
            "name": f"{measure}, {label(row['level'])}",
            "percent": row[f"percent_of_{measure}"],
            "top": row is keenest,
        }
        for measure in ("plays", "listeners")
        for row in rows
    ]
    return bars(shares, lambda row: row["name"], "percent", "percent of all plays or listeners")


def decade_chart(rows: list[dict], head: dict) -> alt.LayerChart:
    most = max((row["songs"] for row in rows if row["decade"] != "unknown"), default=0)
    marked = [{**row, "top": row["songs"] == most and row["decade"] != "unknown"} for row in rows]
    return bars(marked, lambda row: row["decade"], "songs", "songs")


def map_chart(rows: list[dict], head: dict) -> alt.LayerChart:
    shapes = alt.NamedData(name="land", format=alt.TopoDataFormat(type="topojson", feature="land"))
    most = max(row["artists"] for row in rows)
    legend = alt.Legend(orient="bottom", values=sorted({1, (1 + most) // 2, most}))
    size = alt.Size("artists:Q", scale=alt.Scale(domain=[0, most], range=[0, 260]), legend=legend)
    spots = alt.Chart(data(rows)).mark_circle(color="var(--top)", opacity=0.75)
    layers = alt.Chart(shapes).mark_geoshape(fill="var(--line)", stroke=None) + spots.encode(
        longitude="longitude:Q", latitude="latitude:Q", size=size
    )
    return layers.project("equalEarth").properties(height=270)


def draw(chart: alt.TopLevelMixin, title: str = "") -> str:
    """The chart in SVG with colours by name (`var(--ink)`), for a page that defines them."""
    colours = {
        "labelColor": "var(--ink)",
        "titleColor": "var(--muted)",
        "labelFontSize": 13,
        "titleFontSize": 13,
    }
    lines = {"gridColor": "var(--line)", "domainColor": "var(--line)", "tickColor": "var(--line)"}
    heading = {"anchor": "start", "color": "var(--ink)", "fontSize": 15, "offset": 12}
    config = {
        "axis": {**colours, **lines, "titleFontWeight": "normal"},
        "legend": {**colours, "titleFontWeight": "normal"},
        "text": {"fontSize": 13},
        "title": heading,
        "view": {"stroke": None},
    }
    spec = chart.properties(width=WIDTH).to_dict()
    if title:
        lines = textwrap.wrap(label(title), 54)
        spec["title"] = {"text": lines}
        spec["height"] += 17 * len(lines) + 12  # or the title takes its room from the bars
    spec.update(background="var(--paper)", autosize={"type": "fit", "contains": "padding"})
    spec["config"] = {**config, "font": FONT}
    spec["datasets"] = {
        "land": json.loads((HERE / "land.json").read_text(encoding="utf-8"))
    }  # Natural Earth's
    return vl_convert.vegalite_to_svg(spec, vl_version="6.1")


def picture(svg: str) -> str:
    """The SVG as a file of its own, which brings the colours along."""
    return svg.replace(">", f"><style>{PALETTE}</style>", 1)


def light(svg: str) -> str:
    """The SVG with the light page's colours written out, for programs that know no CSS."""
    return re.sub(r'"var\(--(\w+)\)"', lambda name: f'"{LIGHT.get(name[1], name[0])}"', svg)


# ── Sections of the page ─────────────────────────────────────────────────────────────────────────────────────────────


class Section(NamedTuple):
    """One query's part of the page."""

    query: str
    finding: Callable[[list[dict], dict], str]  # what the title says, of the rows and the headline
    chart: Callable[[list[dict], dict], alt.TopLevelMixin]
    empty: str  # what it says instead, where there are no rows


SECTIONS = (
    Section(
        "plays_by_weekday",
        weekday_finding,
        lambda rows, head: bars(rows, lambda row: row["day"], "plays_a_day", "plays a day"),
        "No plays, so no busiest day",
    ),
    Section("plays_by_hour", hour_finding, hour_chart, "No plays, so no busiest hour"),
    Section(
        "plays_by_weekday_and_hour", week_finding, week_chart, "No plays, so no pattern of the week"
    ),
    Section(
        "top_songs",
        ranking_finding,
        lambda rows, head: bars(rows, lambda row: row["song"], "plays", "matched plays"),
        "No play matches a song of the catalogue, so songs cannot be ranked",
    ),
    Section(
        "top_artists",
        ranking_finding,
        lambda rows, head: bars(rows, lambda row: row["artist"], "plays", "matched plays"),
        "No play matches a song of the catalogue, so artists cannot be ranked",
    ),
    Section("plays_by_level", level_finding, level_chart, "No plays, so no levels"),
    Section(
        "level_changes",
        change_finding,
        lambda rows, head: bars(
            rows,
            lambda row: f"{label(row['from_level'])} to {label(row['to_level'])}",
            "changes",
            "changes",
        ),
        "No listener changed level",
    ),
    Section(
        "top_locations",
        location_finding,
        lambda rows, head: bars(rows, lambda row: row["location"], "plays", "plays"),
        "No plays, so no locations",
    ),
    Section(
        "client_systems",
        client_finding,
        lambda rows, head: bars(
            rows, lambda row: f"{row['browser']}, {row['system']}", "plays", "plays"
        ),
        "No plays, so no clients",
    ),
    Section("songs_by_decade", decade_finding, decade_chart, "No songs in the catalogue"),
    Section("artists_by_coordinates", map_finding, map_chart, "No artist's coordinates are known"),
)


def align(value) -> str:
    return ' class="n"' if isinstance(value, (int, float)) else ' dir="auto"'


def cell(value) -> str:
    return f"<td{align(value)}>{html.escape(number(value))}</td>"


def table(rows: list[dict], caption: str) -> str:
    """The rows as they are, in a box that scrolls where they are many."""
    heads = "".join(
        f'<th scope="col"{align(value)}>{html.escape(name.replace("_", " "))}</th>'
        for name, value in rows[0].items()
    )
    body = "".join(f"<tr>{''.join(map(cell, row.values()))}</tr>" for row in rows)
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="{html.escape(caption)}">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def by_hour(rows: list[dict]) -> list[dict]:
    """The heat map as a table: a row an hour, a column a weekday, plays in that hour."""
    cells = {(row["hour"], row["day"]): row["plays_a_day"] for row in rows}
    return [
        {"hour": hour, **{day[:3]: cells.get((hour, day), 0.0) for day in DAYS}}
        for hour in range(24)
    ]


def section_html(section: Section, query: Query, rows: list[dict], head: dict, svg: str) -> str:
    title = section.finding(rows, head) if rows else section.empty
    words = [query.question, query.note]
    if section.query.startswith("top_") and section.query != "top_locations":
        unmatched = head["plays"] - head["matched"]
        words.append(f"{match_rate(head)}; the other {unmatched:,} are in no ranking.")
    shown = by_hour(rows) if section.query == "plays_by_weekday_and_hour" else rows
    figure = (
        f'<div class="pair"><figure>{svg}</figure>{table(shown, query.question)}</div>'
        if rows
        else ""
    )
    return (
        f'<section id="{section.query}"><h2>{html.escape(title)}</h2><p>{html.escape(" ".join(words))}</p>{figure}'
        f"<details><summary>SQL</summary><pre>{html.escape(query.sql.strip())}</pre></details></section>"
    )


def match_rate(head: dict) -> str:
    rate = share(head["matched"], head["plays"])
    return f"{head['matched']:,} of {plural(head['plays'], 'play')} ({rate}) match a song of the catalogue"


def headline_html(query: Query, head: dict) -> str:
    days = (head["last_day"] - head["first_day"]).days + 1 if head["plays"] else 0
    period = (
        f"{head['first_day']} to {head['last_day']}" if days > 1 else str(head["first_day"] or "")
    )
    period = period.replace("-", "\u2011")  # hyphens at which no line breaks
    tiles = {
        "plays": (number(head["plays"]), ""),
        "listeners": (number(head["listeners"]), f"of {plural(head['users'], 'user')}"),
        "sessions": (
            number(head["sessions"]),
            f"{head['plays'] / max(head['sessions'], 1):,.1f} plays each",
        ),
        "period": (plural(days, "day"), period),
        "matched": (
            share(head["matched"], head["plays"]),
            f"{head['matched']:,} of {plural(head['plays'], 'play')}",
        ),
        "catalogue": (plural(head["songs"], "song"), f"by {plural(head['artists'], 'artist')}"),
    }
    body = "".join(
        f"<div><dt>{name}</dt><dd>{figure}<small>{html.escape(words)}</small></dd></div>"
        for name, (figure, words) in tiles.items()
    )
    return (
        f'<section id="headline"><dl>{body}</dl>'
        f"<details><summary>SQL</summary><pre>{html.escape(query.sql.strip())}</pre></details></section>"
    )


def read_account(lake: Lake) -> dict:
    """The run's own summary; where it was cut off before that, what its commit holds."""
    try:
        return json.loads(
            bytes(obstore.get(lake.store, f"_etl/runs/{lake.commit['run']}.json").bytes())
        )
    except FileNotFoundError:
        return lake.commit


def rejected_lines(lake: Lake) -> Iterator[dict]:
    """File, reason and text of the first rejected lines."""
    chunks = obstore.list(lake.store, f"_etl/quarantine/{lake.commit['run']}")
    for path, size in sorted((item["path"], item["size"]) for chunk in chunks for item in chunk):
        if path.endswith(".json") and size:
            head = bytes(
                obstore.get_range(lake.store, path, start=0, end=min(size, REJECTED_BYTES))
            )
            for line in map(json.loads, head.split(b"\n")[:-1]):
                text = line.get("raw") or line.get("raw_base64") or ""
                yield {
                    "file": line["file"],
                    "reason": line["reason"],
                    "line": text[:300] + "…" * (len(text) > 300),
                }


def account_html(lake: Lake) -> str:
    """What became of each line that the run read."""
    account = read_account(lake)
    rows = [
        {
            "read": unit,
            "class": name.replace("_", " "),
            "count": account[side][name],
            "what": CLASSES[name],
        }
        for side, unit in (("events", "log lines"), ("songs", "song records"))
        for name in CLASSES
        if name in account.get(side, {})
    ]
    if not rows:
        return '<section id="account"><h2>The run left no account</h2></section>'
    events, songs = account["events"], account["songs"]
    rejected = (
        sum(side[name] for side in (events, songs) for name in ("malformed", "invalid"))
        + events["key_conflict"]
    )
    title = f"{events['songplays']:,} of {events['lines']:,} log lines are plays; {plural(rejected, 'line')} rejected"
    lines = list(itertools.islice(rejected_lines(lake), REJECTED_SHOWN)) if rejected else []
    heading = f"<h3>{len(lines)} of {plural(rejected, 'rejected line')}</h3>"
    shown = f"{heading}{table(lines, 'Rejected lines')}" if lines else ""
    run = html.escape(
        f"Run {lake.commit['run']}, commit {lake.commit['commit']}. What became of each line that it read?"
    )
    return (
        f'<section id="account"><h2>{html.escape(title)}</h2><p>{run}</p>{table(rows, "The account of the run")}{shown}'
        "</section>"
    )


# ── The page ─────────────────────────────────────────────────────────────────────────────────────────────────────────

STYLE = """
*{box-sizing:border-box}
body{margin:0 auto;max-width:74rem;padding:1.5rem 1rem 4rem;background:var(--paper);color:var(--ink);
  font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",Arial,sans-serif}
h1{font-size:1.7rem;line-height:1.2;margin:0}
h2{font-size:1.25rem;line-height:1.3;margin:0;overflow-wrap:anywhere}
h3{font-size:1rem;margin:1.2rem 0 .4rem}
p{margin:.3rem 0 1rem;color:var(--muted);max-width:48rem;overflow-wrap:anywhere}
section{margin-top:2.6rem;border-top:1px solid var(--line);padding-top:1.2rem}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.8rem;margin:0}
dl div{border:1px solid var(--line);border-radius:.5rem;padding:.6rem .8rem}
dt{color:var(--muted);font-size:.85rem}
dd{margin:0;font-size:1.35rem;font-variant-numeric:tabular-nums}
small{display:block;font-size:.75rem;color:var(--muted)}
.pair{display:grid;grid-template-columns:minmax(0,3fr) minmax(0,2fr);gap:1.5rem;align-items:start}
figure{margin:0}
figure svg{display:block;width:100%;height:auto;max-width:40rem}
.table{overflow:auto;max-height:23.4rem;border:1px solid var(--line);border-radius:.5rem}
table{border-collapse:collapse;width:100%;font-size:.85rem;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .6rem;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
td{overflow-wrap:anywhere}
#account p+.table{max-height:none}
#account td[dir]{min-width:7rem}
#account h3+.table td:last-child{min-width:18rem}
tbody tr:last-child td{border-bottom:0}
thead th{position:sticky;top:0;background:var(--paper);color:var(--muted);font-weight:600}
.n{text-align:right}
td.n{white-space:nowrap}
details{margin-top:.6rem}
summary{color:var(--muted);cursor:pointer;font-size:.85rem}
pre{overflow:auto;font:.8rem/1.4 ui-monospace,monospace;border:1px solid var(--line);border-radius:.5rem;padding:.8rem}
:focus-visible{outline:2px solid var(--top);outline-offset:2px}
@media (max-width:48rem){.pair{grid-template-columns:minmax(0,1fr)}}
@media print{.table{max-height:none}}
"""


class Report(NamedTuple):
    page: str
    charts: dict[
        str, tuple[alt.TopLevelMixin, str]
    ]  # query -> chart and title, of those that have rows
    head: dict


def make_report(lake: Lake, timezone: str = "UTC") -> Report:
    """The page and its charts, with times in a zone that check_timezone knows."""
    queries = read_queries(timezone)
    head = {**run_query(lake, queries["headline"].sql)[0], "timezone": timezone}
    body, charts = [headline_html(queries["headline"], head)], {}
    for section in SECTIONS:
        query = queries[section.query]
        rows = run_query(lake, query.sql)
        if not any(
            row.get("plays", True) for row in rows
        ):  # seven weekdays without a play are no answer
            rows = []
        svg = ""
        if rows:
            chart, title = section.chart(rows, head), section.finding(rows, head)
            charts[section.query] = (chart, title)
            svg = draw(chart).replace(
                "<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1
            )
        body.append(section_html(section, query, rows, head, svg))
    body.append(account_html(lake))
    source = f"Tables of {lake.uri}, commit {lake.commit['commit']}. Times are in {timezone}."
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>What Sparkify's listeners play</title>
<style>{PALETTE}{STYLE}</style>
</head>
<body>
<h1>What Sparkify’s listeners play</h1>
<p>{html.escape(source)}</p>
{"".join(body)}
</body>
</html>
"""
    return Report(page, charts, head)


def write_charts(report: Report, folder: Path) -> None:
    for name, (chart, title) in report.charts.items():
        svg = draw(chart, title)
        (folder / f"{name}.svg").write_text(picture(svg), encoding="utf-8")
        (folder / f"{name}.png").write_bytes(vl_convert.svg_to_png(light(svg), scale=2))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument(
        "--timezone", default="UTC", help="of weekdays, hours and days, such as America/Los_Angeles"
    )
    parser.add_argument(
        "--to",
        metavar="FOLDER",
        default="report",
        type=Path,
        help="for the page and charts (%(default)s)",
    )
    given = parser.parse_args()
    lake = from_arguments(given)
    report = make_report(lake, check_timezone(lake, given.timezone))
    try:
        given.to.mkdir(parents=True, exist_ok=True)
        (given.to / "report.html").write_text(report.page, encoding="utf-8")
        write_charts(report, given.to)
    except OSError as error:
        raise Stop(
            SETTINGS, f"--to {given.to}: {error.strerror}; name a folder that this user may write"
        ) from None
    print(match_rate(report.head))
    print(
        f"{given.to / 'report.html'}, and {plural(len(report.charts), 'chart')} beside it as SVG and PNG"
    )


if __name__ == "__main__":
    sys.exit(run_main("report.py", main))
