"""Gradient boosting in which more effective bits, and more of what goes with them, never predict more loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.predictor.base import Model, squash, stretch
from bitlaw.predictor.features import FEATURES, Encoder

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.predictor.base import Array, Predict

SIGNS = {feature.name: feature.sign for feature in FEATURES}


def learn(rows: pd.DataFrame, y: Array, seed: int) -> Predict:
    """Return 200 shallow trees on the squashed target."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    encoder = Encoder(rows, tuple(SIGNS), ("method", "kind"))
    signs = [SIGNS[name] for name in encoder.names] + [0] * (encoder.width - len(encoder.names))
    trees = HistGradientBoostingRegressor(
        max_iter=200,
        learning_rate=0.05,
        max_leaf_nodes=8,
        min_samples_leaf=5,
        monotonic_cst=signs,
        early_stopping=False,
        random_state=seed,
    ).fit(encoder.plain(rows), squash(y))
    return lambda others: stretch(trees.predict(encoder.plain(others)))


MODEL = Model(
    name="boosting",
    title="gradient boosting, monotone in bits",
    role="candidate",
    complexity=6,
    learn=learn,
)
