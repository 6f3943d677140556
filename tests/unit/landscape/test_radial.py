"""Directions, profiles, and where a profile climbs."""

from __future__ import annotations

import math

import pytest
import sklearn.isotonic  # noqa: F401 (loaded before a test is timed)
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitlaw.landscape.radial import distances_db, profiles
from bitlaw.landscape.step import BEGIN, END, locate
from bitlaw.landscape.vectors import KINDS, dot, filter_normalized, gaussian, moved, norm, seeds, signs
from surfaces import surface_of

WEIGHTS = {"a": torch.randn(6, 40, generator=torch.Generator().manual_seed(1)), "b": 3 * torch.ones(5, 7)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_direction_has_the_length_of_the_weights(kind: str) -> None:
    direction = KINDS[kind](WEIGHTS, 5)
    assert norm(direction) == pytest.approx(norm(WEIGHTS), rel=1e-5)
    assert {name: (d.shape, d.dtype) for name, d in direction.items()} == {
        name: (w.shape, w.dtype) for name, w in WEIGHTS.items()
    }
    again, other = KINDS[kind](WEIGHTS, 5), KINDS[kind](WEIGHTS, 6)
    assert all(torch.equal(direction[name], again[name]) for name in WEIGHTS)
    assert not any(torch.equal(direction[name], other[name]) for name in WEIGHTS)


def test_a_filter_has_the_length_of_the_row() -> None:
    weights = {**WEIGHTS, "zero": torch.zeros(2, 3)}
    direction = filter_normalized(weights, 0)
    for name, w in weights.items():
        torch.testing.assert_close(direction[name].norm(dim=1), w.norm(dim=1))
    wide = gaussian(WEIGHTS, 0)
    assert not torch.allclose(wide["b"].norm(dim=1), WEIGHTS["b"].norm(dim=1), rtol=0.05)


def test_the_numbers_do_not_depend_on_the_dtype() -> None:
    double = {name: w.double() for name, w in WEIGHTS.items()}
    for kind in KINDS.values():
        one, two = kind(WEIGHTS, 0), kind(double, 0)
        assert all(torch.allclose(one[name].double(), two[name], rtol=1e-6) for name in WEIGHTS)
        assert two["a"].dtype == torch.float64
    assert set(signs(WEIGHTS, 0)["a"].unique().tolist()) == {-1.0, 1.0}


def test_seeds_follow_from_one() -> None:
    assert seeds(0, 5)[:3] == seeds(0, 3) and not set(seeds(0, 50)) & set(seeds(1, 50))
    assert seeds(2**62, 2) == seeds(2**62, 2)


def test_products_do_not_overflow() -> None:
    large = {"a": torch.full((2, 2), 1e30)}
    assert norm(large) == pytest.approx(2e30) and dot(large, large) == pytest.approx(4e60)


def test_distances_are_those_of_the_sqnr() -> None:
    r_db = distances_db(13)
    assert (r_db[0], r_db[-1], len(r_db), r_db[1]) == (-60, 0, 13, -55)
    direction = gaussian(WEIGHTS, 0)
    at = moved(WEIGHTS, direction, 10 ** (r_db[4] / 20))
    noise = {name: at[name] - w for name, w in WEIGHTS.items()}
    assert 10 * math.log10(dot(WEIGHTS, WEIGHTS) / dot(noise, noise)) == pytest.approx(-r_db[4], abs=1e-3)


def test_profiles_are_losses_along_lines() -> None:
    surface = surface_of("gpt2")
    r_db, chosen = [-40.0, -20.0, 0.0], [gaussian(surface.weights, seed) for seed in (1, 2)]
    found = profiles(surface, iter(chosen), r_db)
    assert surface.forwards == 1 + 6
    for direction, profile in zip(chosen, found, strict=True):
        for distance, value in zip(r_db, profile, strict=True):
            at = moved(surface.weights, direction, 10 ** (distance / 20))
            assert surface.losses([at], 1)[0] - surface.loss == pytest.approx(value, abs=1e-10)
    assert found[0] != found[1]
    assert profiles(surface, chosen, r_db, at_once=1) == [pytest.approx(row, abs=1e-10) for row in found]


VOCABULARY, LOSS = 2048, 3.0
HEIGHT = math.log(VOCABULARY) - LOSS


def power(r_db: list[float], at: float, slope: float = 2.0) -> list[float]:
    """Return a loss that grows as a power of the distance and is a tenth of the height at ``at`` dB."""
    return [BEGIN * HEIGHT * 10 ** (slope * (r - at) / 20) for r in r_db]


@given(st.floats(-50, -15), st.floats(0.7, 4), st.sampled_from([13, 25, 61]))
def test_a_power_is_located_exactly(at: float, slope: float, points: int) -> None:
    r_db = distances_db(points)
    step = locate(r_db, [power(r_db, at, slope)], LOSS, VOCABULARY)
    assert step.step_db == pytest.approx(-at, abs=1e-6)
    width = 20 * math.log10(END / BEGIN) / slope
    if at + width < -60 / (points - 1):  # else the end is beyond the last point, or beside a point that was cut off
        # The height cuts the profile's last piece off, so that the end is right to a part of the grid's step.
        assert abs(step.width_db - width) < 60 / (points - 1)
    assert math.isnan(step.step_error_db) and step.height == HEIGHT


def test_the_end_is_located_between_points() -> None:
    r_db = distances_db(121)
    step = locate(r_db, [power(r_db, -30.0)], LOSS, VOCABULARY)
    assert step.width_db == pytest.approx(10 * math.log10(9), abs=0.1)


def test_uncertainty_is_that_over_directions() -> None:
    r_db = distances_db(25)
    step = locate(r_db, [power(r_db, at) for at in (-22.0, -20.0, -18.0)], LOSS, VOCABULARY)
    assert step.step_db == pytest.approx(20) and step.step_error_db == pytest.approx(2 / math.sqrt(3))
    assert step.width_error_db < 0.5


@given(st.integers(0, 1000))
def test_small_waves_and_a_dip_at_the_end_do_not_matter(seed: int) -> None:
    r_db = distances_db(25)
    clean = power(r_db, -20.0)
    noise = torch.randn(25, generator=torch.Generator().manual_seed(seed)).tolist()
    wavy = [value + 0.003 * wave for value, wave in zip(clean, noise, strict=True)]
    wavy[-1] = 0.95 * HEIGHT
    step = locate(r_db, [wavy], LOSS, VOCABULARY)
    assert step.step_db == pytest.approx(20, abs=0.5)


def test_what_is_broken_counts_as_the_height() -> None:
    r_db = distances_db(13)
    profile = [0.0] * 8 + [math.inf, math.nan, math.inf, math.nan, math.nan]
    step = locate(r_db, [profile], LOSS, VOCABULARY)
    assert step.step_db == pytest.approx(25 - 0.5) and step.width_db == pytest.approx(4.0)


def test_what_is_not_in_the_profile_is_not_told() -> None:
    r_db = distances_db(13)
    for profile in ([0.001] * 13, [HEIGHT] * 13, [math.nan] * 13):
        step = locate(r_db, [profile, power(r_db, -20.0)], LOSS, VOCABULARY)
        assert math.isnan(step.step_db) and math.isnan(step.width_db) and math.isnan(step.step_error_db)
    half = locate(r_db, [[min(value, HEIGHT / 2) for value in power(r_db, -20.0)]], LOSS, VOCABULARY)
    assert half.step_db == pytest.approx(20) and math.isnan(half.width_db)
    for loss in (9.0, math.nan):
        assert math.isnan(locate(r_db, [power(r_db, -20.0)], loss, VOCABULARY).step_db)
