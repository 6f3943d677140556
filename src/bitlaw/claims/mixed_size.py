"""Larger models bear a higher share of quantized weights at the same loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bitlaw.claims.base import Claim, Figure, Outcome, Point, above, mean, nothing
from bitlaw.claims.rows import LEAST, measured

if TYPE_CHECKING:
    import pandas as pd

BY = ("family", "series", "evaluation", "source", "kind", "bits", "block", "method", "mix", "activation_bits")


def test(rows: pd.DataFrame, seed: int) -> Outcome:
    """Fit ln(delta) = c + A Q_r - gamma ln N in each group and take gamma ln(10) / A: the gain in Q_r for a decade."""
    import numpy as np

    cells = measured(rows)
    cells = cells[(cells["mix"] != "none") & (cells["added"] > LEAST) & (cells["q"] < 1)]
    values, clusters, points = [], [], []
    for names, part in cells.groupby(list(BY), sort=True, dropna=False):
        if len(part) < 6 or part["q"].nunique() < 2 or part["log_n"].max() - part["log_n"].min() < 0.3:
            continue
        x = np.stack([np.ones(len(part)), part["q"], -math.log(10) * part["log_n"]], axis=1)
        _, slope, gamma = np.linalg.lstsq(x, np.log(part["added"].to_numpy()), rcond=None)[0]
        if slope > 0:
            values.append(float(np.clip(gamma * math.log(10) / slope, -2, 2)))
            clusters.append(names[0])
        points += [
            Point(float(10**n), float(y), f"Q {q:g}")
            for n, y, q in zip(part["log_n"], part["added"], part["q"], strict=True)
        ]
    if not values:
        return nothing("no family has several sizes at several shares of quantized weights")
    figure = Figure("non-embedding parameters", "loss added, nats", tuple(points), None, log_x=True)
    why = f"share of weights that a decade of N allows more, over {len(values)} groups; 0.2 to 0.4 was reported"
    return above(mean(values, clusters, seed), 0.0, why, figure)


CLAIM = Claim(
    title="Larger models bear a higher Q_r",
    paper="Cao et al. 2024, law 1 (20 to 40 % more per decade of N)",
    statistic="gain in Q_r per decade of N at the same loss",
    rule="above 0",
    test=test,
)
