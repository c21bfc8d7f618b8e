"""The page of analytics/report.py as a browser shows it."""

import shutil
import subprocess
from pathlib import Path

import charts
import lake
import pytest
import report
from selenium import webdriver
from selenium.webdriver.chrome.service import Service


@pytest.fixture(scope="module")
def browser(sample_tables, tmp_path_factory):
    """A browser that shows the page of the sample."""
    driver = shutil.which("chromedriver")
    if not driver:
        pytest.skip("no chromedriver: apt install chromium-driver")
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report.make_report(lake.open_lake(str(sample_tables))).page)
    options = webdriver.ChromeOptions()
    # no host can be found, so the page has nothing but itself
    for argument in ("headless=new", "no-sandbox", "host-resolver-rules=MAP * ~NOTFOUND"):
        options.add_argument(f"--{argument}")
    options.add_argument("--hide-scrollbars")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    opened.get(path.as_uri())
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def axe():
    """axe-core's script, or nothing if npm has not installed it globally."""
    npm = shutil.which("npm")
    if not npm:
        return ""
    done = subprocess.run([npm, "root", "-g"], capture_output=True, text=True)
    script = Path(done.stdout.strip(), "axe-core", "axe.min.js")
    return script.read_text() if script.is_file() else ""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_all_of_it_fits_and_axe_finds_nothing(browser, axe, width, scheme):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.refresh()
    # a script or style that the page's policy stops, or a file that it asks for, would be here
    assert browser.get_log("browser") == []
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") == width
    paper = {"light": charts.LIGHT, "dark": charts.DARK}[scheme]["paper"]
    shown = "return getComputedStyle(document.querySelector('svg rect')).fill"
    assert browser.execute_script(shown) == f"rgb{tuple(bytes.fromhex(paper[1:]))}"
    if not axe:
        pytest.skip("no axe-core: npm install -g axe-core")
    # not execute_script, which the page's policy would stop
    browser.execute_cdp_cmd("Runtime.evaluate", {"expression": f"{axe};1"})
    ask = {
        "expression": "axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes[0].html))",
        "awaitPromise": True,
        "returnByValue": True,
    }
    assert browser.execute_cdp_cmd("Runtime.evaluate", ask)["result"]["value"] == []


def sort_by(browser, section, position):
    """Clicks on a column's header; returns the column."""
    table = f"#{section} > .table"
    button = browser.find_element("css selector", f"{table} th:nth-child({position}) button")
    browser.execute_script("arguments[0].click()", button)
    cells = browser.find_elements("css selector", f"{table} tbody tr > :nth-child({position})")
    return [cell.text for cell in cells]


def test_a_click_on_a_header_sorts(browser):
    falling = [int(text) for text in sort_by(browser, "plays_by_weekday", 3)]
    assert falling == sorted(falling, reverse=True)
    assert [int(text) for text in sort_by(browser, "plays_by_weekday", 3)] == falling[::-1]
    # weekdays in their own order, the first first
    assert sort_by(browser, "plays_by_weekday", 1)[:2] == ["Monday", "Tuesday"]
    names = sort_by(browser, "systems", 1)
    assert names == sorted(names, key=str.lower)


def test_each_mark_and_only_a_mark_has_a_tooltip(browser):
    # what a pointer finds over every part of a chart
    shown = browser.execute_script("""
        const tip = document.getElementById("tip");
        return [...document.querySelectorAll("figure svg *")].map(part => {
            part.dispatchEvent(new PointerEvent("pointermove", {bubbles: true}));
            return tip.hidden ? null : tip.textContent;
        }).filter(text => text !== null);
    """)
    assert "" not in shown
    for words in (" plays by ", " on average", "User ", " returning"):
        assert any(words in text for text in shown), words
