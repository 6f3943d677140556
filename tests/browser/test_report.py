"""The report in a real browser, from a file, with the network off."""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING, Any

import pytest

import synthetic
from bitlaw.report.page import SHOWN, page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs chromium and chromedriver"),
]
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = synthetic.table()
    row = table.index[table["format"] == "int4_b64"][0]
    table.loc[row, ["nll", "delta_nll", "perplexity"]] = math.inf
    table.loc[row, "finite"] = False
    path = tmp_path_factory.mktemp("report") / "report.html"
    keys = {"report": "ab" * 16}
    path.write_text(page(table, synthetic.laws(table), title="Demo", study="demo", keys=keys), "utf-8")
    return path


@pytest.fixture(scope="module", params=["desktop", "phone"])
def browser(request: pytest.FixtureRequest, report: Path) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.support.ui import WebDriverWait

    width, height = SIZES[request.param]
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.execute_cdp_cmd("Network.enable", {})
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        driver.get(report.as_uri())
        WebDriverWait(driver, 30).until(
            lambda d: script(d, "return document.documentElement.dataset.charts") == "drawn"
        )
        yield driver
    finally:
        driver.quit()


def script(browser: Any, source: str) -> Any:
    return browser.execute_script(source)


def rows(browser: Any) -> list[list[str]]:
    found: list[list[str]] = script(
        browser,
        "return [...document.querySelectorAll('#results tbody tr')].map(r => [...r.cells].map(c => c.textContent))",
    )
    return found


def type_filter(browser: Any, text: str) -> None:
    field = browser.find_element("id", "find")
    field.clear()
    field.send_keys(text)
    script(browser, "document.getElementById('find').dispatchEvent(new Event('input'))")


def test_the_console_is_silent_and_nothing_is_asked_of_the_network(browser: Any) -> None:
    assert browser.get_log("browser") == []
    asked = [
        entry["message"] for entry in browser.get_log("performance") if "Network.requestWillBeSent" in entry["message"]
    ]
    assert not [message for message in asked if '"url":"http' in message]


def test_every_chart_is_drawn_inside_the_page(browser: Any) -> None:
    charts = script(
        browser,
        "return [...document.querySelectorAll('.chart')].map(c => { const s = c.querySelector('svg');"
        "return [s ? s.querySelectorAll('.mark-symbol path').length : 0, s ? s.getBoundingClientRect().width : 0,"
        "c.getBoundingClientRect().width]; })",
    )
    assert len(charts) == 14
    for marks, width, room in charts:
        assert marks >= 9
        assert 200 < width <= room + 1
    assert script(browser, "return document.documentElement.scrollWidth <= window.innerWidth")


def test_formulas_are_laid_out(browser: Any) -> None:
    heights = script(
        browser, "return [...document.querySelectorAll('.formula math')].map(m => m.getBoundingClientRect().height)"
    )
    assert len(heights) == 2 and min(heights) > 10 and max(heights) > 1.4 * min(heights)  # a fraction is taller


def test_the_filter_narrows_the_rows(browser: Any) -> None:
    type_filter(browser, "gptq int4_b64 opt-")
    assert len(rows(browser)) == 3
    assert all("gptq" in row and "int4_b64" in row for row in rows(browser))
    type_filter(browser, "no such thing")
    assert rows(browser) == []
    type_filter(browser, "")
    assert len(rows(browser)) == 100  # a page of the 225
    script(browser, "document.getElementById('more').click()")
    assert len(rows(browser)) == 225


def test_a_select_narrows_the_rows(browser: Any) -> None:
    choose = (
        "const s = document.querySelector('#results select[name=method]');"
        "s.value = {}; s.dispatchEvent(new Event('change'))"
    )
    script(browser, choose.format("'none'"))
    assert {row[3] for row in rows(browser)} == {"unquantized"} and len(rows(browser)) == 15
    script(browser, choose.format("''"))


def test_a_heading_sorts_up_and_down_with_the_broken_last(browser: Any) -> None:
    type_filter(browser, "int4_b64")
    column = [name for name, _, _ in SHOWN].index("nll")
    button = f"document.querySelectorAll('#results thead button')[{column}].click()"
    for descending in (False, True):
        script(browser, button)
        losses = [row[column] for row in rows(browser)]
        assert losses[-1] == "∞"
        numbers = [float(value) for value in losses[:-1]]
        assert len(numbers) == 29 and numbers == sorted(numbers, reverse=descending)
    assert script(browser, "return document.querySelectorAll('#results tr.bad').length") == 1
    type_filter(browser, "")


def test_a_dark_page_has_dark_charts(browser: Any) -> None:
    def colors() -> list[str]:
        found: list[str] = script(
            browser,
            "return [getComputedStyle(document.body).backgroundColor,"
            "document.querySelector('.chart svg .role-axis-label text').getAttribute('fill')]",
        )
        return found

    light = colors()
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    script(browser, "document.documentElement.dataset.charts = ''")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 20).until(lambda d: script(d, "return document.documentElement.dataset.charts") == "drawn")
    assert all(a != b for a, b in zip(light, colors(), strict=True))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
