"""analytics/report.py: what its page says and shows, whatever the data hold."""

import csv
import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from urllib.parse import unquote

import charts
import lake
import pytest
import report
from helpers import ROOT
from lakes import HOSTILE, event, one_play_lake, play_row, time_row, write_lake


class Page(HTMLParser):
    """The sections of a page: their titles, words and tables; and all tags and links."""

    def __init__(self, output, zone="UTC"):
        super().__init__()
        self.text = report.make_report(lake.open_lake(str(output)), zone).page
        self.tags = []
        self.links = []
        self.words = {}
        self.tables = {}
        self.section = ""
        self.in_cell = False
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "action"):
                self.links.append(value)
            if name.startswith("on"):
                self.tags.append(name)
        if tag == "section":
            self.section = dict(attributes)["id"]
            self.tables[self.section] = []
        if tag == "tr":
            self.tables[self.section].append([])
        if tag in ("td", "th"):
            self.tables[self.section][-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, text):
        self.words[self.section] = self.words.get(self.section, "") + text
        if self.in_cell:
            self.tables[self.section][-1][-1] += text


def plays_at(*times, **changes):
    rows = [play_row(number, time, **changes) for number, time in enumerate(times)]
    return {
        "songplays": rows,
        "users": [(8, "Ada", "Koch", "F", "free")],
        "time": [time_row(time) for time in dict.fromkeys(times)],
    }


# ── What it says ─────────────────────────────────────────────────────────────────────────────────


def test_the_rows_with_the_most_are_named_and_orange(tmp_path):
    times = ["2018-11-01 08:00:00", "2018-11-02 09:00:00", "2018-11-02 09:30:00"]
    page = Page(write_lake(tmp_path / "lake", **plays_at(*times)))
    assert "Most: 2 Nov 2018, 2 plays." in page.words["plays_per_day"]
    assert "Most: Friday, 2.0 plays a day." in page.words["plays_by_weekday"]
    assert "Most: 9:00 to 10:00, 2 plays." in page.words["plays_by_hour"]
    assert page.text.count('class="bar top"') == 1


def test_all_who_share_the_most_are_named_or_if_many_none_is_orange(tmp_path):
    two = Page(
        write_lake(tmp_path / "two", **plays_at("2018-11-01 08:00:00", "2018-11-02 09:00:00"))
    )
    assert "Most: 1 Nov 2018 and 2 Nov 2018, 1 play." in two.words["plays_per_day"]
    times = [f"2018-11-0{day} 0{day}:00:00" for day in range(1, 5)]
    many = Page(write_lake(tmp_path / "many", **plays_at(*times)))
    assert "Several rows have the most, 1 play." in many.words["plays_per_day"]
    assert 'fill="var(--top)"' not in many.text


def test_days_without_plays_and_partial_weeks_are_said(tmp_path):
    page = Page(
        write_lake(tmp_path / "lake", **plays_at("2018-11-01 08:00:00", "2018-11-04 08:00:00"))
    )
    assert "2 days between the first and the last had no plays." in page.words["plays_per_day"]
    assert "The chart shows partial weeks paler." in page.words["listeners_per_week"]


def test_the_sample_is_called_invented_and_nothing_else_is(tmp_path):
    sample = Page(one_play_lake(tmp_path / "sample", source="/home/you/sparkify/data/sample"))
    other = Page(one_play_lake(tmp_path / "other", source="/home/you/data"))
    assert "invented sample" in sample.words[""]
    assert "invented" not in other.words[""]


def test_local_time_is_said_with_the_plays_whose_zone_is_known(tmp_path):
    times = ("2018-11-03 23:30:00", "2018-11-04 06:30:00")
    tables = plays_at(*times)
    tables["songplays"].append(play_row(9, "2018-11-04 06:30:00", location="Atlantis"))
    page = Page(write_lake(tmp_path / "lake", **tables), "listeners")
    assert "known for 2 of 3 plays" in page.text
    # in California both are on Saturday
    assert page.tables["plays_per_day"][1:] == [["3 Nov 2018", "2", "1"], ["4 Nov 2018", "1", "1"]]
    assert ".read analytics/local_time.sql" in page.text


def test_songs_are_ranked_by_the_logs_with_how_many_plays_match(tmp_path):
    source = tmp_path / "in"
    (source / "log_data").mkdir(parents=True)
    lines = [event("River", "Foxes", 0), event("Lake", "Foxes", 1), event("Lake", "Foxes", 2)]
    # a line that is no JSON, a copy of a play, another play that the run did not read
    lines += ["{", lines[0], event("Sea", "Foxes", 7)]
    text = "\n".join(line if line == "{" else json.dumps(line) for line in lines)
    (source / "log_data" / "events.jsonl").write_text(text)
    rows = [play_row(number) for number in range(4)]
    rows[0] = play_row(0, song="SO1", artist="AR1")
    made = write_lake(
        tmp_path / "lake",
        source=source,
        songplays=rows,
        songs=[("SO1", "River", "AR1", 200.5, 1999)],
        artists=[("AR1", "Foxes", None, None, None)],
    )
    assert Page(made).tables["top_songs"] == [
        ["song", "artist", "plays", "matched", "listeners"],
        ["Lake", "Foxes", "2", "0", "1"],
        ["(not in the logs)", "–", "1", "0", "1"],
        ["River", "Foxes", "1", "1", "1"],
    ]


def test_without_the_logs_the_songs_that_plays_match_are_ranked(tmp_path, monkeypatch):
    page = Page(one_play_lake(tmp_path / "lake", source=tmp_path / "gone"))
    assert "the logs cannot be read" in page.words["top_songs"]
    assert page.tables["top_songs"][1] == ["River", "Foxes", "1", "1"]
    source = tmp_path / "in"
    (source / "log_data").mkdir(parents=True)
    (source / "log_data" / "events.json").write_text(json.dumps(event("River", "Foxes")))
    monkeypatch.setattr("queries.LOGS_BYTES", 10)
    large = Page(one_play_lake(tmp_path / "other", source=source))
    assert "larger than 1 GiB" in large.words["top_songs"]


def test_what_became_of_each_line_adds_up(tmp_path):
    page = Page(one_play_lake(tmp_path / "lake"))
    lines = page.tables["counts"]
    assert [row[:2] for row in lines[1:4]] == [
        ["songplays", "1"],
        ["malformed", "2"],
        ["total", "3"],
    ]


# ── What it shows ────────────────────────────────────────────────────────────────────────────────


def test_a_page_without_plays_has_every_section(tmp_path):
    page = Page(write_lake(tmp_path / "lake"))
    for section in report.SECTIONS:
        assert "There is nothing to show." in page.words[section.query]
    assert "svg" not in page.tags


def test_tables_and_csv_hold_the_rows_of_the_query(tmp_path):
    page = Page(one_play_lake(tmp_path / "lake"))
    assert page.tables["top_listeners"] == [
        ["user id", "gender", "level now", "plays", "sessions", "last day"],
        ["8", "F", "free", "1", "1", "3 Nov 2018"],
    ]
    files = [
        unquote(link.partition(",")[2]) for link in page.links if link.startswith("data:text/csv")
    ]
    (wanted,) = [text for text in files if text.startswith("\ufeffuser_id")]
    assert list(csv.reader(io.StringIO(wanted.removeprefix("\ufeff")))) == [
        ["user_id", "gender", "level_now", "plays", "sessions", "last_day"],
        ["8", "F", "free", "1", "1", "2018-11-03"],
    ]


def test_text_of_the_data_stays_text(tmp_path):
    page = Page(one_play_lake(tmp_path / "lake", HOSTILE, HOSTILE, location=HOSTILE))
    assert page.tags.count("script") == 1
    assert not {"img", "onerror"} & set(page.tags)
    assert page.tables["top_places"][1][0] == HOSTILE
    places = [unquote(link) for link in page.links if link.startswith("data:text/csv")]
    assert not any(re.search(r"^\"?=cmd", text, re.MULTILINE) for text in places)
    pictures = report.make_report(lake.open_lake(str(tmp_path / "lake"))).pictures
    for chart, title in pictures.values():
        ElementTree.fromstring(charts.in_light(charts.svg(chart, charts.WIDE, title)))


def test_the_page_needs_nothing_else_and_is_small(sample_tables):
    page = Page(sample_tables)
    outside = [link for link in page.links if not link.startswith(("#", "data:"))]
    assert outside == ["https://duckdb.org/install/"]
    assert not re.search(r"url\(|@import|<link rel=.stylesheet", page.text)
    assert len(page.text.encode()) < 3_000_000


def luminance(colour):
    parts = [value / 255 for value in bytes.fromhex(colour[1:])]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [charts.LIGHT, charts.DARK])
def test_text_and_marks_stand_out_from_the_paper(palette):
    for name in ("ink", "muted"):
        assert contrast(palette[name], palette["paper"]) >= 4.5
    for name in ("mark", "top", "other"):
        assert contrast(palette[name], palette["paper"]) >= 3


# ── The command ──────────────────────────────────────────────────────────────────────────────────


def test_the_command_writes_the_page_and_each_chart(tmp_path):
    output = one_play_lake(tmp_path / "lake")
    command = [sys.executable, str(ROOT / "analytics" / "report.py"), str(output)]
    done = subprocess.run([*command, "--to", "here"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Wrote here/report.html.")
    drawn = sorted(section.query for section in report.SECTIONS if section.chart)
    # one listener has no history
    drawn.remove("level_history")
    assert sorted(path.stem for path in (tmp_path / "here").glob("*.png")) == drawn
    for path in (tmp_path / "here").glob("*.svg"):
        assert "var(" not in path.read_text()
