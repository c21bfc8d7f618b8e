"""The pictures of the pages hold what they draw, whole."""

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest
from helpers import ROOT

import etl

SVG = "{http://www.w3.org/2000/svg}"
PICTURES = ("schema", "log_dataset", "run")
REFERENCES = {
    "songplays.start_time": "time.start_time",
    "songplays.user_id": "users.user_id",
    "songplays.song_id": "songs.song_id",
    "songplays.artist_id": "artists.artist_id",
    "songs.artist_id": "artists.artist_id",
}
# Asks a browser for the box of every shape, in the picture's own units.
MEASURE = """
    const svg = document.querySelector("svg");
    const picture = svg.viewBox.baseVal;
    const shapes = [...svg.querySelectorAll("text, rect, path, circle")].map(shape => {
        const box = shape.getBBox();
        const right = box.x + box.width;
        const bottom = box.y + box.height;
        return {text: shape.textContent, x: box.x, y: box.y, right, bottom};
    });
    const {width, height} = picture;
    document.body.textContent = JSON.stringify({width, height, shapes});
"""


def read(name):
    return (ROOT / "image" / f"{name}.svg").read_text(encoding="utf-8")


def numbers(shape, *names):
    return [float(shape.get(name, 0)) for name in names]


def drawn(svg):
    """A picture's width and height, and the box of each shape, with text as wide as it can be."""
    root = ElementTree.fromstring(svg)
    x, y, width, height = map(float, root.get("viewBox").split())
    assert (x, y) == (0, 0)
    boxes = []
    for shape in root.iter():
        if shape.tag == f"{SVG}rect":
            left, top, wide, high = numbers(shape, "x", "y", "width", "height")
            boxes.append(("", left, top, left + wide, top + high))
        elif shape.tag == f"{SVG}circle":
            middle, level, radius = numbers(shape, "cx", "cy", "r")
            boxes.append(("", middle - radius, level - radius, middle + radius, level + radius))
        elif shape.tag == f"{SVG}text":
            left, bottom = numbers(shape, "x", "y")
            size = float(shape.get("font-size") or root.get("font-size"))
            wide = 0.6 * size * len(shape.text)
            if shape.get("text-anchor") == "end":
                left -= wide
            boxes.append((shape.text, left, bottom - size, left + wide, bottom + 0.3 * size))
    return width, height, boxes


@pytest.mark.parametrize("name", PICTURES)
def test_everything_lies_inside_the_picture(name):
    width, height, boxes = drawn(read(name))
    outside = [
        box for box in boxes if box[1] < 0 or box[2] < 0 or box[3] > width or box[4] > height
    ]
    assert len(boxes) > 20
    assert outside == []


@pytest.mark.parametrize("name", PICTURES)
def test_a_browser_draws_everything_inside_the_picture(name, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("no Chromium here; the test above estimates the same")
    page = tmp_path / "page.html"
    page.write_text(f"<meta charset=utf-8><body>{read(name)}<script>{MEASURE}</script>", "utf-8")
    command = [browser, "--headless=new", "--no-sandbox", f"--user-data-dir={tmp_path}/profile"]
    result = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=60
    )
    measured = json.loads(re.search(r"<body>(.*)</body>", result.stdout, re.DOTALL)[1])
    outside = []
    for shape in measured["shapes"]:
        fits = shape["right"] <= measured["width"] and shape["bottom"] <= measured["height"]
        if not fits or shape["x"] < 0 or shape["y"] < 0:
            outside.append(shape)
    assert len(measured["shapes"]) > 20
    assert outside == []


@pytest.mark.parametrize("name", PICTURES)
def test_a_background_of_its_own_makes_it_readable_on_light_and_dark_pages(name):
    root = ElementTree.fromstring(read(name))
    background = root.find(f"{SVG}rect")
    width, height = numbers(root, "width", "height")
    wide, high = numbers(background, "width", "height")
    assert background.get("fill").startswith("#")
    assert wide > width - 2 and high > height - 2


def tables_in_schema():
    """Table -> the box around it and the level of each of its rows."""
    root = ElementTree.fromstring(read("schema"))
    texts = [(shape.text, *numbers(shape, "x", "y")) for shape in root.iter(f"{SVG}text")]
    found = {}
    for shape in list(root.iter(f"{SVG}rect"))[1:]:
        x, y, width, height = numbers(shape, "x", "y", "width", "height")
        inside = [text for text in texts if x < text[1] < x + width and y < text[2] < y + height]
        if shape.get("stroke"):
            name = inside[0][0]
            names = {name, *column_names(name)}
            rows = {text: level - 4.5 for text, _, level in inside if text in names}
            found[name] = ((x, x + width), rows)
    return found


def test_the_schema_has_the_five_tables_with_their_columns():
    shown = {table: list(rows) for table, (_, rows) in tables_in_schema().items()}
    assert shown == {table: [table, *column_names(table)] for table in etl.COLUMNS}


def column_names(table):
    return re.findall(r"(\w+)\s+(?:STRING|INT|BIGINT|DOUBLE|TIMESTAMP)\b", etl.COLUMNS[table])


def test_a_crow_s_foot_stands_where_many_rows_refer_and_a_bar_where_one_is_referred_to():
    svg = read("schema")
    boxes = tables_in_schema()
    edge = r"M([\d.]+) ([\d.]+) H[\d.]+ V([\d.]+) H([\d.]+)"
    lines = [tuple(map(float, found)) for found in re.findall(edge, svg)]
    feet = {
        (float(x), float(y) + 6) for x, y in re.findall(r"M([\d.]+) ([\d.]+) L[\d.]+ [\d.]+ L", svg)
    }
    drawn_references = {}
    for x, y, to_y, to_x in lines:
        many = at(boxes, x, y)
        one = at(boxes, to_x, to_y)
        if many and one:
            assert (x, y) in feet, many
            assert (to_x, to_y) not in feet, one
            drawn_references[many] = one
    assert drawn_references == REFERENCES


def at(boxes, x, y):
    """The column whose row touches this point at the side of its table."""
    for table, (sides, rows) in boxes.items():
        for column, level in rows.items():
            if x in sides and abs(level - y) < 1:
                return f"{table}.{column}"
    return None


def test_the_run_that_is_drawn_is_what_a_run_prints_now(project):
    root = ElementTree.fromstring(read("run"))
    drawn_lines = [shape.text.replace("\u00a0", " ") for shape in root.iter(f"{SVG}text")]
    printed = [line for line in project.printed.splitlines() if line]
    assert drawn_lines[0] == "$ python etl.py"
    # the tables are written in an order that varies
    assert sorted(map(steady, drawn_lines[1:])) == sorted(map(steady, printed))


def steady(line):
    """A line without what differs from run to run: times, sizes and the run's own name."""
    line = re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{8}", "RUN", line)
    line = re.sub(r"[\d,]+ k?B|[\d.]+ seconds", "N", line)
    return re.sub(r"[\d.]+ of them for .*", "N", line)
