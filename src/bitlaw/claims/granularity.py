"""Choosing single matrices to keep in high precision beats choosing whole layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bitlaw.claims.rows as r
from bitlaw.claims.base import Claim, Figure, Outcome, Point, above, mean, nothing

if TYPE_CHECKING:
    import pandas as pd


def test(rows: pd.DataFrame, seed: int) -> Outcome:
    """Compare cells of both granularities at the same share of quantized weights."""
    cells = r.measured(rows)
    found = r.pairs(cells, cells[cells["mix"] == "layer"], cells[cells["mix"] == "matmul"], ("mix", "settings"))
    if found.empty:
        return nothing("no cells of both granularities at the same share of quantized weights")
    gain = r.ratio(found)
    points = tuple(
        Point(float(10**n), float(y), str(f)) for n, y, f in zip(found["log_n"], gain, found["family"], strict=True)
    )
    figure = Figure("non-embedding parameters", "ln(loss by layers / by matrices)", points, 0.0, log_x=True)
    return above(mean(gain, found["model"], seed), 0.0, f"{len(found)} pairs at equal Q_r", figure)


CLAIM = Claim(
    title="Matmul granularity beats layer granularity",
    paper="Cao et al. 2024",
    statistic="ln(loss added by layers / by matrices) at equal Q_r",
    rule="above 0",
    test=test,
)
