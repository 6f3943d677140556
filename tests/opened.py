"""The report in a real Chromium, opened from a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
Open = Callable[..., "Opened"]


class Opened:
    """The report in a browser, with what it said to the console and asked of the network.

    Attributes:
        page: of Playwright.
        said: messages and errors of the console.
        asked: addresses of all requests.
    """

    def __init__(self, page: Page, file: Path) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(file.as_uri())
        page.wait_for_selector("#explorer[data-ready]", timeout=60_000)

    def draw_all(self) -> None:
        """Scroll through the page until every chart is drawn."""
        for element in self.page.query_selector_all(".chart"):
            element.scroll_into_view_if_needed()
            self.page.wait_for_function("one => one.dataset.drawn", arg=element, timeout=60_000)

    def choose(self, name: str, value: str) -> None:
        """Choose ``value`` in the control ``name`` of the explorer."""
        self.page.locator(f"#explorer select[name={name}]").select_option(value)

    def budget(self, steps: int) -> None:
        """Move the slider of the budget to ``steps``."""
        self.page.locator("#budget").fill(str(steps))

    def pick(self) -> str:
        """Return what is recommended."""
        return self.page.locator("#pick").inner_text()

    def points(self, count: int) -> None:
        """Wait until the explorer shows so many cells."""
        marks = "#chart-explorer .mark-symbol.role-mark.layer_2_marks path"
        self.page.wait_for_function(
            "([marks, count]) => document.querySelectorAll(marks).length === count", arg=[marks, count], timeout=20_000
        )

    def results(self) -> list[list[str]]:
        """Return the texts of the table of results."""
        found: list[list[str]] = self.page.evaluate(
            "[...document.querySelectorAll('#results tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
        )
        return found
