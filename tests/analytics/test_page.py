"""The page of analytics/report.py as a browser shows it."""

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import charts
import lake
import pytest
import report
from helpers import free_port
from lakes import HOSTILE, one_play_lake

LONG = "Chicago-Naperville-Elgin, IL-IN-WI and all of the places around it for a hundred miles"


def write_page(folder, output):
    path = folder / "report.html"
    path.write_text(report.make_report(lake.open_lake(str(output))).page)
    return path


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
        return self.tell("Runtime.evaluate", expression=script, returnByValue=True)["result"].get(
            "value"
        )

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


@pytest.fixture
def scripts(browser):
    """Switches JavaScript on or off, and on again after the test."""

    def switch(on):
        browser.tell("Emulation.setScriptExecutionDisabled", value=not on)

    yield switch
    switch(True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_all_of_it_without_scripts_and_asks_for_nothing_else(
    browser, scripts, sample_tables, tmp_path, width, scheme
):
    path = write_page(tmp_path, sample_tables)
    scripts(False)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.tell("Emulation.setDeviceMetricsOverride", **size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.tell("Emulation.setEmulatedMedia", features=features)
    browser.log("performance")
    browser.log("browser")
    browser.ask("/url", {"url": path.as_uri()})
    sent = [json.loads(line["message"])["message"] for line in browser.log("performance")]
    asked = {
        event["params"]["request"]["url"]
        for event in sent
        if event["method"] == "Network.requestWillBeSent"
    }
    assert asked - {"data:,"} == {path.as_uri()}
    assert browser.log("browser") == []
    browser.value("document.querySelectorAll('details').forEach(d => d.open = true)")
    # nothing sticks out of the page, and no part of it scrolls by itself
    assert browser.value("document.documentElement.scrollWidth") == width
    scrolls = (
        "e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== 'visible'"
    )
    inner = (
        f"[...document.querySelectorAll('main *:not(caption,.hidden)')].filter({scrolls}).length"
    )
    assert browser.value(inner) == 0
    shown = "[...document.querySelectorAll('figure > div')].filter(e => e.checkVisibility()).length"
    pictures = [part for part in report.SECTIONS if part.chart and not part.bar]
    assert browser.value(shown) == len(pictures)
    palette = getattr(charts, scheme.upper())
    paper = f"rgb{tuple(bytes.fromhex(palette['paper'][1:]))}"
    assert browser.value("getComputedStyle(document.body).backgroundColor") == paper
    assert browser.value("getComputedStyle(document.querySelector('svg rect')).fill") == paper
    shot = browser.tell("Page.captureScreenshot", captureBeyondViewport=True)["data"]
    # for whoever wants to look
    (tmp_path / f"{width}-{scheme}.png").write_bytes(base64.b64decode(shot))


def test_a_click_on_a_column_sorts_and_a_mark_says_its_numbers(browser, sample_tables, tmp_path):
    browser.log("browser")
    browser.ask("/url", {"url": write_page(tmp_path, sample_tables).as_uri()})
    rows = "[...document.querySelectorAll('#plays_by_weekday tbody tr')]"
    column = f"{rows}.map(row => +row.cells[2].textContent)"
    browser.value("document.querySelectorAll('#plays_by_weekday thead button')[2].click()")
    falling = browser.value(column)
    assert falling == sorted(falling, reverse=True)
    browser.value("document.querySelectorAll('#plays_by_weekday thead button')[2].click()")
    assert browser.value(column) == falling[::-1]
    mark = "document.querySelector('#plays_per_day .wide [aria-roledescription=bar]')"
    browser.value(f"{mark}.dispatchEvent(new PointerEvent('pointermove', {{bubbles: true}}))")
    assert " plays by " in browser.value("document.getElementById('tip').textContent")
    assert browser.value("document.getElementById('tip').checkVisibility()")
    assert browser.log("browser") == []


def test_text_of_the_data_does_nothing_in_a_browser(browser, tmp_path):
    changes = {"title": HOSTILE, "name": HOSTILE, "location": HOSTILE}
    path = write_page(tmp_path, one_play_lake(tmp_path / "lake", **changes))
    browser.log("browser")
    browser.ask("/url", {"url": path.as_uri()})
    # the page's own policy would complain of any script that was stopped
    assert browser.log("browser") == []
    assert browser.value("document.querySelectorAll('img, [onerror]').length") == 0
    assert browser.value("document.querySelectorAll('script').length") == 1


def test_names_and_numbers_of_any_length_stay_within_their_chart(browser, tmp_path):
    rows = [(LONG, 123_456_789), ("free", 1)]
    chart = charts.bars(lambda row: row["name"], "plays", "play")
    values = [{"name": name, "plays": plays} for name, plays in rows]
    pictures = [
        charts.svg(chart(values, {}, width), width, title)
        for width in (charts.WIDE, charts.NARROW)
        for title in ("", "of " * 40)
    ]
    path = tmp_path / "charts.html"
    path.write_text("<!doctype html><meta charset=utf-8>" + "".join(pictures))
    browser.ask("/url", {"url": path.as_uri()})
    outside = (
        "text => text.getBoundingClientRect().right"
        " > text.closest('svg').getBoundingClientRect().right"
    )
    found = f"[...document.querySelectorAll('svg text')].filter({outside}).length"
    assert browser.value(found) == 0


def find_axe():
    """axe-core's script, if npm has installed it beside the project or for everybody."""
    roots = [Path(report.HERE).parent / "node_modules"]
    if npm := shutil.which("npm"):
        done = subprocess.run([npm, "root", "-g"], capture_output=True, text=True)
        roots.append(Path(done.stdout.strip()))
    return next((p for r in roots if (p := r / "axe-core" / "axe.min.js").is_file()), None)


def test_axe_finds_nothing(browser, sample_tables, tmp_path):
    axe = find_axe()
    if not axe:
        pytest.skip("no axe-core: npm install -g axe-core")
    browser.ask("/url", {"url": write_page(tmp_path, sample_tables).as_uri()})
    browser.value("document.querySelectorAll('details').forEach(d => d.open = true)")
    browser.value(f"{axe.read_text()};1")
    ask = "axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes[0].html))"
    answer = browser.tell("Runtime.evaluate", expression=ask, awaitPromise=True, returnByValue=True)
    assert answer["result"]["value"] == []
