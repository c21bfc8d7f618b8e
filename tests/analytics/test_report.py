"""analytics/report.py: what its page says and shows, whatever the data hold."""

import html
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from urllib.parse import unquote

import charts
import lake
import pytest
import report

from tests.analytics.lakes import HOSTILE, event, one_play_lake, play_row, plays_lake, write_lake
from tests.helpers import ROOT


def make_page(output, zone="UTC"):
    return report.make_report(lake.open_lake(str(output)), zone).page


def text_of(page, section):
    """The text of a section, with a bar between two elements."""
    found = re.search(rf'<section id="{section}">(.*?)</section>', page, re.DOTALL)[1]
    return html.unescape(re.sub(r"(<[^>]+>\s*)+", "|", found))


# ── What it says ─────────────────────────────────────────────────────────────────────────────────


def test_the_rows_with_the_most_are_named_and_orange(tmp_path):
    times = ("2018-10-31 08:00:00", "2018-11-02 09:00:00", "2018-11-02 09:30:00")
    page = make_page(plays_lake(tmp_path / "lake", *times))
    text = text_of(page, "plays_per_day")
    assert "Most: 2 Nov 2018, 2 plays." in text
    assert "1 day between the first and the last had no plays." in text
    assert "Most: Friday, 2.0 plays a day." in text_of(page, "plays_by_weekday")
    assert "Most: Friday, 9:00 to 10:00, 2.0 plays on average." in text_of(
        page, "plays_by_weekday_and_hour"
    )
    assert page.count('class="bar top"') == 1


def test_if_many_share_the_most_none_is_named_or_orange(tmp_path):
    times = [f"2018-11-0{day} 0{day}:00:00" for day in range(1, 5)]
    page = make_page(plays_lake(tmp_path / "lake", *times))
    assert "Several rows have the most, 1 play." in text_of(page, "plays_per_day")
    assert not re.search(r'(fill|stroke)="var\(--top\)"', page)


@pytest.mark.parametrize(("source", "is_invented"), [("data/sample", True), ("data", False)])
def test_the_sample_is_called_invented_and_nothing_else_is(tmp_path, source, is_invented):
    page = make_page(one_play_lake(tmp_path / "lake", source=f"/home/you/{source}"))
    assert ("invented sample" in page) == is_invented


def write_logs(folder, lines):
    path = folder / "log_data" / "2018" / "events.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines))
    return folder


def test_songs_are_ranked_by_the_logs_with_how_many_plays_match(tmp_path):
    lines = [
        json.dumps(event("River", 0)),
        json.dumps(event("Lake", 1)),
        json.dumps(event("Lake", 2)),
    ]
    # no JSON, a copy of a play, a play that the run did not read
    lines += ["{", lines[0], json.dumps(event("Sea", 7))]
    rows = [play_row(0, song="SO1", artist="AR1"), play_row(1), play_row(2), play_row(3)]
    output = write_lake(
        tmp_path / "lake",
        source=write_logs(tmp_path / "in", lines),
        songplays=rows,
        songs=[("SO1", "River", "AR1", 200.5, 1999)],
        artists=[("AR1", "Foxes", None, None, None)],
    )
    ranking = (
        "|song|artist|plays|matched|listeners"
        "|Lake|Foxes|2|0|1|(not in the logs)|–|1|0|1|River|Foxes|1|1|1|"
    )
    assert ranking in text_of(make_page(output), "top_songs")


def test_without_the_logs_the_songs_that_plays_match_are_ranked(tmp_path, monkeypatch):
    output = one_play_lake(tmp_path / "lake", source=tmp_path / "in")
    text = text_of(make_page(output), "top_songs")
    assert f"the logs cannot be read: {tmp_path}/in: no such folder" in text
    assert "|River|Foxes|1|1|" in text
    write_logs(tmp_path / "in", [json.dumps(event("River", 1))])
    monkeypatch.setattr("queries.LOGS_BYTES", 10)
    assert "larger than 1 GiB" in text_of(make_page(output), "top_songs")


# ── What it shows ────────────────────────────────────────────────────────────────────────────────


def test_a_page_without_plays_has_every_section(tmp_path):
    page = make_page(write_lake(tmp_path / "lake"), "listeners")
    assert "known for 0 of 0 plays" in page
    for section in report.SECTIONS:
        assert "There is nothing to show." in text_of(page, section.query)


def test_tables_and_csv_hold_the_rows_and_the_lines_add_up(tmp_path):
    page = make_page(one_play_lake(tmp_path / "lake"))
    assert "|8|F|free|1|1|3 Nov 2018|" in text_of(page, "top_listeners")
    counts = re.findall(r"\|(\w+)\|(\d+)\|", text_of(page, "counts"))
    assert counts[:3] == [("songplays", "1"), ("malformed", "2"), ("total", "3")]
    link = re.search(r'download="top_listeners.csv" href="data:text/csv[^,]*,([^"]*)"', page)[1]
    assert unquote(link).splitlines() == [
        "\ufeffuser_id,gender,level_now,plays,sessions,last_day",
        "8,F,free,1,1,2018-11-03",
    ]


def test_text_of_the_data_stays_text(tmp_path):
    output = one_play_lake(tmp_path / "lake", HOSTILE, HOSTILE, location=HOSTILE)
    made = report.make_report(lake.open_lake(str(output)))
    assert made.page.count("<script") == 1 and "<img" not in made.page
    assert HOSTILE in text_of(made.page, "top_locations")
    for link in re.findall(r'href="data:text/csv([^"]*)"', made.page):
        assert not re.search(r'^"?=cmd', unquote(link), re.MULTILINE)
    for chart, title in made.pictures.values():
        ElementTree.fromstring(charts.in_light(charts.svg(chart, charts.WIDE, title)))


def test_the_command_writes_a_small_page_that_needs_nothing_else_and_each_chart(
    sample_tables, tmp_path
):
    command = [sys.executable, str(ROOT / "analytics" / "report.py"), str(sample_tables)]
    done = subprocess.run([*command, "--to", "here"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Wrote here/report.html.")
    page = (tmp_path / "here" / "report.html").read_text()
    assert len(page.encode()) < 3_000_000
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    outside = [link for link in links if not link.startswith(("#", "data:"))]
    assert outside == ["https://duckdb.org/install/"]
    assert not re.search(r"url\(|@import", page)
    drawn = {section.query for section in report.SECTIONS if section.chart}
    assert {path.stem for path in (tmp_path / "here").glob("*.png")} == drawn
    pictures = list((tmp_path / "here").glob("*.svg"))
    assert {path.stem for path in pictures} == drawn
    assert not any("var(" in path.read_text() for path in pictures)
