"""The noise law, and gradient boosting of what it leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.predictor.base import Model, squash, stretch
from bitlaw.predictor.features import FEATURES, Encoder
from bitlaw.predictor.noise_law import best

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.predictor.base import Array, Predict

SHARE = 0.5
"""Of the boosted residual that is added: half, since all of it follows the training families too closely."""


def learn(rows: pd.DataFrame, y: Array, seed: int) -> Predict:
    """Return the law plus ``SHARE`` of 100 shallow trees on its squashed residuals."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    law = best(rows)(rows, y, seed)
    encoder = Encoder(rows, tuple(feature.name for feature in FEATURES), ("method", "kind"))
    trees = HistGradientBoostingRegressor(
        max_iter=100, learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=5, early_stopping=False, random_state=seed
    ).fit(encoder.plain(rows), squash(y) - squash(law(rows)))
    return lambda others: stretch(squash(law(others)) + SHARE * trees.predict(encoder.plain(others)))


MODEL = Model(
    name="law_boosting",
    title="noise law and boosted residuals",
    role="candidate",
    complexity=5,
    learn=learn,
)
