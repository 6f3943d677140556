"""What random noise of a cell's SQNR adds, between the points of a profile."""

from __future__ import annotations

import math

import pytest

from bitlaw.landscape.columns import radial_delta_nll

PROFILE = [(0.0, 4.0), (10.0, 1.0), (20.0, 0.01), (30.0, -0.001)]


@pytest.mark.parametrize(
    ("sqnr_db", "expected"),
    [(0.0, 4.0), (5.0, 2.0), (10.0, 1.0), (15.0, 0.1), (25.0, 0.0045), (30.0, -0.001)],
)
def test_it_is_logarithmic_above_zero_and_linear_else(sqnr_db: float, expected: float) -> None:
    assert radial_delta_nll(PROFILE, sqnr_db) == pytest.approx(expected)


def test_it_is_not_known_outside_of_the_profile() -> None:
    for sqnr_db in (-0.1, 30.1, math.inf, math.nan, None):
        assert math.isnan(radial_delta_nll(PROFILE, sqnr_db))
    assert math.isnan(radial_delta_nll([], 10.0))
