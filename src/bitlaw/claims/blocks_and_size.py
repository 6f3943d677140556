"""Small blocks save large models less."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.claims.base import Claim, Figure, Outcome, Point, above, mean, nothing
from bitlaw.claims.rows import slopes, whole

if TYPE_CHECKING:
    import pandas as pd

SAME = ("family", "series", "evaluation", "source", "kind", "bits", "options", "method", "settings")


def test(rows: pd.DataFrame, seed: int) -> Outcome:
    """Take the nats that the smallest block saves over the largest, and their slope against log10 of the size."""
    import numpy as np

    cells = whole(rows)
    cells = cells[cells["block"].str.isdigit() & (cells["bits"] <= 4)]
    cells = cells.assign(size=cells["block"].where(cells["block"].str.isdigit(), "0").astype("int64"))
    each = cells.groupby([*SAME, "model", "log_n", "size"], sort=True)["added"].mean().reset_index()
    ends = each.groupby([*SAME, "model", "log_n"])
    first, last = ends.first(), ends.last()
    saved = (last["added"] - first["added"])[last["size"] > first["size"]].rename("saved").reset_index()
    if saved.empty:
        return nothing("no model has two block sizes at 4 bits or fewer")
    # Relative to what the family saves on average, so that formats count the same.
    scale = saved.groupby(list(SAME))["saved"].transform(lambda part: np.abs(part).mean())
    found = slopes(saved[scale > 0].assign(scale=scale), SAME, "log_n", lambda part: -part["saved"] / part["scale"])
    points = tuple(
        Point(float(10**n), float(y), str(f))
        for n, y, f in zip(saved["log_n"], saved["saved"], saved["family"], strict=True)
    )
    figure = Figure("non-embedding parameters", "nats saved by the smallest block", points, 0.0, log_x=True)
    why = f"{len(found)} series of sizes; 1 means that a decade of N removes all of the average saving"
    return above(mean(found["slope"], found["family"], seed), 0.0, why, figure)


CLAIM = Claim(
    title="Small blocks matter less for large models",
    paper="Cao et al. 2025, unified law",
    statistic="fall of the nats that small blocks save per decade of N, relative to their mean",
    rule="above 0",
    test=test,
)
