"""The pictures of report.py: from the rows of a query to a chart, and from a chart to SVG.

A chart names its colours, such as `var(--ink)`; the page defines them for light and dark.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import altair as alt
import vl_convert
from lake import Rows

# `top` marks what a title names. In both palettes it also differs from `mark` in lightness, and
# `other` is the second of two categories.
LIGHT = {
    "paper": "#ffffff",
    "ink": "#1b1f24",
    "muted": "#57606a",
    "line": "#d8dee4",
    "mark": "#0072b2",
    "top": "#d96f00",
    "other": "#848d97",
}
DARK = {
    "paper": "#14181d",
    "ink": "#e6edf3",
    "muted": "#9aa7b4",
    "line": "#3a434d",
    "mark": "#3d8fc4",
    "top": "#ffc04d",
    "other": "#7d8590",
}
# Pixels. The page shows one or the other, so that text keeps its size on a phone.
WIDE, NARROW = 704, 340
TEXT = 14
# More rows than these that share the most are counted, not named.
NAMED = 3
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")

Chart = alt.Chart | alt.LayerChart
Draw = Callable[[Rows, str, int], Chart]


def number(value: float | None) -> str:
    """A number as the page shows it, such as 1,234 or 5.6."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}"


def plural(count: float, noun: str) -> str:
    return f"{number(count)} {noun}" if number(count) == "1" else f"{number(count)} {noun}s"


def show_day(day: date) -> str:
    return f"{day.day} {day:%b %Y}"


# ── Charts ───────────────────────────────────────────────────────────────────────────────────────


def leaders(rows: Rows, column: str) -> Rows:
    """The rows with the most, which the text names and a chart shows in orange; none if many."""
    most = max(row[column] for row in rows)
    found = [row for row in rows if row[column] == most]
    return found if len(found) <= NAMED else []


def count_axis(values: list[float]) -> alt.Axis:
    """An axis of few ticks, and of whole numbers if the values are small."""
    most = max(values)
    if most < 4:
        return alt.Axis(values=list(range(int(most) + 2)), format="d")
    return alt.Axis(tickCount=4)


def draw_bars(values: Rows, x: alt.X, title: str) -> alt.Chart:
    """Bars of the given `value`s, orange if `top`."""
    axis = count_axis([value["value"] for value in values])
    colour = alt.condition("datum.top", alt.value("var(--top)"), alt.value("var(--mark)"))
    return (
        alt.Chart(alt.Data(values=values))
        .mark_bar()
        .encode(x=x, y=alt.Y("value:Q", title=title, axis=axis), color=colour, description="tip:N")
        .properties(height=210)
    )


def day_axis(values: list[date]) -> alt.X:
    """An axis of days that no machine's time zone moves."""
    many = (max(values) - min(values)).days > 300
    return alt.X(
        "day:T",
        timeUnit="utcyearmonthdate",
        title=None,
        axis=alt.Axis(format="%b %Y" if many else "%-d %b", grid=False, tickCount=6),
    )


def per_day(rows: Rows, clock: str, width: int) -> alt.Chart:
    tops = leaders(rows, "plays")
    values = [
        {
            "day": str(row["day"]),
            "value": row["plays"],
            "top": row in tops,
            "tip": f"{row['day']:%A}, {show_day(row['day'])}: {plural(row['plays'], 'play')} "
            f"by {plural(row['listeners'], 'listener')}",
        }
        for row in rows
    ]
    return draw_bars(values, day_axis([row["day"] for row in rows]), "plays")


def hour_axis(clock: str) -> alt.X:
    return alt.X(
        "hour:O",
        title=f"hour of the day, {clock}",
        scale=alt.Scale(domain=list(range(24)), paddingInner=0.15),
        axis=alt.Axis(labelAngle=0, labelExpr="datum.value % 3 ? '' : datum.label"),
    )


def by_hour(rows: Rows, clock: str, width: int) -> alt.Chart:
    tops = leaders(rows, "plays")
    values = [
        {
            "hour": row["hour"],
            "value": row["plays"],
            "top": row in tops,
            "tip": f"{row['hour']}:00 to {row['hour'] + 1}:00: {plural(row['plays'], 'play')}, "
            f"{row['percent_of_plays']} % of all",
        }
        for row in rows
    ]
    return draw_bars(values, hour_axis(clock), "plays")


def by_weekday_and_hour(rows: Rows, clock: str, width: int) -> alt.LayerChart:
    """A cell per hour of the week; an hour without a play is blank."""
    most = max(row["plays_per_day"] for row in rows)
    tops = leaders(rows, "plays_per_day")
    values = [
        {
            "day": WEEKDAYS[row["weekday"] - 1][:3],
            "hour": row["hour"],
            "value": row["plays_per_day"],
            "top": row in tops,
            "tip": f"{WEEKDAYS[row['weekday'] - 1]}, {row['hour']}:00 to {row['hour'] + 1}:00: "
            f"{plural(row['plays_per_day'], 'play')} on average",
        }
        for row in rows
    ]
    names = [day[:3] for day in (*WEEKDAYS[1:], WEEKDAYS[0])]
    base = alt.Chart(alt.Data(values=values)).encode(
        x=hour_axis(clock),
        y=alt.Y("day:O", title=None, scale=alt.Scale(domain=names)),
        description="tip:N",
    )
    legend = alt.Legend(
        title="average plays in the hour",
        orient="bottom",
        values=[0, most / 2, most],
        format=".1f" if most < 100 else ",.0f",
        symbolFillColor="var(--mark)",
        symbolStrokeWidth=0,
        symbolType="square",
    )
    shade = alt.Opacity(
        "value:Q",
        scale=alt.Scale(domain=[0, most], range=[0.06, 1]),
        legend=legend,
    )
    cells = base.mark_rect(color="var(--mark)").encode(opacity=shade)
    tops = base.transform_filter("datum.top").mark_rect(
        fill=None, stroke="var(--top)", strokeWidth=3
    )
    return (cells + tops).properties(height=280)


def two_colours(names: list[str]) -> alt.Color:
    return alt.Color(
        "kind:N",
        scale=alt.Scale(domain=names, range=["var(--mark)", "var(--other)"]),
        legend=alt.Legend(title=None, orient="bottom", symbolType="square"),
    )


def per_week(rows: Rows, clock: str, width: int) -> alt.Chart:
    """New and returning listeners; the bars of weeks with fewer than seven days are paler."""
    values = []
    for row in rows:
        monday = row["monday"]
        days = "" if row["days"] == 7 else f" ({plural(row['days'], 'day')})"
        for kind in ("new", "returning"):
            count = row[f"{kind}_listeners"]
            values.append(
                {
                    "monday": f"{monday.day} {monday:%b}",
                    "value": count,
                    "kind": kind,
                    "part": bool(days),
                    "tip": f"Week from {show_day(monday)}{days}: {number(count)} {kind}",
                }
            )
    axis = count_axis([row["listeners"] for row in rows])
    return (
        alt.Chart(alt.Data(values=values))
        .mark_bar()
        .encode(
            x=alt.X(
                "monday:O",
                sort=None,
                title="week from",
                axis=alt.Axis(labelAngle=0, labelOverlap=True),
            ),
            y=alt.Y("value:Q", title="listeners", axis=axis),
            color=two_colours(["new", "returning"]),
            opacity=alt.condition("datum.part", alt.value(0.5), alt.value(1)),
            order=alt.Order("kind:N", sort="descending"),
            description="tip:N",
        )
        .properties(height=230)
    )


def level_history(rows: Rows, clock: str, width: int) -> alt.Chart:
    """A line per listener; a stretch lasts until the next one begins, the last to its last play."""
    values = []
    for row, after in zip(rows, [*rows[1:], None]):
        end = row["last_day"] + timedelta(days=1)
        if after and after["user_id"] == row["user_id"]:
            end = max(end, after["first_day"])
        values.append(
            {
                "user": f"user {row['user_id']}",
                "day": str(row["first_day"]),
                "end": str(end),
                "kind": str(row["level"]),
                "tip": f"User {row['user_id']}: {row['level']} from {show_day(row['first_day'])}, "
                f"{plural(row['plays'], 'play')} until {show_day(row['last_day'])}",
            }
        )
    users = {value["user"] for value in values}
    days = [row["first_day"] for row in rows] + [row["last_day"] for row in rows]
    return (
        alt.Chart(alt.Data(values=values))
        .mark_bar(size=12)
        .encode(
            y=alt.Y("user:N", title=None, sort=None),
            x=day_axis(days),
            x2="end:T",
            color=two_colours(sorted({value["kind"] for value in values}, reverse=True)),
            description="tip:N",
        )
        .properties(height=22 * len(users) + 70)
    )


def by_decade(rows: Rows, clock: str, width: int) -> alt.Chart:
    values = [
        {
            "decade": row["decade"],
            "value": row["songs"],
            "top": False,
            "tip": f"{row['decade']}: {plural(row['songs'], 'song')}",
        }
        for row in rows
    ]
    axis = alt.Axis(labelAngle=0, labelOverlap=True)
    return draw_bars(values, alt.X("decade:O", title=None, axis=axis), "songs")


# ── SVG ──────────────────────────────────────────────────────────────────────────────────────────


def specification(chart: Chart, width: int, title: str) -> dict[str, Any]:
    """The chart in Vega-Lite, `width` pixels wide all in all."""
    spec = chart.properties(width=width).to_dict()
    if title:
        lines = [line for part in title.split("\n") for line in textwrap.wrap(part, width // 8)]
        spec["title"] = {"text": lines}
        # or the title would take its room from the bars
        spec["height"] += 20 * len(lines) + 12
    words = {
        "labelColor": "var(--ink)",
        "titleColor": "var(--muted)",
        "labelFontSize": TEXT,
        "titleFontSize": TEXT,
        "titleFontWeight": "normal",
        "labelLimit": 0,
    }
    lines_of_axis = {name: "var(--line)" for name in ("gridColor", "domainColor", "tickColor")}
    spec["background"] = "var(--paper)"
    spec["autosize"] = {"type": "fit", "contains": "padding"}
    spec["config"] = {
        "font": FONT,
        "axis": {**words, **lines_of_axis},
        "legend": words,
        "title": {"anchor": "start", "color": "var(--ink)", "fontSize": TEXT + 2, "offset": 12},
        "view": {"stroke": None},
    }
    return spec


def svg(chart: Chart, width: int, title: str = "") -> str:
    return vl_convert.vegalite_to_svg(specification(chart, width, title), vl_version="6.1")


def in_light(text: str) -> str:
    """The SVG with the colours written out, for programs that know no CSS."""
    return re.sub(r"var\(--(\w+)\)", lambda found: LIGHT[found[1]], text)


def css(palette: dict[str, str]) -> str:
    return ";".join(f"--{name}:{value}" for name, value in palette.items())
