"""The explorer: its controls choose cells, its budget moves what is recommended, and that is the right cell."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import pytest

from bitlaw.table import is_mixed
from opened import SIZES, Open, Opened

pytestmark = pytest.mark.browser
MIB = 8 * 1024**2


def best(rows: pd.DataFrame, x: str, y: str, share: float, *, log: bool, of: pd.DataFrame) -> Any:
    """Return the row of ``rows`` with the least ``y`` up to the budget at ``share`` of the slider over ``of``."""
    low, high = of[x].min(), of[x].max()
    budget = low * (high / low) ** share if log else low + share * (high - low)
    return rows[rows[x] <= budget * (1 + 1e-9)].sort_values([y, x]).iloc[0]


def says(one: Opened, row: Any) -> None:
    """Check that what is recommended is ``row``."""
    said = one.pick()
    assert f": {row['model']}, " in said
    if row["method"] != "none":
        assert f"{row['format']} by {str(row['method']).upper()}:" in said
    assert f"loss {row['nll']:.4f} nats" in said


@pytest.mark.parametrize("size", SIZES)
def test_the_budget_moves_what_is_recommended(open_report: Open, table: pd.DataFrame, size: str) -> None:
    one = open_report(size)
    cells = table[table["finite"] & ~is_mixed(table)]
    seen = set()
    for steps in (0, 40, 100, 150, 200):
        one.budget(steps)
        says(one, best(cells, "model_bits", "nll", steps / 200, log=True, of=cells))
        seen.add(one.pick())
        ring = one.page.locator("#chart-explorer .layer_3_marks path").first
        seen.add(ring.get_attribute("transform"))
    assert len(seen) == 10
    assert re.search(r"at most [\d.]+ MiB", one.page.locator("#limit").inner_text())
    assert one.page.locator("#budget").get_attribute("aria-valuetext").startswith("at most ")


def test_controls_choose_the_cells(open_report: Open, table: pd.DataFrame) -> None:
    one = open_report()
    cells = table[table["finite"] & ~is_mixed(table)]
    one.points(len(cells))
    one.choose("family", "opt")
    own = cells[cells["family"] == "opt"]
    one.points(len(own))
    says(one, best(own, "model_bits", "nll", 0.5, log=True, of=cells))
    one.choose("method", "rtn")
    own = own[own["method"].isin(["rtn", "none"])]
    one.points(len(own))
    one.choose("kind", "mxint")
    own = own[own["element"].str.startswith("mxint") | (own["method"] == "none")]
    one.points(len(own))
    says(one, best(own, "model_bits", "nll", 0.5, log=True, of=cells))
    assert f"{len(own)} of {len(own)} cells drawn" in one.page.locator("#drawn").inner_text()


def test_the_other_axes(open_report: Open, table: pd.DataFrame) -> None:
    one = open_report()
    one.choose("view", "bits")
    cells = table[table["finite"] & ~is_mixed(table) & (table["method"] != "none")]
    one.points(len(cells))
    for steps in (0, 120):
        one.budget(steps)
        says(one, best(cells, "effective_bits", "delta_nll", steps / 200, log=False, of=cells))
    assert re.search(r"at most [\d.]+ bits", one.page.locator("#limit").inner_text())
    axes = one.page.locator("#chart-explorer .role-axis-title text").all_text_contents()
    assert axes == ["effective bits per weight", "added loss, nats per token"]


def test_mixed_cells_come_and_go(open_report: Open, table: pd.DataFrame) -> None:
    one = open_report()
    every, whole = table[table["finite"]], table[table["finite"] & ~is_mixed(table)]
    one.page.locator("#explorer input[name=mixed]").check()
    one.points(len(every))
    one.page.locator("#explorer input[name=mixed]").uncheck()
    one.points(len(whole))


def test_where_nothing_fits_the_smallest_is_said(open_report: Open, table: pd.DataFrame) -> None:
    one = open_report()
    one.choose("method", "rtn")
    one.choose("kind", "mxint")
    one.budget(0)
    own = table[table["element"].str.startswith("mxint") & (table["method"] == "rtn")]
    smallest = own.sort_values(["model_bits", "nll"]).iloc[0]
    size = f"{smallest['model_bits'] / MIB:.4g}"
    assert one.pick().startswith(f"Nothing fits. The smallest that works is {size} MiB: {smallest['model']}, ")
    assert one.page.locator("#chart-explorer .layer_3_marks path").count() == 0


def test_it_works_by_keyboard(open_report: Open) -> None:
    one = open_report()
    before = one.pick(), one.page.locator("#chart-explorer").inner_html()
    one.page.locator("#budget").focus()
    one.page.keyboard.press("Home")
    one.page.wait_for_function("text => document.getElementById('pick').innerText !== text", arg=before[0])
    assert one.page.locator("#chart-explorer").inner_html() != before[1]
    one.page.locator("#explorer select[name=family]").focus()
    one.page.keyboard.type("opt")
    one.page.wait_for_function("document.querySelector('#explorer [name=family]').value === 'opt'")
    assert ": opt-" in one.pick()


def test_a_cell_says_its_numbers(open_report: Open, table: pd.DataFrame) -> None:
    one = open_report()
    ring = one.page.locator("#chart-explorer .layer_3_marks path").first
    ring.hover()
    tip = one.page.locator("#vg-tooltip-element")
    tip.wait_for(state="visible")
    cells = table[table["finite"] & ~is_mixed(table)]
    found = best(cells, "model_bits", "nll", 0.5, log=True, of=cells)
    said = tip.inner_text()
    assert found["model"] in said and found["format"] in said and f"{found['nll']:.4g}" in said
