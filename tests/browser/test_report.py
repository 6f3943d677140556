"""The whole report: inside the screen, accessible, in both schemes and on both screens; see conftest for silence."""

from __future__ import annotations

import pytest

from bitlaw.report import page
from bitlaw.report.results import SHOWN
from opened import SIZES, Open, Opened

pytestmark = pytest.mark.browser
CHARTS = 1 + (2 + 5) + 5 + (5 + 1) + 1 + 2 + 3 + 3
SECTIONS = [name for name, _ in page.SECTIONS]


@pytest.mark.parametrize("size", SIZES)
def test_every_section_and_chart_is_inside_the_screen(open_report: Open, size: str) -> None:
    one = open_report(size)
    one.draw_all()
    assert one.page.evaluate("[...document.querySelectorAll('main > section')].map(s => s.id)") == SECTIONS
    charts = one.page.evaluate(
        """[...document.querySelectorAll('.chart')].map(c => { const s = c.querySelector('svg');
        return [c.id, s ? s.querySelectorAll('.mark-symbol path').length : 0, s ? s.getBoundingClientRect().width : 0,
          c.getBoundingClientRect().width]; })"""
    )
    assert len(charts) == CHARTS
    for name, marks, width, room in charts:
        assert marks >= 4, name
        assert 200 < width <= room + 1, name
    assert one.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_chart_is_drawn_when_it_is_looked_at(open_report: Open) -> None:
    one = open_report()
    drawn = "document.querySelectorAll('.chart[data-drawn]').length"
    first = one.page.evaluate(drawn)
    assert 1 <= first < CHARTS / 2
    one.page.locator("#claims .chart").last.scroll_into_view_if_needed()
    one.page.wait_for_selector("#claims .chart[data-drawn]")
    assert first < one.page.evaluate(drawn) < CHARTS
    assert one.page.locator("#costs .chart").first.get_attribute("style") == "min-height:320px"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_no_serious_fault_of_accessibility(open_report: Open, size: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    one = open_report(size, scheme)
    found = axe.run(one.page).response
    serious = [
        (fault["id"], fault["impact"], [node["html"][:200] for node in fault["nodes"]][:3])
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
    assert serious == []
    assert any(check["id"] == "color-contrast" for check in found["passes"])


def test_dark_pages_have_dark_charts(open_report: Open) -> None:
    one = open_report()
    colors = """[getComputedStyle(document.body).backgroundColor,
      document.querySelector('#chart-explorer svg .role-axis-label text').getAttribute('fill')]"""
    light = one.page.evaluate(colors)
    one.page.emulate_media(color_scheme="dark")
    one.page.wait_for_selector("#chart-explorer[data-drawn=dark]")
    assert all(a != b for a, b in zip(light, one.page.evaluate(colors), strict=True))
    one.page.locator("#costs .chart").first.scroll_into_view_if_needed()
    one.page.wait_for_selector("#costs .chart[data-drawn=dark]")


def test_a_walk_by_keyboard_reaches_all_that_can_be_used(open_report: Open) -> None:
    one = open_report()
    use = "a[href], button, input, select, summary, [tabindex='0']"
    wanted = one.page.evaluate(f'[...document.querySelectorAll("{use}")].filter(e => e.checkVisibility()).length')
    seen = []
    for _ in range(wanted):
        one.page.keyboard.press("Tab")
        seen.append(
            one.page.evaluate(
                """() => { const e = document.activeElement, s = getComputedStyle(e);
                if (!e.dataset.seen) e.dataset.seen = document.querySelectorAll("[data-seen]").length + 1;
                const labels = e.labels ? [...e.labels].map(l => l.textContent) : [];
                const name = e.getAttribute("aria-label") || labels.join() || e.textContent;
                return [e.dataset.seen, e.id || e.name || e.tagName, name.trim(), s.outlineStyle]; }"""
            )
        )
    assert [int(number) for number, *_ in seen] == list(range(1, wanted + 1))  # each once, in the order of the page
    assert {"budget", "find", "view", "family", "method", "kind", "mixed"} <= {name for _, name, *_ in seen}
    for _, name, label, outline in seen:
        assert label, name
        assert outline != "none", name


def test_formulas_are_laid_out(open_report: Open) -> None:
    heights = open_report().page.evaluate(
        "[...document.querySelectorAll('.formula math')].map(m => m.getBoundingClientRect().height)"
    )
    assert len(heights) == 2 and min(heights) > 10 and max(heights) > 1.4 * min(heights)  # a fraction is taller


def test_results_are_filtered_and_sorted(open_report: Open) -> None:
    one = open_report("phone")
    find = one.page.locator("#find")
    find.fill("gptq int4_b64 opt-")
    assert len(one.results()) == 3
    assert all("gptq" in row and "int4_b64" in row for row in one.results())
    find.fill("no such thing")
    assert one.results() == []
    find.fill("")
    assert len(one.results()) == 100  # a page of the 315
    one.page.locator("#more").click()
    assert len(one.results()) == 315
    method = one.page.locator("#results select[name=method]")
    method.select_option("none")
    assert {row[3] for row in one.results()} == {"unquantized"} and len(one.results()) == 15
    method.select_option("")
    _sorted(one)


def _sorted(one: Opened) -> None:
    one.page.locator("#find").fill("int4_b64 none {")
    column = [name for name, _, _ in SHOWN].index("nll")
    heading = one.page.locator("#results thead button").nth(column)
    for descending in (False, True):
        heading.press("Enter")
        losses = [row[column] for row in one.results()]
        assert losses[-1] == "∞"
        numbers = [float(value) for value in losses[:-1]]
        assert len(numbers) == 29 and numbers == sorted(numbers, reverse=descending)
    assert one.page.locator("#results tr.bad").count() == 1
