"""The two pictures that are drawn from data: the star schema, and a few lines of a log file.

Each has a background of its own, so that it can be read on a light page and on a dark one.
"""

from __future__ import annotations

import html
import json
from typing import NamedTuple

from etl_text import Column

FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
PAPER = "#ffffff"
INK = "#1f2328"
MUTED = "#59636e"
LINE = "#d1d9e0"
EDGE = "#6e7781"
FACT = "#1f4e79"
DIMENSION = "#2f6b4f"

BOX_WIDTH = 250
HEAD_HEIGHT = 34
ROW_HEIGHT = 24


class Svg:
    """Shapes in the order in which they are painted."""

    def __init__(self, width: float, height: float, title: str, description: str):
        self.width = width
        self.height = height
        self.shapes = [
            f"<title>{html.escape(title)}</title>",
            f"<desc>{html.escape(description)}</desc>",
        ]
        self.rect(0.5, 0.5, width - 1, height - 1, fill=PAPER, stroke=LINE, rx=8)

    def rect(self, x: float, y: float, width: float, height: float, **style) -> None:
        self.shapes.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"{attributes(style)}/>'
        )

    def text(self, x: float, y: float, text: str, **style) -> None:
        self.shapes.append(
            f'<text x="{x:g}" y="{y:g}"{attributes(style)}>{html.escape(text, quote=False)}</text>'
        )

    def circle(self, x: float, y: float, radius: float, **style) -> None:
        self.shapes.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}"{attributes(style)}/>')

    def path(self, steps: str, **style) -> None:
        self.shapes.append(f'<path d="{steps}"{attributes(style)}/>')

    def render(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}"'
            f' width="{self.width:g}" height="{self.height:g}" role="img"'
            f' font-family="{FONT}" font-size="13" fill="{INK}">'
        )
        return "\n".join([head, *self.shapes, "</svg>", ""])


def attributes(style: dict) -> str:
    return "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())


# ── The star schema ─────────────────────────────────────────────────────────────────────────────


class Box(NamedTuple):
    """Where a table stands in the picture."""

    table: str
    columns: list[Column]
    x: float
    y: float

    @property
    def height(self) -> float:
        return HEAD_HEIGHT + ROW_HEIGHT * len(self.columns) + 4

    @property
    def right(self) -> float:
        return self.x + BOX_WIDTH

    def row(self, column: str) -> float:
        """The middle of a column's row."""
        names = [each.name for each in self.columns]
        return self.y + HEAD_HEIGHT + ROW_HEIGHT * (names.index(column) + 0.5)


def schema(tables: dict[str, list[Column]]) -> str:
    """The five tables, and a line from each reference to the table that it points to."""
    left, middle, right = 24, 384, 744
    top = 64
    times = Box("time", tables["time"], left, top)
    users = Box("users", tables["users"], left, top + times.height + 40)
    songs = Box("songs", tables["songs"], right, top)
    artists = Box("artists", tables["artists"], right, users.y)
    bottom = users.y + users.height
    fact = Box("songplays", tables["songplays"], middle, top)
    fact = fact._replace(y=top + (bottom - top - fact.height) / 2)

    svg = Svg(
        width=right + BOX_WIDTH + 64,
        height=bottom + 48,
        title="Star schema of the data lake",
        description="Each row of songplays refers to one row of time and one of users, and to"
        " one row or none of songs and artists. Each row of songs refers to one artist.",
    )
    svg.text(
        left,
        38,
        "One row of songplays per song played",
        font_size=18,
        font_weight=600,
    )
    for box in (times, users, fact, songs, artists):
        draw_box(svg, box)
    connect(svg, fact.x, fact.row("start_time"), times.right, times.row("start_time"))
    connect(svg, fact.x, fact.row("user_id"), users.right, users.row("user_id"))
    song, artist = songs.row("song_id"), artists.row("artist_id")
    connect(svg, fact.right, fact.row("song_id"), songs.x, song, may_be_none=True)
    connect(svg, fact.right, fact.row("artist_id"), artists.x, artist, may_be_none=True)
    connect(svg, songs.right, songs.row("artist_id"), artists.right, artist)
    draw_legend(svg, left, bottom + 28)
    return svg.render()


def draw_box(svg: Svg, box: Box) -> None:
    is_fact = box.table == "songplays"
    color = FACT if is_fact else DIMENSION
    role = "fact" if is_fact else "dimension"
    svg.rect(
        box.x,
        box.y,
        BOX_WIDTH,
        box.height,
        fill=PAPER,
        stroke=color,
        rx=6,
    )
    svg.rect(
        box.x,
        box.y,
        BOX_WIDTH,
        HEAD_HEIGHT,
        fill=color,
        rx=6,
    )
    svg.rect(
        box.x,
        box.y + HEAD_HEIGHT - 6,
        BOX_WIDTH,
        6,
        fill=color,
    )
    head = box.y + 22
    svg.text(
        box.x + 12,
        head,
        box.table,
        fill=PAPER,
        font_size=15,
        font_weight=600,
    )
    svg.text(
        box.right - 12,
        head,
        role,
        fill=PAPER,
        text_anchor="end",
    )
    for number, column in enumerate(box.columns):
        baseline = box.row(column.name) + 4.5
        is_key = number == 0
        note = "key" if is_key else "folder"
        weight = 700 if is_key else 400
        svg.text(box.x + 12, baseline, column.name, font_weight=weight)
        if is_key or column.is_folder:
            svg.text(
                box.x + 112,
                baseline,
                note,
                fill=MUTED,
                font_style="italic",
            )
        svg.text(
            box.right - 12,
            baseline,
            column.type,
            fill=MUTED,
            text_anchor="end",
        )


def connect(
    svg: Svg, x: float, y: float, to_x: float, to_y: float, may_be_none: bool = False
) -> None:
    """A line from the many rows that refer (a crow's foot) to the one that they refer to (a bar).

    A circle before the bar says that a row may refer to none.
    """
    leaves = -1 if to_x < x else 1
    arrives = leaves
    turn = (x + to_x) / 2
    if to_x == x:
        # both ends are on the right of their boxes
        arrives = -1
        turn = x + 40
    svg.path(f"M{x:g} {y:g} H{turn:g} V{to_y:g} H{to_x:g}", fill="none", stroke=EDGE)
    draw_foot(svg, x, y, leaves)
    draw_bar(svg, to_x, to_y, arrives, may_be_none)


def draw_foot(svg: Svg, x: float, y: float, leaves: int) -> None:
    tip = x + 14 * leaves
    svg.path(f"M{x:g} {y - 6:g} L{tip:g} {y:g} L{x:g} {y + 6:g}", fill="none", stroke=EDGE)


def draw_bar(svg: Svg, x: float, y: float, arrives: int, may_be_none: bool) -> None:
    bar = x - 8 * arrives
    svg.path(f"M{bar:g} {y - 6:g} V{y + 6:g}", stroke=EDGE)
    if may_be_none:
        svg.circle(
            bar - 6 * arrives,
            y,
            5,
            fill=PAPER,
            stroke=EDGE,
        )


def draw_legend(svg: Svg, x: float, y: float) -> None:
    connect(svg, x, y - 4, x + 60, y - 4)
    svg.text(x + 72, y, "many rows refer to one row", fill=MUTED)
    connect(svg, x + 280, y - 4, x + 340, y - 4, may_be_none=True)
    svg.text(x + 352, y, "many rows refer to one row or to none", fill=MUTED)
    svg.text(x + 632, y, "folder: the value stands in the folder's name", fill=MUTED)


# ── Lines of a log file ─────────────────────────────────────────────────────────────────────────

FIELD_WIDTH = 130
VALUE_WIDTH = 205
VALUE_LETTERS = 26


def log_lines(title: str, lines: list[tuple[str, dict]]) -> str:
    """Events side by side: a row per field, a column per line of a log file."""
    fields = list(lines[0][1])
    top = 96
    svg = Svg(
        width=24 + FIELD_WIDTH + VALUE_WIDTH * len(lines) + 12,
        height=top + ROW_HEIGHT * len(fields) + 20,
        title=title,
        description="A row per field of the JSON object, a column per line of the file.",
    )
    svg.text(
        24,
        38,
        title,
        font_size=18,
        font_weight=600,
    )
    for number, (label, event) in enumerate(lines):
        x = 24 + FIELD_WIDTH + VALUE_WIDTH * number
        svg.text(
            x,
            top - 24,
            label,
            font_weight=600,
            fill=FACT,
        )
        for row, field in enumerate(fields):
            value = json.dumps(event[field], ensure_ascii=False)
            if len(value) > VALUE_LETTERS:
                value = value[: VALUE_LETTERS - 1] + "…"
            color = MUTED if event[field] is None else INK
            svg.text(x, top + ROW_HEIGHT * row + 12, value, fill=color)
    for row, field in enumerate(fields):
        y = top + ROW_HEIGHT * row
        svg.path(f"M24 {y - 5:g} H{svg.width - 24:g}", stroke=LINE)
        svg.text(24, y + 12, field, fill=MUTED)
    return svg.render()
