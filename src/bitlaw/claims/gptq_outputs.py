"""GPTQ raises the SQNR of the layers' outputs over rounding to nearest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bitlaw.claims.rows as r
from bitlaw.claims.base import Claim, Figure, Outcome, Point, above, mean, nothing

if TYPE_CHECKING:
    import pandas as pd

REPORTED = 1.8


def test(rows: pd.DataFrame, seed: int) -> Outcome:
    """Compare GPTQ with rounding to nearest in dB of the outputs' SQNR."""
    if "output_sqnr_db" not in rows or rows["output_sqnr_db"].isna().all():
        return nothing("the table has no SQNR of outputs (column output_sqnr_db)")
    cells = r.whole(rows).dropna(subset=["output_sqnr_db"])
    cells = cells.assign(output=cells["output_sqnr_db"].astype("float64"))
    found = r.pairs(
        cells, cells[cells["method"] == "gptq"], cells[cells["method"] == "rtn"], ("method", "settings"), "output"
    )
    gain = found["a"] - found["b"]
    estimate = mean(gain, found["model"], seed)
    agrees = estimate is not None and estimate.low <= REPORTED <= estimate.high
    why = (
        f"{len(found)} pairs; the {REPORTED} dB that were reported are {'within' if agrees else 'outside'} the interval"
    )
    points = tuple(Point(float(x), float(y), str(f)) for x, y, f in zip(found["b"], gain, found["family"], strict=True))
    figure = Figure("output SQNR of RTN, dB", "dB that GPTQ gains", points, REPORTED)
    return above(estimate, 0.0, why, figure)


CLAIM = Claim(
    title="GPTQ gains output SQNR over RTN",
    paper="Xu et al. 2024 (1.8 dB on average)",
    statistic="output SQNR of GPTQ less that of RTN, dB",
    rule="above 0",
    test=test,
)
