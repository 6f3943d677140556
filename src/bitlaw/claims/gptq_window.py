"""GPTQ pays most where the noise is about 20 dB below the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bitlaw.claims.rows as r
from bitlaw.claims.base import Claim, Figure, Outcome, Point, decided, mean, nothing

if TYPE_CHECKING:
    import pandas as pd

NEAR, WITHIN, BIN = 20.0, 5.0, 3.0


def test(rows: pd.DataFrame, seed: int) -> Outcome:
    """Find for each model the SQNR of rounding to nearest at which GPTQ saves most nats, in bins of 3 dB."""
    import numpy as np

    from bitlaw.predictor.features import format_db

    cells = r.whole(rows)
    rtn = cells[cells["method"] == "rtn"]
    found = r.pairs(cells, rtn, cells[cells["method"] == "gptq"], ("method", "settings"))
    if found.empty:
        return nothing("no cells of GPTQ beside rounding to nearest")
    by = [name for name in (*r.WHERE, *r.WHAT) if name not in ("method", "settings")]
    names = rtn.assign(gmse_db=[format_db(name) for name in rtn["format"]])
    measured = names["sqnr_db"].astype("float64") if "sqnr_db" in names else np.nan
    names = names.assign(db=measured).assign(db=lambda part: part["db"].fillna(part["gmse_db"]))
    found = found.merge(names.groupby(by, dropna=False)["db"].mean().reset_index(), on=by).dropna(subset=["db"])
    found = found.assign(gain=found["a"] - found["b"], bin=(found["db"] / BIN).round() * BIN)
    peaks, clusters = [], []
    for (model, _, _), part in found.groupby(["model", "source", "evaluation"], sort=True):
        each = part.groupby("bin")["gain"].mean()
        if len(each) >= 3:
            peaks.append(float(each.index.to_numpy("float64")[int(each.to_numpy().argmax())]))
            clusters.append(model)
    estimate = mean(peaks, clusters, seed)
    if estimate is None:
        return nothing("too few models have GPTQ and RTN at three levels of noise or more")
    inside = estimate.low >= NEAR - WITHIN and estimate.high <= NEAR + WITHIN
    outside = estimate.high < NEAR - WITHIN or estimate.low > NEAR + WITHIN
    points = tuple(
        Point(float(x), float(y), str(f)) for x, y, f in zip(found["db"], found["gain"], found["family"], strict=True)
    )
    figure = Figure("SQNR of RTN, dB", "nats that GPTQ saves", points, 0.0)
    why = f"SQNR at which GPTQ saves most nats, mean over {estimate.n} models"
    verdict = decided(inside, outside)
    return Outcome(verdict, why, estimate.value, estimate.low, estimate.high, estimate.n, figure)


CLAIM = Claim(
    title="GPTQ pays most near 20 dB",
    paper="Xu et al. 2024",
    statistic="SQNR of RTN at which GPTQ saves most nats, dB",
    rule="within 15 to 25 dB",
    test=test,
)
