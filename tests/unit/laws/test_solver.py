"""The batched solver finds the optimum that scipy finds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares, minimize

from bitlaw.laws.solver import Setup, best_of, huber, jacobian, refit

X = np.linspace(0.0, 3.0, 30)


def curve(theta: np.ndarray) -> np.ndarray:
    return theta[..., :1] + theta[..., 1:2] * np.exp(-theta[..., 2:3] * X)


def problems(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = curve(np.array([1.0, 2.0, 0.8])) + 0.05 * rng.standard_normal((count, len(X)))
    targets[:, 3] += 1.0  # an outlier, so that Huber's loss matters
    return targets, rng.integers(0, 3, size=targets.shape).astype(float)


@pytest.mark.parametrize("box", [([-9, -9, -9], [9, 9, 9]), ([1.05, 0, 0], [9, 1.8, 9])])
def test_refit_agrees_with_scipy(box: tuple[list[float], list[float]]) -> None:
    low, high = np.array(box[0], float), np.array(box[1], float)
    targets, weights = problems(8, seed=1)
    start = np.clip(np.array([1.0, 2.0, 0.8]), low, high)
    found, converged = refit(
        lambda t, y: curve(t) - y, start, targets, weights, Setup(low, high, 0.1), tolerance=1e-10, steps=200
    )
    assert converged.all()
    for theta, y, w in zip(found, targets, weights, strict=True):
        repeated = np.repeat(np.arange(len(X)), w.astype(int))
        start_inside = np.clip(start, low + 1e-6, high - 1e-6)
        expected = least_squares(
            lambda t, y=y, at=repeated: (curve(t) - y)[at], start_inside, bounds=(low, high), loss="huber",
            f_scale=0.1, xtol=1e-14, ftol=1e-14, gtol=1e-14,
        )  # fmt: skip
        assert huber(curve(theta) - y, w, 0.1) <= expected.cost * (1 + 1e-7) + 1e-12
        np.testing.assert_allclose(theta, expected.x, rtol=2e-3)


def test_refit_stays_where_nothing_changes() -> None:
    targets, _ = problems(1, seed=2)
    setup = Setup(np.array([-9.0] * 4), np.array([9.0] * 4), 0.1)
    found, _ = refit(
        lambda t, y: curve(t[:, :3]) - y, np.array([1, 2, 0.8, 5.0]), targets, np.ones_like(targets), setup
    )
    assert found[0, 3] == pytest.approx(5.0)


def test_huber_is_quadratic_then_linear() -> None:
    np.testing.assert_allclose(huber(np.array([0.1, -0.4]), np.array([1.0, 2.0]), 0.2), 0.005 + 2 * 0.2 * (0.4 - 0.1))


def test_best_of_takes_the_lowest_optimum() -> None:
    # t^4 - t^2 + 0.1 t has two minima; the residual is its distance from a floor.
    def residual(t: np.ndarray) -> np.ndarray:
        return t**4 - t**2 + 0.1 * t + 2.0

    setup = Setup(np.array([-2.0]), np.array([2.0]), 10.0)
    best, _ = best_of(residual, np.array([[0.7], [-0.7]]), setup)
    assert best[0] == pytest.approx(-0.731, abs=0.01)


def test_unknowns_that_share_no_residual_are_moved_together() -> None:
    owner = np.arange(len(X)) % 3 - 1  # every third residual depends on none of the two

    def residual(t: np.ndarray) -> np.ndarray:
        own = np.where(owner >= 0, t[..., 1 + np.maximum(owner, 0)], 1.0)
        return t[..., :1] * X + own**2

    low, high = np.full(3, -9.0), np.array([9.0, 9.0, 2.0])
    theta = np.array([[0.5, 1.0, 2.0], [1.0, -1.0, 0.3]])
    one_by_one = jacobian(residual, theta, Setup(low, high, 0.1))
    together = jacobian(residual, theta, Setup(low, high, 0.1, ((np.array([1, 2]), owner),)))
    np.testing.assert_allclose(together, one_by_one, atol=1e-9)
    assert one_by_one.any(axis=(0, 1)).all()


def test_many_starts_at_once_reach_what_l_bfgs_reaches() -> None:
    targets, _ = problems(1, seed=3)
    rng = np.random.default_rng(0)
    starts = rng.uniform([-3, -3, 0.1], [3, 3, 3], size=(12, 3))
    setup = Setup(np.array([-9.0, -9.0, 0.01]), np.array([9.0, 9.0, 9.0]), 0.1)
    _, lowest = best_of(lambda t: curve(t) - targets[0], starts, setup)

    def objective(t: np.ndarray) -> float:
        return float(huber(curve(t) - targets[0], np.ones(1), 0.1))

    box = list(zip(setup.low, setup.high, strict=True))
    others = [minimize(objective, begin, method="L-BFGS-B", bounds=box, tol=1e-13).fun for begin in starts]
    assert lowest == pytest.approx(min(others), rel=1e-7)


def test_unknowns_held_by_their_bounds_stay() -> None:
    targets, weights = problems(3, seed=4)
    at = np.array([0.7, 0.8, 0.9])
    low, high = np.tile([-9.0, -9.0, 0.0], (3, 1)), np.tile([9.0, 9.0, 9.0], (3, 1))
    low[:, 2] = high[:, 2] = at
    found, _ = refit(lambda t, y: curve(t) - y, np.array([1.0, 2.0, 0.8]), targets, weights, Setup(low, high, 0.1))
    np.testing.assert_array_equal(found[:, 2], at)


def test_unknowns_that_the_data_cannot_tell_apart_are_fitted_all_the_same() -> None:
    # Only the sum of two unknowns is seen: the system is singular but for its damping, which falls at each of the many
    # steps that a small threshold takes.
    targets = X + np.random.default_rng(0).standard_normal((20, len(X)))
    setup = Setup(np.array([-50.0, -50.0]), np.array([50.0, 50.0]), 1e-4)

    def of(theta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (theta[..., :1] + theta[..., 1:]) * X - y

    found, _ = refit(of, np.array([9.0, -9.0]), targets, np.ones_like(targets), setup, tolerance=0.0, steps=300)
    assert np.abs(found.sum(axis=1) - 1.0).max() < 0.5
