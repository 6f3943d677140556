"""The random forest of Xu et al. 2024: the loss after quantization from size, loss, SQNR, format and landscape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.predictor.base import Model
from bitlaw.predictor.features import Encoder

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.predictor.base import Array, Predict

NAMES = (
    "log_n",
    "base_nll",
    "bits",
    "effective_bits",
    "log_block",
    "noise_db",
    "step_db",
    "step_width_db",
    "log_trace",
)


def learn(rows: pd.DataFrame, y: Array, seed: int) -> Predict:
    """Return a forest of 100 trees on the loss itself; the paper's own settings are not known."""
    from sklearn.ensemble import RandomForestRegressor

    encoder = Encoder(rows, NAMES, ("method", "kind"))
    base = rows["base_nll"].to_numpy("float64")
    forest = RandomForestRegressor(100, random_state=seed).fit(encoder.plain(rows), base + y)

    def predict(others: pd.DataFrame) -> Array:
        loss: Array = forest.predict(encoder.plain(others)) - others["base_nll"].to_numpy("float64")
        return loss

    return predict


MODEL = Model(
    name="forest",
    title="random forest on the loss after quantization",
    role="baseline",
    learn=learn,
    source="Xu et al. 2024, arXiv:2410.12119",
)
