"""The noise law, and a Gaussian process on what it leaves."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from bitlaw.predictor.base import Model, squash, stretch
from bitlaw.predictor.features import Encoder
from bitlaw.predictor.noise_law import best

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.predictor.base import Array, Predict

MOST = 300
"""Cells that the process is conditioned on: its cost grows with their cube."""
NAMES = ("log_n", "base_nll", "noise_db", "effective_bits")


def learn(rows: pd.DataFrame, y: Array, seed: int) -> Predict:
    """Return the law plus the posterior mean of a process on its squashed residuals.

    The family is an input: sizes of a family share what the law misses, and a new family gets none of it.
    """
    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    law = best(rows)(rows, y, seed)
    encoder = Encoder(rows, NAMES, ("method", "kind", "family"))
    drawn = np.sort(np.random.default_rng(seed).permutation(len(rows))[:MOST])
    kernel = ConstantKernel(0.2, (1e-3, 10.0)) * RBF(2.0, (0.5, 50.0)) + WhiteKernel(0.1, (1e-3, 10.0))
    process = GaussianProcessRegressor(kernel, random_state=seed)
    residuals = squash(y) - squash(law(rows))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound is an answer too
        process.fit(encoder.scaled(rows)[drawn], residuals[drawn])
    return lambda others: stretch(squash(law(others)) + process.predict(encoder.scaled(others)))


MODEL = Model(
    name="law_process",
    title="noise law and a Gaussian process on its residuals",
    role="candidate",
    complexity=4,
    learn=learn,
)
