"""A random forest on the loss added, with every feature there is: what the paper's forest could be at best."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.predictor.base import Model, squash, stretch
from bitlaw.predictor.features import FEATURES, Encoder

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.predictor.base import Array, Predict


def learn(rows: pd.DataFrame, y: Array, seed: int) -> Predict:
    """Return a forest of 100 trees on the squashed target."""
    from sklearn.ensemble import RandomForestRegressor

    encoder = Encoder(rows, tuple(feature.name for feature in FEATURES), ("method", "kind"))
    forest = RandomForestRegressor(100, random_state=seed).fit(encoder.plain(rows), squash(y))
    return lambda others: stretch(forest.predict(encoder.plain(others)))


MODEL = Model(
    name="forest_delta",
    title="random forest on the loss added, all features",
    role="candidate",
    complexity=7,
    learn=learn,
)
