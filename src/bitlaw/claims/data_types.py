"""At four bits, floats and quantiles lose less than integers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bitlaw.claims.rows as r
from bitlaw.claims.base import Claim, Figure, Outcome, Point, decided, mean, nothing

if TYPE_CHECKING:
    import pandas as pd

OTHERS = {"fp": "float", "quantile": "quantile"}


def test(rows: pd.DataFrame, seed: int) -> Outcome:
    """Compare cells that differ in the kind of element alone; the claim holds if it holds for both kinds."""
    cells = r.whole(rows)
    cells = cells[cells["bits"] == 4].assign(options="")
    plain = cells[~cells["format"].str.contains("centered")]
    ends, points = {}, []
    for kind, name in OTHERS.items():
        found = r.pairs(plain, plain[plain["kind"] == "int"], plain[plain["kind"] == kind], ("kind", "options"))
        gain = r.ratio(found)
        if (estimate := mean(gain, found["model"], seed)) is not None:
            ends[name] = estimate
        points += [Point(float(10**n), float(one), name) for n, one in zip(found["log_n"], gain, strict=True)]
    if len(ends) < len(OTHERS):
        return nothing("no 4-bit integer cells beside float and quantile cells with the same block and method")
    worst = min(ends, key=lambda name: ends[name].value)
    least = ends[worst]
    why = "; ".join(
        f"{name}: ln(int / {name}) is {one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})"
        for name, one in ends.items()
    )
    low = min(one.low for one in ends.values())
    verdict = decided(low > 0, any(one.high < 0 for one in ends.values()))
    figure = Figure("non-embedding parameters", "ln(loss of int / loss)", tuple(points), 0.0, log_x=True)
    return Outcome(verdict, why, least.value, least.low, least.high, sum(one.n for one in ends.values()), figure)


CLAIM = Claim(
    title="Float and quantile beat int at 4 bits",
    paper="Dettmers and Zettlemoyer 2023, section 5.2",
    statistic="ln(loss added by int / by the other), for the worse of the two",
    rule="above 0 for both",
    test=test,
)
