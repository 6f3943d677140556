"""The page of a made-up table of 35,000 cells in headless Chromium: how soon it can be used, and how it answers.

python benchmarks/page.py [--rows 35000] [--repeats 5] [--keep FILE]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from analysis import made
from common import machine
from playwright.sync_api import Page, sync_playwright

from bitlaw.report.page import report

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import synthetic

AIM = 2000
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
# What a control does is seen when the browser has drawn two frames after it.
ANSWER = """async (change) => {
  const begin = performance.now();
  const [name, value] = change;
  const one = name === "budget" ? document.getElementById(name) : document.querySelector(`#explorer [name=${name}]`);
  one.value = value;
  one.dispatchEvent(new Event(name === "budget" ? "input" : "change"));
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now() - begin;
}"""


def opened(page: Page, file: Path) -> dict[str, float]:
    """Open ``file`` and return the milliseconds from the start of the navigation to what a reader sees."""
    page.goto(file.as_uri())
    page.wait_for_selector("#explorer[data-ready]", timeout=60_000)
    found: dict[str, float] = page.evaluate(
        """() => ({
          "text shown": performance.getEntriesByName("first-contentful-paint")[0].startTime,
          "explorer drawn": Number(document.getElementById("explorer").dataset.ready),
        })"""
    )
    return found


def scrolled(page: Page) -> float:
    """Scroll to the end, so that every chart is drawn, and return the milliseconds that the slowest chart took."""
    slowest = 0.0
    for element in page.query_selector_all(".chart:not([data-own])"):
        begin = time.perf_counter()
        element.scroll_into_view_if_needed()
        page.wait_for_function("(one) => one.dataset.drawn", arg=element, timeout=60_000)
        slowest = max(slowest, 1000 * (time.perf_counter() - begin))
    return slowest


def measure(file: Path, repeats: int) -> list[tuple[str, ...]]:
    """Return the rows of the table: what, and the median of ``repeats`` for each size of screen, in milliseconds."""
    found: dict[str, dict[str, list[float]]] = {}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for size, (width, height) in SIZES.items():
            for at in range(repeats + 1):
                context = browser.new_context(viewport={"width": width, "height": height})
                page = context.new_page()
                times = opened(page, file)
                for name, change in (
                    ("budget moved", ["budget", "60"]),
                    ("family chosen", ["family", "opt"]),
                    ("axes changed", ["view", "bits"]),
                ):
                    times[name] = page.evaluate(ANSWER, change)
                times["slowest chart below"] = scrolled(page)
                context.close()
                for name, value in times.items() if at else ():  # the first run fills the caches of the disk
                    found.setdefault(name, {}).setdefault(size, []).append(value)
        browser.close()
    return [(name, *(f"{statistics.median(of[size]):.0f}" for size in SIZES)) for name, of in found.items()]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=35_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="where to leave the page")
    options = parser.parse_args()
    table = made(options.rows)
    # Figures of laws draw no more points than this.
    laws = synthetic.laws(table.iloc[:: max(1, len(table) // 2000)], bootstraps=0)
    begin = time.perf_counter()
    about = {"title": "A page", "study": "made", "keys": {"report": "ab" * 16}}
    whole = report(table, laws, **about, more={"predictor": synthetic.predictor(table), "claims": synthetic.claims()})
    seconds = time.perf_counter() - begin
    with tempfile.TemporaryDirectory() as folder:
        file = options.keep or Path(folder) / "index.html"
        file.write_text(whole.html, "utf-8")
        size = file.stat().st_size / 2**20
        rows = measure(file.resolve(), options.repeats)
    count = f"{len(table):,} cells, {len(whole.figures)} figures"
    print(f"{count}: {size:.1f} MiB, made in {seconds:.1f} s; {machine()}\n")
    for row in [("milliseconds", *SIZES), ("---",) * (1 + len(SIZES)), *rows]:
        print(f"| {' | '.join(row)} |")
    print(f"\n`explorer drawn` should be {AIM} ms at most.")


if __name__ == "__main__":
    main()
