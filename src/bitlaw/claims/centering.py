"""Subtracting the mean of a block does not help."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bitlaw.claims.rows as r
from bitlaw.claims.base import Claim, Figure, Outcome, Point, decided, mean, nothing

if TYPE_CHECKING:
    import pandas as pd

ENOUGH = 0.05


def test(rows: pd.DataFrame, seed: int) -> Outcome:
    """Compare centered formats with the same without; a gain below 5 % counts as none."""
    cells = r.whole(rows)
    centered = cells["options"].str.contains("centered")
    one, other = (
        cells[~centered],
        cells[centered].assign(options=cells.loc[centered, "options"].str.replace("centered", "")),
    )
    found = r.pairs(cells, one, other.assign(options=other["options"].str.strip("_")), ())
    gain = r.ratio(found)
    estimate = mean(gain, found["model"], seed)
    if estimate is None:
        return nothing("no centered formats beside the same without")
    verdict = decided(estimate.high < ENOUGH, estimate.low > ENOUGH)
    points = tuple(
        Point(float(10**n), float(y), str(kind)) for n, y, kind in zip(found["log_n"], gain, found["kind"], strict=True)
    )
    figure = Figure("non-embedding parameters", "ln(loss without / with centering)", points, 0.0, log_x=True)
    why = f"{estimate.n} pairs; a gain of less than {ENOUGH:.0%} counts as none"
    return Outcome(verdict, why, estimate.value, estimate.low, estimate.high, estimate.n, figure)


CLAIM = Claim(
    title="Centering does not help",
    paper="Dettmers and Zettlemoyer 2023, appendix B",
    statistic="ln(loss added without / with centering)",
    rule="below 0.05",
    test=test,
)
