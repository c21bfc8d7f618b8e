"""The pictures of report.py: from the rows of a query to a chart, and from a chart to SVG.

Colours stand in a chart by name, such as `var(--ink)`. Whoever shows the chart defines them.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from datetime import timedelta

import findings
from common import needed_packages
from findings import label, number, plural
from queries import LISTENERS

with needed_packages("analytics/requirements.txt"):
    import altair as alt
    import vl_convert

Rows = list[dict]

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# Okabe and Ito's blue and orange, which colour-blind people tell apart. In each palette `top` also
# differs from `mark` in lightness.
LIGHT = {
    "paper": "#ffffff",
    "ink": "#1b1f24",
    "muted": "#57606a",
    "line": "#d8dee4",
    "night": "#eef1f4",
    "mark": "#0072b2",
    "top": "#e07b00",
}
DARK = {
    "paper": "#14181d",
    "ink": "#e6edf3",
    "muted": "#9aa7b4",
    "line": "#3a434d",
    "night": "#1f262d",
    "mark": "#3d8fc4",
    "top": "#ffc04d",
}
# For a picture that may stand on white or on black, as in a notebook or a README.
EITHER = {
    "paper": "transparent",
    "ink": "#757d87",
    "muted": "#757d87",
    "line": "#8b949e66",
    "night": "#8b949e22",
    "mark": "#2f86bd",
    "top": "#e08a1e",
}
# Pixels. A page shows one or the other, so that text keeps its size on a phone.
WIDE, NARROW = 704, 340
TEXT = 14
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"


def data(values: Rows) -> alt.Data:
    return alt.Data(values=values)


def count_axis(most: float) -> alt.Axis:
    """Few ticks, and whole numbers if what is counted is whole and small."""
    if isinstance(most, int) and most < 4:
        return alt.Axis(values=list(range(most + 1)), format="d")
    return alt.Axis(tickCount=4)


def colour(is_top: str) -> dict:
    """Orange for the rows that the title names, blue for the others."""
    return alt.condition(is_top, alt.value("var(--top)"), alt.value("var(--mark)"))


# ── When ─────────────────────────────────────────────────────────────────────────────────────────


def utc_days(title: str | None = None) -> alt.X:
    """An axis of days that no machine's time zone moves."""
    return alt.X(
        "day:T",
        title=title,
        scale=alt.Scale(type="utc"),
        axis=alt.Axis(
            format="%-d %b",
            grid=False,
            labelOverlap=True,
            labelFlush=False,
            tickCount=6,
        ),
    )


def per_day(rows: Rows, head: dict, width: int) -> alt.Chart:
    counted = findings.counted_days(rows)
    most = number(max(row["plays"] for row in counted))
    values = [
        {
            "day": str(row["day"]),
            "plays": row["plays"],
            "tip": f"{row['day']:%A}, {number(row['day'])}: {plural(row['plays'], 'play')} "
            f"by {plural(row['listeners'], 'listener')}",
            "kind": "top" if number(row["plays"]) == most and row in counted else "mark",
        }
        for row in rows
    ]
    span = (rows[-1]["day"] - rows[0]["day"]).days + 1
    size = max(1, min(30, 0.75 * (width - 60) / span))
    return (
        alt.Chart(data(values))
        .mark_bar(size=size)
        .encode(
            x=utc_days(),
            y=alt.Y("plays:Q", title="plays", axis=count_axis(max(row["plays"] for row in rows))),
            color=colour("datum.kind == 'top'"),
            description="tip:N",
        )
        .properties(height=210)
    )


def by_weekday(rows: Rows, head: dict, width: int) -> alt.LayerChart:
    """A bar for the average of each weekday, and a dot for each of its days."""
    seen = [row for row in rows if row["days"]]
    tops = findings.leaders(seen, "plays_per_day")
    averages = [
        {
            "weekday": row["weekday"],
            "plays": row["plays_per_day"],
            "top": row in tops,
            "tip": f"{row['weekday']}: {number(row['plays_per_day'])} plays per day, "
            f"the average of {plural(row['days'], 'day')}",
        }
        for row in seen
    ]
    days = [
        {
            "weekday": f"{row['day']:%A}",
            "plays": row["plays"],
            "tip": f"{row['day']:%A}, {number(row['day'])}: {plural(row['plays'], 'play')}",
        }
        for row in findings.counted_days(head["days"])
    ]
    names = alt.Y("weekday:N", title=None, scale=alt.Scale(domain=list(DAYS)))
    most = max(row["busiest"] for row in seen)
    plays = alt.X("plays:Q", title="plays per day", axis=count_axis(most))
    bars = (
        alt.Chart(data(averages))
        .mark_bar(size=14)
        .encode(y=names, x=plays, color=colour("datum.top"), description="tip:N")
    )
    dots = (
        alt.Chart(data(days))
        .mark_point(color="var(--ink)", opacity=0.6, size=26, strokeWidth=1.2)
        .encode(y=names, x=plays, description="tip:N")
    )
    return (bars + dots).properties(height=230)


def hour_axis(head: dict) -> alt.X:
    return alt.X(
        "hour:O",
        title=f"hour of the day, {head['clock'].name}",
        scale=alt.Scale(domain=list(range(24)), paddingInner=0.15),
        axis=alt.Axis(labelAngle=0, labelExpr="datum.value % 3 ? '' : datum.label"),
    )


def by_hour(rows: Rows, head: dict, width: int) -> alt.LayerChart:
    every = findings.all_hours(rows)
    most = max(row["plays"] for row in every)
    values = [
        {
            "hour": row["hour"],
            "percent": row["percent_of_plays"],
            "top": row["plays"] == most,
            "tip": f"{findings.hours(row['hour'])}: {plural(row['plays'], 'play')}, "
            f"{findings.share(row['plays'], head['plays'])} of all",
        }
        for row in every
    ]
    bars = (
        alt.Chart(data(values))
        .mark_bar()
        .encode(
            x=hour_axis(head),
            y=alt.Y("percent:Q", title="percent of all plays", axis=alt.Axis(tickCount=4)),
            color=colour("datum.top"),
            description="tip:N",
        )
    )
    if head["clock"].zone != LISTENERS:
        return alt.layer(bars).properties(height=210)
    night = (
        alt.Chart(data([{"hour": hour} for hour in (22, 23, 0, 1, 2, 3, 4, 5)]))
        .mark_rect(color="var(--night)", aria=False)
        .encode(x=hour_axis(head), y=alt.value(0), y2=alt.value("height"))
    )
    return (night + bars).properties(height=210)


def by_weekday_and_hour(rows: Rows, head: dict, width: int) -> alt.LayerChart:
    peaks = findings.week_peaks(rows, head)
    most = max(row["plays_per_day"] for row in rows)
    values = [
        {
            "day": row["weekday"][:3],
            "hour": row["hour"],
            "plays": row["plays_per_day"],
            "tip": f"{row['weekday']} {findings.hours(row['hour'])}: "
            f"{number(row['plays_per_day'])} plays, the average of {plural(row['days'], 'day')}",
            "peak": row in peaks,
        }
        for row in findings.all_cells(rows)
    ]
    legend = alt.Legend(
        title="plays in the hour",
        orient="bottom",
        values=[0, most / 2, most],
        format=".1f" if most < 100 else ",.0f",
        symbolFillColor="var(--mark)",
        symbolStrokeWidth=0,
        symbolType="square",
    )
    scale = alt.Scale(domain=[0, most], range=[0.06, 1])
    base = alt.Chart(data(values)).encode(
        x=hour_axis(head),
        y=alt.Y("day:O", title=None, scale=alt.Scale(domain=[day[:3] for day in DAYS])),
    )
    cells = base.mark_rect(color="var(--mark)").encode(
        opacity=alt.Opacity("plays:Q", scale=scale, legend=legend),
        description="tip:N",
    )
    marked = (
        base.transform_filter("datum.peak")
        .mark_rect(fill=None, stroke="var(--top)", strokeWidth=3)
        .encode(description="tip:N")
    )
    return (cells + marked).properties(height=280)


def per_week(rows: Rows, head: dict, width: int) -> alt.Chart:
    values = [
        {
            "week": f"{row['week'].day} {row['week']:%b}",
            "order": str(row["week"]),
            "listeners": row[column],
            "kind": kind,
            "tip": f"Week of {number(row['week'])}: {row[column]:,} {kind}",
        }
        for row in rows
        for column, kind in (("new_listeners", "new"), ("returning_listeners", "returning"))
    ]
    kinds = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=["new", "returning"], range=["var(--top)", "var(--mark)"]),
        legend=alt.Legend(title=None, orient="bottom", symbolType="square"),
    )
    names = alt.Axis(labelAngle=0, labelOverlap=True)
    return (
        alt.Chart(data(values))
        .mark_bar()
        .encode(
            x=alt.X("week:O", sort=None, title="week that begins on", axis=names),
            y=alt.Y("listeners:Q", title="listeners", axis=alt.Axis(tickCount=4)),
            color=kinds,
            order=alt.Order("kind:N", sort="descending"),
            description="tip:N",
        )
        .properties(height=230)
    )


# ── Who, and the catalogue ───────────────────────────────────────────────────────────────────────


def by_level(rows: Rows, head: dict, width: int) -> alt.LayerChart:
    """Per level the range of its listeners, the middle half of them, and the median."""
    values = [
        {
            **{name: row[name] for name in ("least", "lower_quarter", "upper_quarter", "most")},
            "median": row["median"],
            "level": f"{label(row['level'])} ({row['listeners']:,})",
            "tip": f"{label(row['level'])}: half of {plural(row['listeners'], 'listener')} have "
            f"{row['lower_quarter']:,} to {row['upper_quarter']:,} plays, the median is "
            f"{row['median']:,}, the most {row['most']:,}",
        }
        for row in rows
    ]
    base = alt.Chart(data(values)).encode(
        y=alt.Y("level:N", title=None, sort=None), description="tip:N"
    )
    title = "plays per listener: all, the middle half, the median"
    axis = alt.Axis(values=[1, 10, 100, 1000, 10_000, 100_000], format=",d")
    if width == NARROW:
        title = "plays per listener"
    scale = alt.Scale(type="log", nice=False, domainMin=1)
    whole = base.mark_rule(color="var(--muted)").encode(
        x=alt.X("least:Q", title=title, scale=scale, axis=axis),
        x2="most:Q",
    )
    middle = base.mark_bar(color="var(--mark)", size=18).encode(
        x="lower_quarter:Q", x2="upper_quarter:Q"
    )
    median = base.mark_tick(color="var(--top)", size=30, thickness=4).encode(x="median:Q")
    return (whole + middle + median).properties(height=60 * len(rows) + 40)


def level_history(rows: Rows, head: dict, width: int) -> alt.Chart:
    values = []
    for row in rows:
        end = row["until_day"] or row["last_play_day"] + timedelta(days=1)
        ended = f"until {number(row['until_day'])}" if row["until_day"] else "to the last play"
        values.append(
            {
                "user": f"user {row['user_id']}",
                "day": str(row["from_day"]),
                "end": str(max(end, row["from_day"] + timedelta(days=1))),
                "level": label(row["level"]),
                "tip": f"User {row['user_id']}: {label(row['level'])} from "
                f"{number(row['from_day'])} {ended}, {plural(row['plays'], 'play')}",
            }
        )
    levels = list(dict.fromkeys(row["level"] for row in values))
    kinds = alt.Color(
        "level:N",
        scale=alt.Scale(domain=sorted(levels), range=["var(--mark)", "var(--top)"]),
        legend=alt.Legend(title=None, orient="bottom", symbolType="square"),
    )
    users = len({row["user"] for row in values})
    return (
        alt.Chart(data(values))
        .mark_bar(size=12)
        .encode(
            y=alt.Y("user:N", title=None, sort=None),
            x=utc_days(),
            x2="end:T",
            color=kinds,
            description="tip:N",
        )
        .properties(height=22 * users + 70)
    )


def by_decade(rows: Rows, head: dict, width: int) -> alt.Chart:
    """The known decades, time to the right; one without songs between two others has none."""
    songs = {row["decade"]: row["songs"] for row in rows if row["decade"] != "unknown"}
    if not songs:
        return alt.Chart(data([])).mark_bar()
    starts = [int(decade.removesuffix("s")) for decade in songs]
    decades = [f"{start}s" for start in range(min(starts), max(starts) + 10, 10)]
    most = max(songs.values())
    values = [
        {
            "decade": decade,
            "songs": songs.get(decade, 0),
            "top": songs.get(decade, 0) == most,
            "tip": f"{decade}: {plural(songs.get(decade, 0), 'song')}",
        }
        for decade in decades
    ]
    return (
        alt.Chart(data(values))
        .mark_bar()
        .encode(
            x=alt.X("decade:O", title=None, axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("songs:Q", title="songs", axis=count_axis(most)),
            color=colour("datum.top"),
            description="tip:N",
        )
        .properties(height=210)
    )


# ── Rankings ─────────────────────────────────────────────────────────────────────────────────────


def bars(
    name: Callable[[dict], str], column: str, noun: str
) -> Callable[[Rows, dict, int], alt.LayerChart]:
    """A ranking as a picture: per row its whole name, and below it a bar with its number."""

    def chart(rows: Rows, head: dict, width: int) -> alt.LayerChart:
        most = max(row[column] for row in rows)
        characters = width // 8
        values = []
        for place, row in enumerate(rows):
            lines = textwrap.wrap(label(name(row)), characters) or ["(no text)"]
            values.append(
                {
                    "place": place,
                    "name": "\n".join(lines[:2]),
                    "value": row[column],
                    "shown": number(row[column]),
                    "top": row[column] == most,
                    "tip": f"{label(name(row))}: {plural(row[column], noun)}",
                }
            )
        lines = max(row["name"].count("\n") + 1 for row in values)
        height = 18 * lines + 22
        room = 12 + 9 * len(number(most))
        base = alt.Chart(data(values)).encode(
            y=alt.Y("place:O", axis=None, scale=alt.Scale(paddingInner=0)),
        )
        scale = alt.Scale(domain=[0, most], range=[0, alt.ExprRef(f"width - {room}")])
        value = alt.X("value:Q", axis=None, scale=scale)
        mark = base.mark_bar(size=12, yOffset=height / 2 - 10).encode(
            x=value, color=colour("datum.top"), description="tip:N"
        )
        shown = base.mark_text(
            align="left", dx=5, dy=height / 2 - 9, color="var(--ink)", aria=False
        ).encode(x=value, text="shown:N")
        names = base.mark_text(
            align="left", baseline="top", dy=-height / 2 + 4, lineBreak="\n", aria=False
        ).encode(x=alt.value(0), text="name:N", color=alt.value("var(--ink)"))
        return (mark + shown + names).properties(height=height * len(rows))

    return chart


# ── SVG ──────────────────────────────────────────────────────────────────────────────────────────


def specification(chart: alt.TopLevelMixin, width: int, title: str = "") -> dict:
    """The chart in Vega-Lite, `width` pixels wide all in all."""
    words = {
        "labelColor": "var(--ink)",
        "titleColor": "var(--muted)",
        "labelFontSize": TEXT,
        "titleFontSize": TEXT,
        "titleFontWeight": "normal",
        "labelLimit": 0,
    }
    lines = {
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
    }
    spec = chart.properties(width=width).to_dict()
    if title:
        wrapped = textwrap.wrap(label(title), width // 8)
        spec["title"] = {"text": wrapped}
        # or the title would take its room from the bars
        spec["height"] += 20 * len(wrapped) + 12
    spec["background"] = "var(--paper)"
    spec["autosize"] = {"type": "fit", "contains": "padding"}
    spec["config"] = {
        "font": FONT,
        "axis": {**words, **lines},
        "legend": words,
        "text": {"fontSize": TEXT},
        "title": {
            "anchor": "start",
            "color": "var(--ink)",
            "fontSize": TEXT + 2,
            "offset": 12,
        },
        "view": {"stroke": None},
    }
    return spec


def svg(chart: alt.TopLevelMixin, width: int, title: str = "") -> str:
    return vl_convert.vegalite_to_svg(specification(chart, width, title), vl_version="6.1")


def coloured(text: str, palette: dict[str, str]) -> str:
    """The SVG with the colours of a palette written out, for programs that know no CSS."""
    return re.sub(r"var\(--(\w+)\)", lambda found: palette.get(found[1], found[0]), text)


def css(palette: dict[str, str]) -> str:
    return ";".join(f"--{name}:{value}" for name, value in palette.items())


def png(text: str) -> bytes:
    return vl_convert.svg_to_png(coloured(text, LIGHT), scale=2)


@alt.theme.register("sparkify", enable=False)
def notebook_theme() -> alt.theme.ThemeConfig:
    """Colours that stand on a light and on a dark notebook alike."""
    words = {"labelColor": EITHER["ink"], "titleColor": EITHER["ink"]}
    lines = {name: EITHER["line"] for name in ("gridColor", "domainColor", "tickColor")}
    return {
        "config": {
            "background": "transparent",
            "font": FONT,
            "axis": {**words, **lines, "labelLimit": 0},
            "legend": words,
            "title": {"color": EITHER["ink"], "anchor": "start"},
            "mark": {"color": EITHER["mark"]},
            "view": {"stroke": None},
        }
    }
