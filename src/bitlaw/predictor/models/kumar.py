"""Kumar's law (2024) for each method and kind of element, as a baseline that predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.predictor.base import Model

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from bitlaw.predictor.base import Array, Predict

GAMMA_D = 0.5068
"""The paper's exponent of training tokens; held where tokens hardly vary beside sizes."""
SATURATED = 1.0
FEWEST = 6


def learn(rows: pd.DataFrame, y: Array, seed: int) -> Predict:
    """Return C_T D^gamma_D N^-gamma_N exp(-P / gamma_post), a robust line in logarithms.

    Cells at or below zero or above 1 nat are left out, as the law's own fit does. A method or kind that was too
    rarely measured is predicted from the fit of its method, or of all.
    """
    good = (y > 0) & (y <= SATURATED)
    if good.sum() < FEWEST:
        good = y > 0
    lines: dict[tuple[str, ...], Callable[[pd.DataFrame], Array]] = {(): _line(rows[good], y[good])}
    for by in (["method"], ["method", "kind"]):
        for names, part in rows[good].groupby(by, sort=True):
            if len(part) >= FEWEST and part["effective_bits"].nunique() > 1:
                lines[tuple(map(str, names))] = _line(part, y[good][rows[good].index.get_indexer(part.index)])
    return lambda others: _by_line(lines, others)


def _by_line(lines: dict[tuple[str, ...], Callable[[pd.DataFrame], Array]], rows: pd.DataFrame) -> Array:
    import numpy as np

    found = np.empty(len(rows))
    rows = rows.reset_index(drop=True)
    for (method, kind), part in rows.groupby(["method", "kind"], sort=True):
        keys: tuple[tuple[str, ...], ...] = ((str(method), str(kind)), (str(method),), ())
        line = next(lines[key] for key in keys if key in lines)
        found[part.index.to_numpy()] = line(part)
    return found


def _line(rows: pd.DataFrame, y: Array) -> Callable[[pd.DataFrame], Array]:
    import numpy as np

    if not len(y):
        return lambda others: np.zeros(len(others))
    tokens = rows["log_d"].median()

    def shift(others: pd.DataFrame) -> Array:
        return GAMMA_D * others["log_d"].fillna(0.0 if np.isnan(tokens) else tokens).to_numpy("float64")

    def design(others: pd.DataFrame) -> Array:
        return np.stack([np.ones(len(others)), others["log_n"], others["effective_bits"]], axis=1).astype("float64")

    x, target, weights = design(rows), np.log(y) - shift(rows), np.ones(len(y))
    slopes: Array = np.zeros(3)
    for _ in range(20):  # Huber's estimate, by weights
        root = np.sqrt(weights)[:, None]
        slopes = np.asarray(np.linalg.lstsq(x * root, target * root[:, 0], rcond=None)[0], dtype="float64")
        weights = np.minimum(1.0, 0.25 / np.maximum(np.abs(target - x @ slopes), 1e-9))
    return lambda others: np.exp(np.clip(design(others) @ slopes + shift(others), -50.0, 5.0))


MODEL = Model(
    name="kumar",
    title="Kumar's law by method and kind of element",
    role="baseline",
    learn=learn,
    source="Kumar et al. 2024, arXiv:2411.04330, post-training term",
)
