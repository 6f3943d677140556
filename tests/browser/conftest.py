"""A report with every section, opened in a real Chromium from a file, with the network off."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import synthetic
from bitlaw.report.page import page as report_page
from bitlaw.table import frame
from opened import SIZES, Open, Opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    """A table with mixed cells, and one cell whose loss is not finite."""
    plain = synthetic.table()
    row = plain.index[plain["format"] == "int4_b64"][0]
    plain.loc[row, ["nll", "delta_nll", "perplexity"]] = math.inf
    plain.loc[row, "finite"] = False
    plain["predicted_delta_nll"] = 0.9 * plain["delta_nll"]
    mixed = frame(synthetic.mixes(plain))
    return pd.concat([plain, mixed], ignore_index=True)


@pytest.fixture(scope="session")
def report(table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    about: dict[str, Any] = {"title": "Demo", "study": "demo", "keys": {"report": "ab" * 16}}
    more = {"predictor": synthetic.predictor(table), "claims": synthetic.claims()}
    laws = synthetic.laws(table, bootstraps=2)
    path.write_text(report_page(table, laws, **about, landscapes=synthetic.landscapes(table), more=more), "utf-8")
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_report(browser: Browser, report: Path) -> Iterator[Open]:
    """Return what opens the report on a screen, ``desktop`` or ``phone``, in a scheme, ``light`` or ``dark``.

    Whatever a test does, the console stays silent and nothing is asked of the network.
    """
    contexts, reports = [], []

    def opened(size: str = "desktop", scheme: str = "light") -> Opened:
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            offline=True,  # type: ignore[arg-type]
        )
        contexts.append(context)
        reports.append(Opened(context.new_page(), report))
        return reports[-1]

    yield opened
    for one in reports:
        assert one.said == []
        assert [url for url in one.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    for context in contexts:
        context.close()
