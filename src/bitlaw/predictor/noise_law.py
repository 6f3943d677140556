"""The noise law: the loss added is a soft step of how strong the noise is.

delta = S ln(1 + exp(z)) with z linear in the features. For weak noise delta is S exp(z): with the SQNR in dB as the
feature, a power of the noise-to-signal ratio. Beyond the step it grows with the decibels, as radial profiles do (the
step-like radial loss of Xu et al. 2024, arXiv:2410.12119). The form is the project's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.predictor.base import squash
from bitlaw.predictor.features import FEATURES, Encoder

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from bitlaw.predictor.base import Array, Predict

SHRINK = 0.03
"""Weight of squared slopes (per standard deviation) beside squared residuals: it keeps slopes of few sizes small."""
OUTLIER = 0.3
SIGNS = {feature.name: feature.sign for feature in FEATURES}
SIZE = ("noise_db", "log_n", "base_nll")
RADIAL = ("log_radial",)


def learner(names: tuple[str, ...]) -> Callable[[pd.DataFrame, Array, int], Predict]:
    """Return the function that fits the law with the features ``names``, and a shift for each method; see ``Model``."""

    def learn(rows: pd.DataFrame, y: Array, seed: int) -> Predict:
        encoder = Encoder(rows, names, ("method",))
        x = encoder.scaled(rows)
        constants = _fit(x, y, [SIGNS[name] for name in encoder.names])
        return lambda others: _law(constants, encoder.scaled(others))

    return learn


def best(rows: pd.DataFrame) -> Callable[[pd.DataFrame, Array, int], Predict]:
    """Return the law that residuals are best taken from, along the radial profile where there is one; see ``Model``."""
    return learner(RADIAL if "log_radial" in rows and bool(rows["log_radial"].notna().all()) else SIZE)


def _law(constants: Array, x: Array) -> Array:
    """Return S ln(1 + exp(z)); ``constants`` are ln S, the offset of z and its slopes."""
    import numpy as np

    return np.asarray(np.exp(constants[0]) * np.logaddexp(0.0, constants[1] + x @ constants[2:]))


def _fit(x: Array, y: Array, signs: list[int]) -> Array:
    """Return the constants; slopes of features with a known sign keep it."""
    import numpy as np
    from scipy.optimize import least_squares

    p = x.shape[1]
    signs = signs + [0] * (p - len(signs))
    low = np.array([-3.0, -20.0, *(0.0 if sign > 0 else -20.0 for sign in signs)])
    high = np.array([3.0, 20.0, *(0.0 if sign < 0 else 20.0 for sign in signs)])
    target, weight = squash(y), SHRINK * len(y) ** 0.5

    def residuals(constants: Array) -> Array:
        shrunk = np.concatenate([weight * constants[2:], [weight * constants[0]]])
        return np.concatenate([squash(_law(constants, x)) - target, shrunk])

    start = np.clip(np.array([0.0, -1.0, *(float(sign) for sign in signs)]), low + 1e-6, high - 1e-6)
    found = least_squares(residuals, start, bounds=(low, high), loss="soft_l1", f_scale=OUTLIER, max_nfev=300)
    return np.asarray(found.x)
