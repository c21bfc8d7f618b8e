"""The page of analytics/report.py as a browser shows it."""

import json
import shutil
import subprocess
from pathlib import Path

import charts
import lake
import pytest
import report
from helpers import ROOT
from lakes import HOSTILE, one_play_lake
from selenium import webdriver
from selenium.webdriver.chrome.service import Service


def write_page(folder, output):
    path = folder / "report.html"
    path.write_text(report.make_report(lake.open_lake(str(output))).page)
    return path.as_uri()


@pytest.fixture(scope="module")
def browser():
    driver = shutil.which("chromedriver")
    if not driver:
        pytest.skip("no chromedriver: apt install chromium-driver")
    options = webdriver.ChromeOptions()
    # the browser's own calls home find no host
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--hide-scrollbars",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def sample_page(browser, sample_tables, tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("page"), sample_tables)


def set_width(browser, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def set_scheme(browser, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def open_details(browser):
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_all_of_it_fits_and_asks_for_nothing_else(browser, sample_page, width, scheme):
    set_width(browser, width)
    set_scheme(browser, scheme)
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(sample_page)
    sent = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    asked = {
        event["params"]["request"]["url"]
        for event in sent
        if event["method"] == "Network.requestWillBeSent"
    }
    assert asked - {"data:,"} == {sample_page}
    assert browser.get_log("browser") == []
    open_details(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth") == width
    palette = {"light": charts.LIGHT, "dark": charts.DARK}[scheme]
    paper = f"rgb{tuple(bytes.fromhex(palette['paper'][1:]))}"
    colour = "return getComputedStyle(document.querySelector('{}')).{}"
    assert browser.execute_script(colour.format("body", "backgroundColor")) == paper
    assert browser.execute_script(colour.format("svg rect", "fill")) == paper


def test_without_javascript_every_table_and_chart_is_there(browser, sample_page):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(sample_page)
        tables = browser.find_elements("css selector", "#top_songs tbody tr")
        charts_shown = browser.find_elements("css selector", "figure .wide svg")
        assert len(tables) == 10
        assert len(charts_shown) == sum(bool(section.chart) for section in report.SECTIONS)
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def column(browser, section, place):
    cells = browser.find_elements("css selector", f"#{section} tbody tr > :nth-child({place})")
    return [cell.text for cell in cells]


def click_head(browser, section, place):
    selector = f"#{section} thead th:nth-child({place}) button"
    button = browser.find_element("css selector", selector)
    browser.execute_script("arguments[0].click()", button)


def test_a_click_on_a_header_sorts(browser, sample_page):
    set_width(browser, 1280)
    browser.get(sample_page)
    week = column(browser, "plays_by_weekday", 1)
    assert week[0] == "Monday"
    click_head(browser, "plays_by_weekday", 3)
    falling = [int(text) for text in column(browser, "plays_by_weekday", 3)]
    assert falling == sorted(falling, reverse=True)
    click_head(browser, "plays_by_weekday", 3)
    assert [int(text) for text in column(browser, "plays_by_weekday", 3)] == falling[::-1]
    # days of the week begin with the first, and come in their order, not the alphabet's
    click_head(browser, "plays_by_weekday", 1)
    assert column(browser, "plays_by_weekday", 1) == week
    click_head(browser, "top_songs", 1)
    songs = column(browser, "top_songs", 1)
    compare = "return arguments[0].toSorted((a, b) => a.localeCompare(b, 'en'))"
    assert songs == browser.execute_script(compare, songs)


def test_each_mark_and_only_a_mark_has_a_tooltip(browser, sample_page):
    browser.get(sample_page)
    # what a pointer finds over every part of a chart
    shown = browser.execute_script("""
        const tip = document.getElementById("tip");
        return [...document.querySelectorAll("figure .wide svg *")].map(part => {
            part.dispatchEvent(new PointerEvent("pointermove", {bubbles: true}));
            return tip.hidden ? null : tip.textContent;
        }).filter(text => text !== null);
    """)
    assert "" not in shown
    assert any(" plays by " in text for text in shown)
    assert any(" on average" in text for text in shown)
    assert any(text.startswith("User ") for text in shown)


def test_text_of_the_data_does_nothing_in_a_browser(browser, tmp_path):
    output = one_play_lake(tmp_path / "lake", HOSTILE, HOSTILE, location=HOSTILE)
    browser.get_log("browser")
    browser.get(write_page(tmp_path, output))
    # the page's own policy would complain of any script that was stopped
    assert browser.get_log("browser") == []
    assert browser.find_elements("css selector", "img, [onerror]") == []
    assert len(browser.find_elements("css selector", "script")) == 1


def find_axe():
    """axe-core's script, if npm has installed it in the project or globally."""
    roots = [ROOT / "node_modules"]
    if npm := shutil.which("npm"):
        done = subprocess.run([npm, "root", "-g"], capture_output=True, text=True)
        roots.append(Path(done.stdout.strip()))
    return next((p for r in roots if (p := r / "axe-core" / "axe.min.js").is_file()), None)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser, sample_page, scheme):
    axe = find_axe()
    if not axe:
        pytest.skip("no axe-core: npm install -g axe-core")
    set_scheme(browser, scheme)
    browser.get(sample_page)
    open_details(browser)
    # not execute_script, which the page's policy would stop
    browser.execute_cdp_cmd("Runtime.evaluate", {"expression": f"{axe.read_text()};1"})
    ask = {
        "expression": "axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes[0].html))",
        "awaitPromise": True,
        "returnByValue": True,
    }
    assert browser.execute_cdp_cmd("Runtime.evaluate", ask)["result"]["value"] == []
