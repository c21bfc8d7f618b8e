"""analytics/report.py: what its page shows, and that nothing of the data does harm there."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import charts
import lake
import pytest
import report
from common import etl_constant
from helpers import ROOT
from lakes import HOSTILE, one_play_lake, play_row, write_lake

PEOPLE = ("Ada", "Koch")


def make(output, zone="listeners", **options):
    return report.make_report(lake.open_lake(str(output)), zone, **options)


def run(*arguments, cwd):
    command = [sys.executable, str(ROOT / "analytics" / "report.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


class Page(HTMLParser):
    """The tables, titles, tags, links and words of a page, as a browser's parser finds them."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.links = []
        self.titles = {}
        self.words = defaultdict(str)
        self.tables = defaultdict(list)
        self.section = ""
        self.open = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "action"):
                self.links.append(value)
            if name.startswith("on"):
                self.tags.append(name)
        if tag == "section":
            self.section = dict(attributes)["id"]
        if tag == "tr":
            self.tables[self.section].append([])
        elif tag in ("td", "th"):
            self.tables[self.section][-1].append("")
        elif tag == "h3":
            self.titles[self.section] = ""
        if tag != "span":
            self.open = tag

    def handle_data(self, text):
        if self.open in ("td", "th"):
            self.tables[self.section][-1][-1] += text
        elif self.open == "h3":
            self.titles[self.section] += text
        elif self.open == "p":
            self.words[self.section] += text

    def handle_endtag(self, tag):
        if tag != "span":
            self.open = ""


def events(*plays):
    """Events as the app logs them: (user, song, artist), one play each."""
    return [
        {
            "page": "NextSong",
            "userId": str(user),
            "song": song,
            "artist": artist,
            "sessionId": 1,
            "itemInSession": item,
            "ts": 1541106106796,
        }
        for item, (user, song, artist) in enumerate(plays)
    ]


# ── The sample ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def made(sample_tables):
    return make(sample_tables)


def test_every_answer_stands_on_the_page_beneath_its_finding(made):
    page = Page(made.page)
    for section in report.SECTIONS:
        rows = made.answers[section.query]
        shown = rows
        if section.query == "plays_by_weekday_and_hour":
            shown = report.hours_table(rows)
        cells = [
            [
                report.show_cells(row, "", 0)[place]["text"]
                for place, name in enumerate(row)
                if name not in report.HIDDEN
            ]
            for row in shown
        ]
        assert page.tables[section.query][1:] == cells
        assert page.titles[section.query] == section.finding(rows, made.head)


def test_every_table_is_a_file_too(made):
    links = [link for link in Page(made.page).links if link.startswith("data:text/csv")]
    assert len(links) == len(report.SECTIONS)
    rows = list(csv.reader(io.StringIO(unquote(links[0].partition(",")[2]).removeprefix("\ufeff"))))
    assert rows[0] == ["day", "plays", "listeners"]
    assert len(rows) == 1 + len(made.answers["plays_per_day"])


def test_titles_as_logged_rank_all_plays(made):
    rows = made.answers["logged_artists"]
    assert rows[0]["plays"] >= made.answers["top_artists"][0]["plays"]
    assert made.head["logged"].note == ""
    assert "As logged, " in Page(made.page).titles["logged_songs"]


def test_the_account_sums_up_and_names_nobody(made, sample_tables):
    page = Page(made.page)
    tables = page.tables["account"]
    assert ["sum", "2,375", "log lines"] in tables
    assert ["sum", "150", "song records"] in tables
    assert ["malformed", "3", etl_constant("EVENT_CLASSES")["malformed"]] in tables
    lines = [json.loads(line)["raw"] for path in sample_tables.glob("_etl/quarantine/**/*.json")
             for line in path.read_text().splitlines()]  # fmt: skip
    assert lines
    assert not any(line in "".join(row) for row in tables for line in lines)
    asked = Page(make(sample_tables, with_text=True).page)
    assert any(lines[0][:300] in cell for row in asked.tables["account"] for cell in row)


def test_the_page_is_small_and_needs_nothing_else(made):
    assert len(made.page.encode()) < 3_000_000
    page = Page(made.page)
    outside = [link for link in page.links if not link.startswith(("data:", "#"))]
    assert outside == []
    assert page.tags.count("script") == 1
    assert not {"img", "iframe"} & set(page.tags)
    assert not re.search(r"@import|url\(", made.page)
    assert "default-src 'none'" in made.page
    assert set(re.findall(r"https?://[^\s\"'<]+", made.page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_runs_over_time_and_what_changed(sample_tables, tmp_path):
    output = shutil.copytree(sample_tables, tmp_path / "output")
    first = json.loads((output / "_etl/commits/000000001.json").read_text())
    run_file = output / "_etl" / "runs" / f"{first['run']}.json"
    later = first["run"].replace("2", "3", 1)
    summary = json.loads(run_file.read_text())
    summary |= {"run": later, "commit": 2}
    run_file.with_name(f"{later}.json").write_text(json.dumps(summary))
    first["tables"]["users"]["rows"] += 7
    (output / "_etl/commits/000000002.json").write_text(json.dumps({**first, "commit": 2}))
    (output / "_etl/done/000000002").write_text("")
    page = Page(make(output).page)
    assert page.titles["runs"] == "Since commit 1: 7 rows more in users"
    assert [row[1] for row in page.tables["runs"]] == ["commit", "2", "1"]
    assert (
        Page(make(sample_tables).page).titles["runs"] == "These are the tables of the first commit"
    )


# ── Small, odd and hostile ───────────────────────────────────────────────────────────────────────


def test_text_of_the_data_stays_text(tmp_path):
    changes = dict.fromkeys(("title", "name", "location", "agent", "level"), HOSTILE)
    logs = events((8, HOSTILE, HOSTILE))
    made = make(one_play_lake(tmp_path / "lake", logs=logs, **changes))
    page = Page(made.page)
    assert page.tags.count("script") == 1
    assert not [tag for tag in page.tags if tag == "img" or tag.startswith("on")]
    assert page.tables["top_songs"][1][:2] == [HOSTILE] * 2
    assert page.tables["logged_songs"][1][:2] == [HOSTILE] * 2
    assert page.tables["top_places"][1][0] == HOSTILE
    assert page.tags.count("section") == len(report.SECTIONS) + 2
    csv_files = [unquote(link) for link in page.links if link.startswith("data:text/csv")]
    assert not any(re.search(r'(^|[,\n])"?=cmd', file) for file in csv_files)
    for chart, title in made.pictures.values():
        svg = charts.coloured(charts.svg(chart, charts.WIDE, title), charts.EITHER)
        tags = {node.tag.rpartition("}")[2] for node in ElementTree.fromstring(svg).iter()}
        assert not tags & {"script", "img", "a", "image"}


def test_one_play_is_no_pattern(tmp_path):
    titles = Page(make(one_play_lake(tmp_path / "lake")).page).titles
    assert titles["plays_per_day"] == "1 play is on one day, 3 November 2018"
    assert titles["plays_by_weekday"] == "All plays are on a Saturday"
    assert titles["plays_by_hour"] == "Too few plays to tell the busiest hour: 1"
    assert titles["top_songs"] == "Too few plays match the catalogue for a ranking: 1 of 1"
    assert titles["top_places"] == "All plays are in one place, Oakland"
    assert titles["songs_by_decade"] == (
        "The 1990s have the most, 1 song of the 1 with a year; every song's year is known"
    )


def test_days_that_never_occurred_are_not_zero(tmp_path):
    page = Page(make(one_play_lake(tmp_path / "lake")).page)
    days = {row[0]: row[1] for row in page.tables["plays_by_weekday"]}
    assert days["Saturday"] == "1" and days["Sunday"] == "–"
    assert page.tables["plays_by_weekday_and_hour"][0] == ["hour", "Sat"]


def test_a_flat_year_has_no_busiest_day(tmp_path):
    days = [f"2018-{month:02d}-{day:02d}" for month in range(1, 13) for day in range(1, 29)]
    rows = [play_row(n, f"{day} 12:00:00", user=n % 40) for n, day in enumerate(days)]
    made = make(write_lake(tmp_path / "lake", songplays=rows), "UTC")
    titles = Page(made.page).titles
    assert titles["plays_per_day"] == "Every day has 1 play"
    assert titles["plays_by_weekday"] == "The days of the week do not differ: 1.0 plays per day"
    assert titles["plays_by_hour"].startswith("12:00 to 13:00 is the busiest hour, with 100 %")
    assert "26 days between the first and the last are missing" in made.page


def test_plays_that_match_nothing_are_said_to(tmp_path):
    rows = [play_row(1), play_row(2, level="paid", location=None, agent=None)]
    page = Page(make(write_lake(tmp_path / "lake", songplays=rows)).page)
    for name in ("songs", "artists"):
        title = f"No play matches a song of the catalogue, so its {name} cannot be ranked"
        assert page.titles[f"top_{name}"] == title
    assert page.tables["top_artists"] == []
    assert page.titles["songs_by_decade"] == "No songs in the catalogue"


def test_empty_tables_make_a_page_that_says_so(tmp_path):
    made = make(write_lake(tmp_path / "lake"))
    assert made.pictures == {}
    titles = Page(made.page).titles
    assert [titles[section.query] for section in report.SECTIONS] == [
        section.empty for section in report.SECTIONS
    ]


# ── Titles as logged ─────────────────────────────────────────────────────────────────────────────


def test_logs_that_are_gone_changed_or_elsewhere_are_said_to_be(tmp_path):
    logs = events((8, "River", "Foxes"))
    output = one_play_lake(tmp_path / "lake", logs=logs)
    source = tmp_path / "lake-input"
    assert make(output).answers["logged_songs"][0]["song"] == "River"

    moved = source.rename(tmp_path / "moved")
    page = Page(make(output).page)
    assert page.titles["logged_songs"] == "Titles as logged cannot be ranked"
    assert f"{source}: no such folder" in page.words["logged_songs"]
    assert "with --input" in page.words["logged_songs"]
    assert make(output, source=str(moved)).answers["logged_songs"][0]["song"] == "River"

    (moved / "log_data" / "events.json").write_text("{}")
    page = Page(make(output, source=str(moved)).page)
    assert "1 of 1 log files are gone or changed" in page.words["logged_songs"]


def test_a_play_that_was_logged_twice_counts_once(tmp_path):
    logs = events((8, "River", "Foxes"))
    output = one_play_lake(tmp_path / "lake", logs=logs * 2)
    path = output / "_etl" / "commits" / "000000001.json"
    made = make(output)
    assert "The logs hold 2 plays, songplays 1." in made.head["logged"].note
    path.write_text(json.dumps({**json.loads(path.read_text()), "events": {"duplicate": 1}}))
    assert make(output).answers["logged_songs"][0]["plays"] == 1


# ── The command ──────────────────────────────────────────────────────────────────────────────────


def test_it_writes_the_page_and_charts_of_the_settings_output(tmp_path):
    shutil.copytree(one_play_lake(tmp_path / "plain"), tmp_path / "a [1] * lake's")
    (tmp_path / "dl.cfg").write_text("[DATA]\nOUTPUT = 'a [1] * lake's'\n")
    done = run("--timezone", "america/new_york", "--to", "pictures", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 play (100 %) match" in done.stdout
    folder = tmp_path / "pictures"
    assert "those of America/New_York" in (folder / "report.html").read_text()
    assert (folder / "plays_per_day.png").read_bytes()[:4] == b"\x89PNG"
    assert (folder / "plays_per_day.svg").read_text().startswith("<svg")
    assert not (folder / "top_songs.svg").exists()
    done = run("--timezone", "Mars/Olympus'; DROP", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "no such time zone" in done.stderr
    (tmp_path / "file").write_text("")
    done = run("--to", "file", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_a_title_tells_nothing_that_a_chart_s_label_lacks(made):
    labels = re.findall(r'aria-label="([^"]*: \d[^"]*)"', made.page)
    assert any(label.startswith("Friday, 2 November 2018: 161 plays") for label in labels)


def test_the_page_needs_its_template_and_no_other_place():
    for name in ("page.html", "page.css", "page.js"):
        text = Path(report.HERE, name).read_text()
        assert "http://" not in text and "https://" not in text
