"""The noise law, and what it missed in alike cells: what advice predicts with.

A law has one shift for each method, whatever the bits; but which method is better depends on the bits and the family
(AWQ beats GPTQ on OPT in 2 bits and loses in 3 with one scale a row). So the residuals of measured cells by the same
method are added, each weighing the more, the more alike its size, format and family are (Nadaraya-Watson with a prior
of no residual). Far from all cells the law is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.predictor.base import Model, squash, stretch
from bitlaw.predictor.noise_law import best

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.predictor.base import Array, Predict

WIDTHS = {"log_n": 1.0, "noise_db": 2.0, "effective_bits": 1.0}
"""By feature: the distance over which a cell's weight falls by a factor of e."""
OTHER = {"family": 2.0, "kind": 2.0}
"""By category: the distance, in widths, of two cells that differ in it."""
PRIOR = 0.1
"""Weight of the law by itself, in cells that are equal to the one asked for."""


def learn(rows: pd.DataFrame, y: Array, seed: int) -> Predict:
    """Return the law plus the weighted mean of its squashed residuals in cells of the same method.

    Args:
        rows: features, one row a cell.
        y: the target of each, (n,).
        seed: of nothing: the fit draws no numbers.
    """
    law = best(rows)(rows, y, seed)
    residuals = squash(y) - squash(law(rows))
    smallest, worst = float(rows["log_n"].min()), float(rows["base_nll"].max())

    def predict(others: pd.DataFrame) -> Array:
        weights = _weights(others, rows)
        # What is smaller than all that was measured counts as the smallest: the slope over sizes has no end there,
        # where towards larger models losses end at zero.
        held = others.assign(log_n=others["log_n"].clip(lower=smallest), base_nll=others["base_nll"].clip(upper=worst))
        return stretch(squash(law(held)) + weights @ residuals / (weights.sum(axis=1) + PRIOR))

    return predict


def _weights(others: pd.DataFrame, rows: pd.DataFrame) -> Array:
    """Return (others, rows): how alike two cells are, 1 if they are equal and 0 if their methods differ."""
    import numpy as np

    distance = np.zeros((len(others), len(rows)))
    for name, width in WIDTHS.items():
        ours, theirs = (frame[name].to_numpy("float64") for frame in (others, rows))
        distance += np.abs(ours[:, None] - theirs) / width
    for name, width in OTHER.items():
        distance += width * _differ(others, rows, name)
    return np.asarray(np.exp(-distance) * (1.0 - _differ(others, rows, "method")))


def _differ(others: pd.DataFrame, rows: pd.DataFrame, name: str) -> Array:
    """Return (others, rows): 1 where the category ``name`` differs, else 0."""
    import numpy as np

    both = np.concatenate([frame[name].astype(str).to_numpy(str) for frame in (others, rows)])
    codes = np.unique(both, return_inverse=True)[1]  # numbers compare a hundred times faster than words
    return np.asarray(codes[: len(others), None] != codes[len(others) :], dtype="float64")


ALIKE = Model(
    name="law_alike",
    title="noise law and its residuals in alike cells",
    role="candidate",
    complexity=4,
    learn=learn,
    needs=("noise_db", "log_n", "base_nll", "effective_bits"),
)
