"""Intervals hold what they promise, for families that had no part in them."""

from __future__ import annotations

import numpy as np
import pytest

from bitlaw.predictor.base import squash, stretch
from bitlaw.predictor.conformal import calibrate, covered


def made(seed: int, families: int, shift: float, n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return measured values, predictions and families; each family is off by a shift of its own."""
    rng = np.random.default_rng(seed)
    predicted = 10 ** rng.uniform(-3, 0.5, size=(families, n))
    error = 0.3 * rng.standard_normal((families, n)) + shift * rng.standard_normal((families, 1))
    names = np.repeat([f"f{i}" for i in range(families)], n)
    return stretch(squash(predicted) + error).ravel(), predicted.ravel(), names


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_coverage_of_families_that_had_no_part(shift: float) -> None:
    found = []
    for seed in range(40):
        y, predicted, families = made(seed, 6, shift)
        new = families == "f0"
        margins = calibrate(y[~new], predicted[~new], families[~new], 0.9)
        found.append(covered(y[new], *margins.interval(predicted[new])))
    assert 0.85 < np.mean(found) < 0.95


def test_families_that_differ_widen_the_margins() -> None:
    assert calibrate(*made(0, 6, 0.5)).widened > calibrate(*made(0, 6, 0.0)).widened >= 1.0


def test_an_interval_holds_its_prediction_and_grows_with_the_coverage() -> None:
    y, predicted, families = made(1, 5, 0.2)
    low, high = calibrate(y, predicted, families, 0.9).interval(predicted)
    assert (low <= predicted).all() and (predicted <= high).all()
    less = calibrate(y, predicted, families, 0.5).interval(predicted)
    assert (high - low).sum() > (less[1] - less[0]).sum()


def test_one_family_or_few_cells_give_margins_too() -> None:
    y, predicted, families = made(0, 1, 0.0, n=8)
    margins = calibrate(y, predicted, families)
    assert margins.widened == 1.0 and max(margins.low) < 0 < min(margins.high)
