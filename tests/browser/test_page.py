"""The page in a real browser: Debian's chromium, headless, at a lecture hall's and at a phone's width."""

import os
import shutil
import time
from pathlib import Path

import pytest

from experiments.dashboard import write_page
from experiments.runs import load_runs
from tests.experiments.synthetic import write_sweep

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver: apt-get install chromium chromium-driver"
)
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    runs = write_sweep(tmp_path_factory.mktemp("synthetic"))
    return write_page(load_runs(runs), tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = CHROMIUM
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def show(browser, page: Path, width: int, theme: str = "light"):
    """Load the page at `width` CSS pixels and wait until its script has drawn every figure."""
    browser.get_log("browser"), browser.get_log("performance")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]})
    browser.get(page.as_uri())
    until(browser, "return document.documentElement.dataset.drawn === String(document.querySelectorAll('.plot').length)")
    if folder := os.environ.get("PRACTICUM_SCREENSHOTS"):
        import base64

        shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        (Path(folder) / f"{width}_{theme}.png").write_bytes(base64.b64decode(shot["data"]))


def until(browser, script: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not browser.execute_script(script):
        assert time.monotonic() < end, f"never came true: {script}"
        time.sleep(0.05)


def visible_traces(browser) -> list[list[str]]:
    """Per figure the groups of the traces that are shown."""
    return browser.execute_script(
        "return [...document.querySelectorAll('.plot')].map(p => p._fullData.filter(t => t.visible === true && t.legendgroup)"
        ".map(t => t.legendgroup))"
    )


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "light"), (1280, "dark")])
def test_every_panel_is_drawn_within_the_width(browser, page, width, theme):
    show(browser, page, width, theme)
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('.plot')].map(p => p.querySelectorAll('.scatterlayer path[d]').length)"
    )
    assert len(drawn) == 16 and min(drawn) >= 2
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('.plot .main-svg')].map(s => s.getBoundingClientRect()).map(b => [b.left, b.right])"
    )
    assert all(left >= 0 and right <= width for left, right in sizes)
    assert browser.execute_script("return document.documentElement.scrollWidth") == width
    loaded = browser.execute_script("return [...document.images].map(i => i.complete && i.naturalWidth > 0)")
    assert len(loaded) == 14 and all(loaded)  # 2 groups x (3 seeds of samples, 3 of denoising, 1 of noising)
    text = browser.execute_script(
        "return Math.min(...[...document.querySelectorAll('p, td, figcaption')].map(e => parseFloat(getComputedStyle(e).fontSize)))"
    )
    assert text >= 11
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def test_grids_are_side_by_side_in_the_hall_and_stacked_on_a_phone(browser, page):
    boxes = (
        "return [...document.querySelectorAll('#samples figure:not([hidden])')]"
        ".map(f => f.getBoundingClientRect()).map(b => [b.left, b.top])"
    )
    show(browser, page, 1280)
    (left, top), (right, same) = browser.execute_script(boxes)
    assert right > left + 300 and top == same
    show(browser, page, 390)
    (left, top), (right, below) = browser.execute_script(boxes)
    assert left == right and below > top + 300


def test_the_legend_hides_a_group_everywhere_and_brings_it_back(browser, page):
    show(browser, page, 1280)
    before = visible_traces(browser)
    button = browser.find_element("css selector", '[data-legend="cosine"]')
    button.click()
    until(browser, "return document.querySelector('[data-legend=cosine]').getAttribute('aria-pressed') === 'false'")
    after = visible_traces(browser)
    assert all("cosine" in figure for figure in before)
    assert not any("cosine" in figure for figure in after)
    assert [figure.count("linear") for figure in after] == [figure.count("linear") for figure in before]
    assert browser.execute_script("return document.querySelectorAll('figure.off').length") == 7
    button.click()
    until(browser, "return document.querySelector('[data-legend=cosine]').getAttribute('aria-pressed') === 'true'")
    assert visible_traces(browser) == before


def test_another_seed_shows_its_pictures(browser, page):
    shown = "return [...document.querySelectorAll('#samples figure:not([hidden])')].map(f => f.dataset.seed)"
    show(browser, page, 1280)
    assert browser.execute_script(shown) == ["0", "0"]
    browser.find_element("css selector", '#samples [data-show="2"]').click()
    assert browser.execute_script(shown) == ["2", "2"]


def test_a_click_on_a_heading_sorts_the_table(browser, page):
    column = "return [...document.querySelectorAll('#runs tbody tr')].map(r => parseFloat(r.cells[3].textContent))"
    show(browser, page, 1280)
    heading = browser.find_elements("css selector", "#runs th")[3]
    heading.click()
    assert browser.execute_script(column) == sorted(browser.execute_script(column))
    heading.click()
    assert browser.execute_script(column) == sorted(browser.execute_script(column), reverse=True)


def test_colours_follow_the_theme(browser, page):
    paper = "return getComputedStyle(document.body).backgroundColor"
    line = "return document.querySelector('#plot-alpha-bar').data[0].line.color"
    show(browser, page, 1280, "light")
    light = browser.execute_script(paper), browser.execute_script(line)
    show(browser, page, 1280, "dark")
    dark = browser.execute_script(paper), browser.execute_script(line)
    assert light == ("rgb(253, 252, 249)", "#0072b2") and dark == ("rgb(20, 23, 27)", "#4aa8e0")


def test_the_page_asks_the_network_for_nothing(browser, page):
    import json

    show(browser, page, 1280)
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [message["params"]["request"]["url"] for message in sent if message["method"] == "Network.requestWillBeSent"]
    assert asked and all(url.startswith(("file://", "data:", "blob:")) for url in asked)
