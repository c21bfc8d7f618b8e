"""What people listen to, as one page of charts and tables, from the tables that etl.py published.

    python analytics/report.py                            of dl.cfg's OUTPUT, into report/
    python analytics/report.py s3a://my-bucket/lake --timezone America/Los_Angeles

Writes report/report.html, which needs nothing else, no network and no JavaScript, and each chart as SVG and PNG. Every
figure is the answer to a query of queries.sql, which stands beneath it.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Callable, NamedTuple

import altair as alt
import obstore
import vl_convert
from lake import FAILED, SETTINGS, Lake, Stop, add_arguments, from_arguments, run_main
from obstore.exceptions import BaseError

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
    return {name: Query(question, note.replace("-- ", "").strip(), sql) for name, question, note, sql in found}


def run_query(lake: Lake, query: Query) -> list[dict]:
    answer = lake.db.execute(query.sql)
    names = [column[0] for column in answer.description]
    return [dict(zip(names, row)) for row in answer.fetchall()]


def check_timezone(lake: Lake, name: str) -> str:
    """The zone's name as the time zone database writes it.  Raises Stop where it is none."""
    found = lake.db.execute("SELECT name FROM pg_timezone_names() WHERE lower(name) = lower(?)", [name]).fetchone()
    if not found:
        raise Stop(SETTINGS, f"--timezone {name}: no such time zone; name one such as UTC or America/Los_Angeles")
    return found[0]


# ── Words ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def number(value) -> str:
    """A value as a reader writes it: 1,234, 12.3, a date, or a dash for none."""
    if value is None:
        return "–"
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def share(part: float, whole: float) -> str:
    """A percentage that is only 0 or 100 where it is exactly that."""
    percent = 100 * part / whole if whole else 0
    shown = f"{percent:.1f}"
    if (shown == "0.0" and part) or (shown == "100.0" and part != whole):
        shown = f"{percent:.2g}" if percent < 50 else f"{percent:.4f}".rstrip("0")
    return f"{shown} %"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def label(value) -> str:
    """Text of the data for a chart: NULL named, and no control characters, which XML cannot hold."""
    return "(none)" if value is None else re.sub(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]", " ", str(value))


def weekday_finding(rows: list[dict], head: dict) -> str:
    played = [row for row in rows if row["days"]]
    best, worst = (pick(played, key=lambda row: row["plays_a_day"]) for pick in (max, min))
    if len(played) == 1:
        return f"All plays are on a {best['day']}"
    times = f"{best['plays_a_day'] / worst['plays_a_day']:.1f} times as many as on a {worst['day']}"
    return f"{best['day']} is the busiest day: {best['plays_a_day']:,.1f} plays, {times}"


def hour_finding(rows: list[dict], head: dict) -> str:
    best = max(rows, key=lambda row: row["plays"])
    return f"{best['hour']}:00 to {best['hour'] + 1}:00 is the busiest hour, with {share(best['plays'], head['plays'])} of the plays"


def week_finding(rows: list[dict], head: dict) -> str:
    best = max(rows, key=lambda row: row["plays_a_day"])
    plays = f"{best['plays_a_day']:,.1f} plays in that hour"
    return f"The week's peak is {best['day']} from {best['hour']}:00 to {best['hour'] + 1}:00, with {plays}"


def ranking_finding(rows: list[dict], head: dict) -> str:
    best = rows[0]
    if head["matched"] < FEW:
        return f"Too few plays match the catalogue for a ranking: {head['matched']:,} of {head['plays']:,}"
    name = f"“{best['song']}” by {best['artist'] or 'an unknown artist'}" if "song" in best else best["artist"]
    return f"{name} leads with {best['plays']:,} of the {head['matched']:,} matched plays"


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
    return f"{label(rows[0]['location'])} leads with {share(rows[0]['plays'], head['plays'])} of the plays"


def client_finding(rows: list[dict], head: dict) -> str:
    best = rows[0]
    return f"{best['browser']} on {best['system']} leads with {share(best['plays'], head['plays'])} of the plays"


def decade_finding(rows: list[dict], head: dict) -> str:
    known = [row for row in rows if row["decade"]]
    if not known:
        return "No song's year is known"
    best, total = max(known, key=lambda row: row["songs"]), sum(row["songs"] for row in known)
    unknown = share(head["songs"] - total, head["songs"])
    return f"Of {plural(total, 'song')} with a year, {best['songs']:,} are from the {best['decade']}s; {unknown} of all have none"


def map_finding(rows: list[dict], head: dict) -> str:
    return f"{sum(row['artists'] for row in rows):,} of {plural(head['artists'], 'artist')} have coordinates"


# ── Charts ───────────────────────────────────────────────────────────────────────────────────────────────────────────

# Okabe and Ito's blue and orange, which the colour-blind tell apart, in tones that suit a light and a dark page
LIGHT = {"paper": "#ffffff", "ink": "#1b1f24", "muted": "#57606a", "line": "#d8dee4", "mark": "#0072b2", "top": "#d55e00"}
DARK = {"paper": "#14181d", "ink": "#e6edf3", "muted": "#9aa7b4", "line": "#3a434d", "mark": "#56b4e9", "top": "#e69f00"}
WIDTH = 440  # pixels, small enough that text stays legible on a phone
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


def bars(rows: list[dict], name: Callable[[dict], str], value: str, unit: str) -> alt.LayerChart:
    """A bar a row, in their order, each with its number; the longest in a colour of its own."""
    most, seen, values = max(row[value] for row in rows), {}, []
    for row in rows:
        text = label(name(row))
        seen[text] = seen.get(text, 0) + 1  # two artists may share a name: an invisible mark keeps their bars apart
        text += "\u200b" * (seen[text] - 1)
        shown = number(row[value]) + (" %" if unit.startswith("percent") else "")
        values.append({"name": text, "value": row[value], "shown": shown, "is_top": row[value] == most})
    chart = alt.Chart(data(values)).encode(
        y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=190, ticks=False, domain=False)),
        x=alt.X("value:Q", title=unit, axis=alt.Axis(tickCount=4), scale=alt.Scale(domain=[0, most * 1.18])),
    )
    colour = alt.condition("datum.is_top", alt.value("var(--top)"), alt.value("var(--mark)"))
    text = chart.mark_text(align="left", dx=4, color="var(--ink)").encode(text="shown:N")
    return (chart.mark_bar().encode(color=colour) + text).properties(height=26 * len(rows) + 50)


def hour_axis() -> alt.X:
    every_third = alt.Axis(labelAngle=0, labelExpr="datum.value % 3 ? '' : datum.label")
    return alt.X("hour:O", title="hour of the day", scale=alt.Scale(domain=list(range(24))), axis=every_third)


def hour_chart(rows: list[dict], head: dict) -> alt.Chart:
    most = max(row["plays"] for row in rows)
    values = [{"hour": row["hour"], "plays": row["plays"], "is_top": row["plays"] == most} for row in rows]
    colour = alt.condition("datum.is_top", alt.value("var(--top)"), alt.value("var(--mark)"))
    plays = alt.Y("plays:Q", title="plays", axis=alt.Axis(tickCount=4))
    return alt.Chart(data(values)).mark_bar().encode(x=hour_axis(), y=plays, color=colour).properties(height=220)


def week_chart(rows: list[dict], head: dict) -> alt.Chart:
    values = [{"day": row["day"][:3], "hour": row["hour"], "plays": row["plays_a_day"]} for row in rows]
    legend = alt.Legend(title="plays in the hour", orient="bottom", symbolFillColor="var(--mark)", symbolType="square")
    cells = alt.Chart(data(values)).mark_rect(color="var(--mark)")
    return cells.encode(
        x=hour_axis(),
        y=alt.Y("day:O", title=None, scale=alt.Scale(domain=[day[:3] for day in DAYS])),
        opacity=alt.Opacity("plays:Q", scale=alt.Scale(domainMin=0, range=[0.06, 1]), legend=legend),
    ).properties(height=260)


def level_chart(rows: list[dict], head: dict) -> alt.LayerChart:
    shares = [
        {"name": f"{measure}, {label(row['level'])}", "percent": 100 * row[measure] / head[measure]}
        for measure in ("plays", "listeners")
        for row in rows
    ]
    return bars(shares, lambda row: row["name"], "percent", "percent of all plays or listeners")


def map_chart(rows: list[dict], head: dict) -> alt.LayerChart:
    land = json.loads((HERE / "land.json").read_text(encoding="utf-8"))  # Natural Earth's, 1:110 million
    shapes = alt.Data(values=land, format=alt.TopoDataFormat(type="topojson", feature="land"))
    size = alt.Size("artists:Q", scale=alt.Scale(rangeMax=260), legend=alt.Legend(orient="bottom", tickCount=4))
    spots = alt.Chart(data(rows)).mark_circle(color="var(--top)", opacity=0.75)
    layers = alt.Chart(shapes).mark_geoshape(fill="var(--line)", stroke=None) + spots.encode(
        longitude="longitude:Q", latitude="latitude:Q", size=size
    )
    return layers.project("equalEarth").properties(height=270)


def draw(chart: alt.TopLevelMixin, title: str = "") -> str:
    """The chart in SVG with colours by name (`var(--ink)`), for a page that defines them."""
    colours = {"labelColor": "var(--ink)", "titleColor": "var(--muted)", "labelFontSize": 12, "titleFontSize": 12}
    lines = {"gridColor": "var(--line)", "domainColor": "var(--line)", "tickColor": "var(--line)"}
    heading = {"anchor": "start", "color": "var(--ink)", "fontSize": 14, "offset": 12}
    config = {
        "axis": {**colours, **lines, "titleFontWeight": "normal"},
        "legend": {**colours, "titleFontWeight": "normal"},
        "text": {"fontSize": 12},
        "title": heading,
        "view": {"stroke": None},
    }
    spec = json.loads(chart.properties(width=WIDTH).to_json())
    if title:
        spec["title"] = {"text": wrap(label(title), 62)}
    spec.update(background="var(--paper)", autosize={"type": "fit", "contains": "padding"})
    spec["config"] = {**config, "font": FONT}
    return vl_convert.vegalite_to_svg(spec, vl_version="6.1")


def wrap(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width) or [""]


def picture(svg: str) -> str:
    """The SVG as a file of its own, which brings the colours along."""
    return svg.replace(">", f"><style>{PALETTE}</style>", 1)


def light(svg: str) -> str:
    return re.sub(r"var\(--(\w+)\)", lambda name: LIGHT[name[1]], svg)


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
    Section("plays_by_weekday_and_hour", week_finding, week_chart, "No plays, so no pattern of the week"),
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
            rows, lambda row: f"{label(row['from_level'])} to {label(row['to_level'])}", "changes", "changes"
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
        lambda rows, head: bars(rows, lambda row: f"{row['browser']}, {row['system']}", "plays", "plays"),
        "No plays, so no clients",
    ),
    Section(
        "songs_by_decade",
        decade_finding,
        lambda rows, head: bars(
            rows, lambda row: f"{row['decade']}s" if row["decade"] else "year unknown", "songs", "songs"
        ),
        "No songs in the catalogue",
    ),
    Section("artists_by_coordinates", map_finding, map_chart, "No artist's coordinates are known"),
)


def cell(value) -> str:
    kind = ' class="n"' if isinstance(value, (int, float)) else ' dir="auto"'
    return f"<td{kind}>{html.escape(number(value))}</td>"


def table(rows: list[dict], caption: str) -> str:
    """The rows as they are, in a box that scrolls where they are many."""
    heads = "".join(
        f'<th scope="col"{" class=n" if isinstance(value, (int, float)) else ""}>{html.escape(name.replace("_", " "))}</th>'
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
    return [{"hour": hour, **{day[:3]: cells.get((hour, day), 0.0) for day in DAYS}} for hour in range(24)]


def section_html(section: Section, query: Query, rows: list[dict], head: dict, svg: str) -> str:
    title = section.finding(rows, head) if rows else section.empty
    notes = [query.question, query.note]
    if section.query.startswith("top_") and "matched" in (section.empty + query.note + "matched"):
        notes.append("")
    figure = ""
    if rows:
        shown = by_hour(rows) if section.query == "plays_by_weekday_and_hour" else rows
        image = svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)
        figure = f'<div class="pair"><figure>{image}</figure>{table(shown, query.question)}</div>'
    return (
        f'<section id="{section.query}"><h2>{html.escape(title)}</h2>'
        f"<p>{html.escape(' '.join(filter(None, notes)))}</p>{figure}"
        f"<details><summary>SQL</summary><pre>{html.escape(query.sql.strip())}</pre></details></section>"
    )
