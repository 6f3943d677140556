"""The nearest measured cell: of the same method if there is one, the closest in noise, size and loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.predictor.base import Model
from bitlaw.predictor.features import Encoder

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.predictor.base import Array, Predict

NAMES = ("log_n", "base_nll", "effective_bits", "noise_db")
OTHER_METHOD = 100.0


def nearest(encoder: Encoder, rows: pd.DataFrame, others: pd.DataFrame) -> tuple[Array, Array]:
    """Return for each of ``others`` the place of the nearest of ``rows`` and its distance in standard deviations."""
    import numpy as np
    from scipy.spatial import KDTree

    def points(frame: pd.DataFrame) -> Array:
        numbers, ones = np.split(encoder.scaled(frame), [len(encoder.names)], axis=1)
        return np.concatenate([numbers, OTHER_METHOD * ones], axis=1)

    distance, place = KDTree(points(rows)).query(points(others))
    return np.asarray(place), np.asarray(distance)


def learn(rows: pd.DataFrame, y: Array, seed: int) -> Predict:
    """Return a look-up; it needs no seed."""
    encoder = Encoder(rows, NAMES, ("method",))
    return lambda others: y[nearest(encoder, rows, others)[0]]


MODEL = Model(name="nearest", title="nearest measured cell", role="baseline", learn=learn)
