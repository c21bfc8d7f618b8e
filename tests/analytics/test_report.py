"""analytics/report.py: its figures against plain Python, its page against its figures, and what it refuses."""

import base64
import contextlib
import itertools
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from html.parser import HTMLParser
from zoneinfo import ZoneInfo

import duckdb
import pytest
from helpers import KEY, ROOT, SECRET, all_tables, free_port
from lakes import HOSTILE, answers, lake, one_play_lake, play_row, report, write_lake

import etl

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def make(output, zone="UTC"):
    return report.make_report(lake.open_lake(str(output)), zone)


def run(*arguments, cwd):
    command = [sys.executable, str(ROOT / "analytics" / "report.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


class Page(HTMLParser):
    """The tables, titles, tags and attributes of a page, as a browser's parser finds them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.titles, self.tables, self.section, self.open = (
            [],
            [],
            {},
            defaultdict(list),
            "",
            "",
        )
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [
            (name, value)
            for name, value in attributes
            if name in ("src", "href", "xlink:href", "action")
        ]
        self.tags += [name for name, _ in attributes if name.startswith("on")]
        self.section = dict(attributes).get("id", self.section)
        self.open = tag
        if tag == "tr":
            self.tables[self.section].append([])
        elif tag in ("td", "th"):
            self.tables[self.section][-1].append("")
        elif tag == "h2":
            self.titles[self.section] = ""

    def handle_data(self, text):
        if self.open in ("td", "th"):
            self.tables[self.section][-1][-1] += text
        elif self.open == "h2":
            self.titles[self.section] += text

    def handle_endtag(self, tag):
        self.open = ""


def test_the_tables_it_reads_are_those_that_the_job_writes():
    assert lake.TABLES == etl.COLUMNS


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_the_figures_are_those_that_plain_python_counts(sample_tables, zone):
    rows = all_tables(sample_tables)
    columns = {table: list(lake.columns(table)) for table in lake.TABLES}
    plays = [dict(zip(columns["songplays"], row)) for row in rows["songplays"]]
    songs = {row[0]: dict(zip(columns["songs"], row)) for row in rows["songs"]}
    artists = {row[0]: row[1] for row in rows["artists"]}
    for play in plays:
        play["local"] = play["start_time"].astimezone(ZoneInfo(zone))
    found = answers(sample_tables, zone)

    head = found["headline"][0]
    assert head["plays"] == len(plays) and head["matched"] == sum(
        play["song_id"] is not None for play in plays
    )
    assert head["listeners"] == len({play["user_id"] for play in plays})
    assert head["sessions"] == len({(play["user_id"], play["session_id"]) for play in plays})
    assert head["first_day"] == min(play["local"].date() for play in plays)
    assert head["last_day"] == max(play["local"].date() for play in plays)
    assert [head[table] for table in ("users", "songs", "artists")] == [
        len(rows[t]) for t in ("users", "songs", "artists")
    ]

    weekdays = Counter(play["local"].weekday() for play in plays)
    days = Counter(day.weekday() for day in {play["local"].date() for play in plays})
    assert [tuple(row.values()) for row in found["plays_by_weekday"]] == [
        (DAYS[day], weekdays[day], days[day], weekdays[day] / days[day]) for day in range(7)
    ]
    hours = Counter(play["local"].hour for play in plays)
    assert {row["hour"]: row["plays"] for row in found["plays_by_hour"]} == hours
    assert sum(row["percent"] for row in found["plays_by_hour"]) == pytest.approx(100)
    week = Counter((play["local"].weekday(), play["local"].hour) for play in plays)
    assert [tuple(row.values()) for row in found["plays_by_weekday_and_hour"]] == [
        (DAYS[day], hour, count, count / days[day]) for (day, hour), count in sorted(week.items())
    ]

    def ranked(groups, words):
        rows = [
            (*words(key), len(group), len({play["user_id"] for play in group}))
            for key, group in groups.items()
        ]
        return sorted(rows, key=lambda row: (-row[-2], -row[-1], row[0]))[:10]

    def grouped(name):
        groups = defaultdict(list)
        for play in plays:
            groups[play[name]].append(play)
        return groups

    matched = {key: group for key, group in grouped("song_id").items() if key}
    top = [tuple(row.values()) for row in found["top_songs"]]
    assert [row[2:] for row in top] == [
        row[1:] for row in ranked(matched, lambda key: (songs[key]["title"].encode(),))
    ]
    for title, artist, count, _ in top:
        same = [
            key
            for key in matched
            if songs[key]["title"] == title and artists[songs[key]["artist_id"]] == artist
        ]
        assert count in [len(matched[key]) for key in same]
    matched = {key: group for key, group in grouped("artist_id").items() if key}
    top = [(row["artist"].encode(), row["plays"], row["listeners"]) for row in found["top_artists"]]
    assert top == ranked(matched, lambda key: (artists[key].encode(),))
    top = [tuple(row.values()) for row in found["top_locations"]]
    assert top == ranked(grouped("location"), lambda key: (key,))

    assert {row["level"]: (row["plays"], row["listeners"]) for row in found["plays_by_level"]} == {
        level: (len(group), len({play["user_id"] for play in group}))
        for level, group in grouped("level").items()
    }
    changes = Counter()
    for group in grouped("user_id").values():
        group.sort(key=lambda play: (play["start_time"], play["session_id"], play["level"]))
        changes.update(
            (a["level"], b["level"])
            for a, b in itertools.pairwise(group)
            if a["level"] != b["level"]
        )
    assert (
        changes
        and {(row["from_level"], row["to_level"]): row["changes"] for row in found["level_changes"]}
        == changes
    )
    decades = Counter(
        f"{song['year'] // 10}0s" if song["year"] else "unknown" for song in songs.values()
    )
    assert [(row["decade"], row["songs"]) for row in found["songs_by_decade"]] == sorted(
        decades.items()
    )
    clients = Counter(
        ("Firefox" if "Firefox" in play["user_agent"] else "Chrome" if "Chrome" in play["user_agent"] else "Safari",
         next(name for name in ("Windows", "iPhone", "Mac", "Linux") if name in play["user_agent"]))
        for play in plays
    )  # fmt: skip
    assert {
        (row["browser"], row["system"]): row["plays"] for row in found["client_systems"]
    } == clients
    located = sum(row[3] is not None and row[4] is not None for row in rows["artists"])
    assert sum(row["artists"] for row in found["artists_by_coordinates"]) == located


def test_weekdays_and_hours_in_utc_are_the_time_table_s(sample_tables):
    opened = lake.open_lake(str(sample_tables))
    query = (
        'SELECT weekday, hour, count(*) FROM songplays JOIN "time" USING (start_time) GROUP BY ALL'
    )
    of_table = {(day, hour): count for day, hour, count in opened.db.execute(query).fetchall()}
    found = report.run_query(opened, report.read_queries()["plays_by_weekday_and_hour"].sql)
    assert {
        ((DAYS.index(row["day"]) + 1) % 7 + 1, row["hour"]): row["plays"] for row in found
    } == of_table


def test_daylight_saving_time_ends_within_the_data(tmp_path):
    times = (
        "2018-11-04 05:30:00",
        "2018-11-04 06:30:00",
        "2018-11-04 07:30:00",
    )  # 1:30 twice, then 2:30 in New York
    output = write_lake(
        tmp_path, songplays=[play_row(number, time) for number, time in enumerate(times)]
    )
    found = answers(output, "America/New_York")["plays_by_hour"]
    assert [(row["hour"], row["plays"]) for row in found] == [(1, 2), (2, 1)]


def test_every_answer_stands_on_the_page_and_says_how_many_plays_match(sample_tables):
    made, found = make(sample_tables), answers(sample_tables)
    page = Page(made.page)
    for section in report.SECTIONS:
        rows = found[section.query]
        shown = report.by_hour(rows) if section.query == "plays_by_weekday_and_hour" else rows
        assert page.tables[section.query][1:] == [
            [report.number(value) for value in row.values()] for row in shown
        ]
        assert page.titles[section.query] == section.finding(
            rows, {**found["headline"][0], "timezone": "UTC"}
        )
    assert sorted(made.charts) == sorted(section.query for section in report.SECTIONS)
    assert (
        made.page.count(
            "637 of 2,003 plays (31.8 %) match a song of the catalogue; the other 1,366"
        )
        == 2
    )
    assert ["log lines", "malformed", "3", report.CLASSES["malformed"]] in page.tables["account"]
    assert sum("not exactly one JSON object" in row for row in page.tables["account"]) == 3


def test_the_page_is_small_and_needs_nothing_else(sample_tables):
    page = make(sample_tables).page
    assert len(page.encode()) < 3_000_000
    assert {value for _, value in Page(page).links} == {"data:,"}
    assert not {"script", "img", "iframe", "link rel=stylesheet"} & set(Page(page).tags)
    assert not re.search(r"@import|url\(", page) and "default-src 'none'" in page
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_text_of_the_data_stays_text(tmp_path):
    made = make(
        one_play_lake(
            tmp_path, title=HOSTILE, name=HOSTILE, location=HOSTILE, agent=HOSTILE, level=HOSTILE
        )
    )
    page = Page(made.page)
    assert not [tag for tag in page.tags if tag in ("script", "img") or tag.startswith("on")]
    assert (
        page.tables["top_songs"][1][:2] == [HOSTILE] * 2
        and page.tables["top_locations"][1][0] == HOSTILE
    )
    assert page.tags.count("section") == len(report.SECTIONS) + 2
    for chart, title in made.charts.values():
        svg = report.picture(report.draw(chart, title))
        tags = {
            node.tag.rpartition("}")[2] for node in ElementTree.fromstring(report.light(svg)).iter()
        }
        assert not tags & {"script", "img", "a", "image"}


def test_one_matched_play_is_no_ranking(tmp_path):
    page = Page(make(one_play_lake(tmp_path)).page)
    assert page.titles["top_songs"] == "Too few plays match the catalogue for a ranking: 1 of 1"
    assert page.titles["songs_by_decade"] == (
        "The 1990s are the fullest decade: 1 of 1 song with a year; 0.0 % of all have none"
    )
    assert page.titles["artists_by_coordinates"] == "Coordinates are known of 1 of 1 artist"
    assert report.share(1, 6820) == "0.015 %" and report.share(6819, 6820) == "99.9853 %"


def test_plays_that_match_nothing_are_said_to(tmp_path):
    output = write_lake(
        tmp_path, songplays=[play_row(1), play_row(2, level="paid", location=None, agent=None)]
    )
    page = Page(make(output).page)
    assert (
        page.titles["top_songs"]
        == "No play matches a song of the catalogue, so songs cannot be ranked"
    )
    assert page.titles["plays_by_weekday"] == "All plays are on a Saturday"
    several = write_lake(
        tmp_path / "b",
        songplays=[
            play_row(1),
            play_row(2, "2018-11-05 01:00:00", location="Reno", agent="Firefox/"),
        ],
    )
    titles = Page(make(several).page).titles  # which name no leader where there is none
    assert titles["plays_by_weekday"] == "No day of the week is busier than another: 1.0 plays"
    assert (
        titles["plays_by_hour"]
        == "1:00 to 2:00 UTC is one of the busiest hours, with 50.0 % of the plays"
    )
    assert titles["plays_by_weekday_and_hour"].startswith(
        "One of the week's peaks is Monday, 1:00 to 2:00 UTC"
    )
    assert titles["top_locations"] == "Oakland shares the lead with 50.0 % of the plays"
    assert titles["client_systems"] == "Firefox on other shares the lead with 50.0 % of the plays"
    assert (
        page.tables["top_artists"] == []
        and page.titles["songs_by_decade"] == "No songs in the catalogue"
    )


def test_empty_tables_make_a_page_that_says_so(tmp_path):
    made = make(write_lake(tmp_path))
    assert made.charts == {}
    titles = Page(made.page).titles
    assert [titles[section.query] for section in report.SECTIONS] == [
        section.empty for section in report.SECTIONS
    ]


def test_a_missing_file_is_said_with_its_table(tmp_path, sample_tables):
    output = shutil.copytree(sample_tables, tmp_path / "output")
    lost = next((output / "songs").rglob("*.parquet"))
    lost.unlink()
    done = run(output, cwd=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert "table songs is not whole" in done.stderr and lost.name in done.stderr
    shutil.rmtree(output / "artists")
    lost.write_bytes(b"PAR1")
    assert "table songs is not whole" in run(output, cwd=tmp_path).stderr
    shutil.rmtree(output / "songs")
    shutil.copytree(sample_tables / "songs", output / "songs")
    assert (
        "table artists is not whole: 1 of the 1 files of commit 1"
        in run(output, cwd=tmp_path).stderr
    )
    (output / "_etl" / "commits" / "000000001.json").write_text("{")
    done = run(output, cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (
        2,
        1,
    ) and "cannot be read" in done.stderr


def test_a_publication_under_way_is_not_read(tmp_path, sample_tables):
    output = shutil.copytree(sample_tables, tmp_path / "output")
    (output / "_etl" / "commits" / "000000002.json").write_text("{}")
    extra = next((output / "users").iterdir())
    shutil.copy(extra, extra.with_name("c000000002-00000000-00000.parquet"))
    assert make(output).head == make(sample_tables).head


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["."], "no run has finished publishing here"),
        (["gs://bucket/lake"], "name a folder or s3a://bucket/prefix"),
        (["s3a://"], "name a folder or s3a://bucket/prefix"),
        (["--config", "broken.cfg"], "broken.cfg: cannot be read"),
        (["--config", "none.cfg"], "none.cfg: No such file"),
        ([], "dl.cfg: [DATA] has no OUTPUT"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, arguments, words):
    (tmp_path / "dl.cfg").write_text("[DATA]\n")
    (tmp_path / "broken.cfg").write_text(f"{SECRET}\n[AWS]\n")
    done = run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert words in done.stderr and SECRET not in done.stderr


def test_it_writes_the_page_and_charts_of_the_settings_output(tmp_path):
    shutil.copytree(one_play_lake(tmp_path / "plain"), tmp_path / "a [1] * lake's")
    (tmp_path / "dl.cfg").write_text("[DATA]\nOUTPUT = 'a [1] * lake's'\n")
    done = run("--timezone", "america/new_york", "--to", "pictures", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 play (100.0 %) match" in done.stdout
    assert "19:00 to 20:00 America/New_York" in (tmp_path / "pictures" / "report.html").read_text()
    assert (tmp_path / "pictures" / "top_songs.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "pictures" / "top_songs.svg").read_text().startswith("<svg")
    done = run("--timezone", "Mars/Olympus'; DROP", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (
        2,
        1,
    ) and "no such time zone" in done.stderr


def test_songs_by_year_and_artist_are_read_too(tmp_path):
    output = one_play_lake(tmp_path)
    file = next((output / "songs").rglob("*.parquet"))
    name = f"year=1999/artist_id=AR%2F1/{file.name}"
    (output / "songs" / name).parent.mkdir()
    with duckdb.connect() as db:
        db.execute(
            f"COPY (SELECT 'SO1' AS song_id, 'River' AS title, 200.5::DOUBLE AS duration) TO '{output}/songs/{name}'"
        )
    path = output / "_etl" / "commits" / "000000001.json"
    commit = json.loads(path.read_text())
    commit["tables"]["songs"]["files"] = {name: {"bytes": (output / "songs" / name).stat().st_size}}
    path.write_text(json.dumps(commit))
    assert lake.open_lake(str(output)).db.execute("SELECT * FROM songs").fetchall() == [
        ("SO1", "River", "AR/1", 200.5, 1999)
    ]


def test_an_output_on_s3_gives_the_same_page(s3, sample_tables, tmp_path):
    client = s3.bucket("charts")
    for path in sample_tables.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "charts", f"lake/{path.relative_to(sample_tables)}")
    config = s3.config(tmp_path, "s3://charts/in", "s3a://charts/lake")
    done = run("--config", config, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report" / "report.html").read_text()
    assert page == make(sample_tables).page.replace(str(sample_tables), "s3a://charts/lake")

    lost = client.list_objects_v2(Bucket="charts", Prefix="lake/time/")["Contents"][0]["Key"]
    client.delete_object(Bucket="charts", Key=lost)
    done = run("--config", config, cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (
        1,
        1,
    ) and "table time is not whole" in done.stderr
    done = run(
        "--config",
        s3.config(tmp_path, "s3://a", "s3a://charts/lake", secret="wrong/Secret"),
        cwd=tmp_path,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "s3a://charts/lake: cannot be read" in done.stderr
    assert "wrong/Secret" not in done.stderr and KEY not in done.stderr


class Browser:
    """Chromium, as its driver obeys."""

    def __init__(self, port):
        self.session = f"http://127.0.0.1:{port}/session"
        # the browser's own calls home find no host
        quiet = [
            "--headless=new",
            "--no-sandbox",
            "--hide-scrollbars",
            "--host-resolver-rules=MAP * ~NOTFOUND",
        ]
        options = {
            "goog:chromeOptions": {"args": quiet},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        self.session += "/" + self.ask("", {"capabilities": {"alwaysMatch": options}})["sessionId"]

    def ask(self, path, body=None, method=None):
        request = urllib.request.Request(
            self.session + path, json.dumps(body).encode() if body else None
        )
        request.method = method or request.get_method()
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def tell(self, command, **parameters):
        return self.ask("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def value(self, script):
        return self.tell("Runtime.evaluate", expression=script, returnByValue=True)["result"][
            "value"
        ]

    def log(self, kind):
        return self.ask("/se/log", {"type": kind})


@pytest.fixture(scope="module")
def browser():
    driver = shutil.which("chromedriver")
    if not driver:
        pytest.skip("no chromedriver: apt install chromium-driver")
    port = free_port()
    process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL)
    for _ in range(100):
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/status"),
        ):
            break
        time.sleep(0.1)
    opened = Browser(port)
    yield opened
    opened.ask("", method="DELETE")
    process.terminate()
    process.wait(30)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_all_of_it_without_scripts_and_asks_for_nothing_else(
    browser, sample_tables, tmp_path, width, scheme
):
    path = tmp_path / "report.html"
    path.write_text(make(sample_tables).page)
    browser.tell("Emulation.setScriptExecutionDisabled", value=True)
    browser.tell(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=900,
        deviceScaleFactor=1,
        mobile=False,
    )
    browser.tell(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
    )
    browser.log("performance"), browser.log("browser")
    browser.ask("/url", {"url": path.as_uri()})
    events = [json.loads(line["message"])["message"] for line in browser.log("performance")]
    asked = {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert asked - {"data:,"} == {path.as_uri()} and browser.log("browser") == []
    assert browser.value("document.documentElement.scrollWidth") == width  # nothing sticks out
    tables = browser.value(
        "[...document.querySelectorAll('table')].filter(t => t.checkVisibility()).length"
    )
    assert tables == len(report.SECTIONS) + 2
    paper = f"rgb{tuple(bytes.fromhex(getattr(report, scheme.upper())['paper'][1:]))}"
    assert browser.value("getComputedStyle(document.body).backgroundColor") == paper
    assert browser.value("getComputedStyle(document.querySelector('svg rect')).fill") == paper
    shot = base64.b64decode(
        browser.tell("Page.captureScreenshot", captureBeyondViewport=True)["data"]
    )
    (tmp_path / f"{width}-{scheme}.png").write_bytes(shot)  # for whoever wants to look


def test_text_of_the_data_does_nothing_in_a_browser(browser, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(
        make(one_play_lake(tmp_path / "lake", title=HOSTILE, name=HOSTILE, location=HOSTILE)).page
    )
    browser.tell("Emulation.setScriptExecutionDisabled", value=False)
    browser.log("browser")
    browser.ask("/url", {"url": path.as_uri()})
    assert (
        browser.log("browser") == []
    )  # the page's own policy would complain of any script that was stopped
    assert browser.value("document.querySelectorAll('script, img, [onerror]').length") == 0


def test_numbers_of_any_length_stay_within_their_chart(browser, tmp_path):
    rows = (("Chicago-Naperville-Elgin, IL-IN-WI", 123_456_789), ("free", 100.0), ("a", 1))
    charts = [
        report.bars([{"name": n, "most": most}], lambda row: row["name"], "most", "percent")
        for n, most in rows
    ]
    path = tmp_path / "charts.html"
    path.write_text("<!doctype html><meta charset=utf-8>" + "".join(map(report.draw, charts)))
    browser.ask("/url", {"url": path.as_uri()})
    outside = "text => text.getBoundingClientRect().right > text.closest('svg').getBoundingClientRect().right"
    assert (
        browser.value(f"[...document.querySelectorAll('svg text')].filter({outside}).length") == 0
    )
    for chart in charts:  # nor does a title of two lines take its room from the bars
        plain, titled = (
            float(
                re.search(r'roledescription="bar" d="[^"v]+v([\d.]+)', report.draw(chart, title))[1]
            )
            for title in ("", "of " * 30)
        )
        assert titled >= plain > 20
