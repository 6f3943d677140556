"""At a given number of total bits, four bits a weight lose least."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.claims.base import Claim, Figure, Outcome, Point, above, mean, nothing
from bitlaw.claims.rows import whole

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.predictor.base import Array

BY = ("family", "series", "evaluation", "source", "kind", "block", "options", "method", "settings")
BUDGETS = 21


def test(rows: pd.DataFrame, seed: int) -> Outcome:
    """Compare interpolated curves of loss against the logarithm of total bits, one for each precision of a family."""
    import numpy as np

    cells = whole(rows).dropna(subset=["bits", "model_bits"])
    cells = cells[cells["bits"] <= 8]
    values, clusters, points = [], [], []
    for names, part in cells.groupby(list(BY), sort=True):
        curves = _curves(part)
        if 4 not in curves or len(curves) < 3:
            continue
        budgets = np.linspace(curves[4][0].min(), curves[4][0].max(), BUDGETS)
        best = [_best(curves, float(budget)) for budget in budgets]
        told = [one for one in best if one is not None]
        if told:
            values.append(float(np.mean([one == 4 for one in told])))
            clusters.append(names[0])
            points += [
                Point(float(2**b / 8 / 2**20), float(one), str(names[0]))
                for b, one in zip(budgets, best, strict=True)
                if one
            ]
    if not values:
        return nothing("no family has two sizes or more at 4 bits and at two other precisions in formats alike")
    estimate = mean(values, clusters, seed)
    figure = Figure("whole model, MiB", "bits with the lowest loss", tuple(points), 4.0, log_x=True)
    curves_of = f"over {len(values)} curves of {len(set(clusters))} families"
    why = f"share of the budgets at which 4 bits have the lowest loss, {curves_of}"
    return above(estimate, 0.5, why, figure)


def _curves(part: pd.DataFrame) -> dict[int, tuple[Array, Array]]:
    """Return by bits the log2 of total bits and the losses of a family's sizes, where there are two or more."""
    import numpy as np

    found = {}
    for bits, own in part.groupby("bits", sort=True):
        each = own.groupby("model_bits")["nll"].mean()
        if len(each) >= 2:
            found[int(str(bits).partition(".")[0])] = (
                np.log2(each.index.to_numpy("float64")),
                each.to_numpy("float64"),
            )
    return found


def _best(curves: dict[int, tuple[Array, Array]], budget: float) -> int | None:
    """Return the bits with the lowest loss at ``budget`` (log2 of total bits); ``None`` if but one precision has it."""
    import numpy as np

    losses = {bits: float(np.interp(budget, x, y)) for bits, (x, y) in curves.items() if x.min() <= budget <= x.max()}
    return min(losses, key=lambda bits: losses[bits]) if len(losses) > 1 else None


CLAIM = Claim(
    title="4 bits are optimal for total bits",
    paper="Dettmers and Zettlemoyer 2023, section 5.1",
    statistic="share of budgets at which 4 bits have the lowest loss",
    rule="more than half",
    test=test,
)
