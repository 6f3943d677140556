"""Proxy quantization pays for its bits at three bits, and at no other precision."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import bitlaw.claims.rows as r
from bitlaw.claims.base import Claim, Figure, Outcome, Point, decided, mean, nothing

if TYPE_CHECKING:
    import pandas as pd

PER_BIT = math.log(4)
"""A bit divides the noise power by four, and for weak noise the loss with it."""


def test(rows: pd.DataFrame, seed: int) -> Outcome:
    """Compare proxy quantization with rounding to nearest, less what its extra bits would have gained."""
    cells = r.whole(rows)
    found = r.pairs(
        cells, cells[cells["method"] == "rtn"], cells[cells["method"] == "proxy"], ("method", "settings", "q")
    )
    net = r.ratio(found) - PER_BIT * (found["bits_b"] - found["bits_a"])
    three = found["bits"] == 3
    at, rest = (mean(net[own], found.loc[own, "model"], seed) for own in (three, ~three))
    if at is None or rest is None:
        return nothing("no cells of proxy quantization at 3 bits and at others beside rounding to nearest")
    holds, fails = at.low > 0 and rest.high < 0, at.high < 0 or rest.low > 0
    said = (f"{one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})" for one in (at, rest))
    why = "net of its bits: {} at 3 bits, {} at others".format(*said)
    points = tuple(
        Point(float(10**n), float(y), f"{int(b)} bits")
        for n, y, b in zip(found["log_n"], net, found["bits"], strict=True)
    )
    figure = Figure("non-embedding parameters", "ln(loss of RTN / proxy), less its bits", points, 0.0, log_x=True)
    verdict = decided(holds, fails)
    return Outcome(verdict, why, at.value, at.low, at.high, at.n + rest.n, figure)


CLAIM = Claim(
    title="Proxy quantization helps 3 bits only",
    paper="Dettmers and Zettlemoyer 2023, section 5.2",
    statistic="ln(loss added by RTN / by proxy) at 3 bits, less ln 4 for each bit that proxy takes more",
    rule="above 0 at 3 bits, below 0 at others",
    test=test,
)
