"""Bounded robust least squares: one problem from many starts, or many small problems side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from bitlaw.laws.base import Array

    Mask = np.ndarray[Any, np.dtype[np.bool_]]

LEAST_DAMPING = 1e-9
"""Share of a curvature that is added to it where a system is singular without."""


@dataclass(frozen=True)
class Setup:
    """What a fit is bound to.

    Attributes:
        low: smallest value of each of p unknowns, float64 (p,); (b, p) where problems have bounds of their own.
        high: largest value of each, likewise.
        threshold: residuals up to this size count squared, larger ones linearly (Huber).
        blocks: unknowns that can be moved together for the derivatives, as each residual depends on one of them:
            their indices (k,), and for each residual which of the k it is (n,), -1 for none. Unknowns in no block are
            moved one by one.
    """

    low: Array
    high: Array
    threshold: float
    blocks: tuple[tuple[Any, Any], ...] = ()


def huber(residuals: Array, weights: Array, threshold: float) -> Array:
    """Return weighted sums (...) of Huber losses of ``residuals`` (..., n): r^2/2 up to ``threshold``, else linear."""
    import numpy as np

    size = np.abs(residuals)
    loss = np.where(size <= threshold, 0.5 * size**2, threshold * (size - 0.5 * threshold))
    return np.asarray((weights * loss).sum(-1))


def polish(residuals: Callable[[Array], Array], begin: Array, setup: Setup) -> tuple[Array, float]:
    """Return the local optimum reached from ``begin`` (p,) by SciPy's trust region, and its Huber loss.

    Args:
        residuals: maps unknowns (..., p) to residuals (..., n).
        begin: a point within the bounds.
        setup: bounds and Huber's threshold.
    """
    from scipy.optimize import least_squares

    found = least_squares(
        residuals, begin, jac=lambda one: jacobian(residuals, one[None], setup)[0],
        bounds=(setup.low, setup.high), loss="huber", f_scale=setup.threshold, x_scale="jac",
        ftol=1e-12, xtol=1e-12, gtol=1e-12, max_nfev=400,
    )  # fmt: skip
    return found.x, float(found.cost)


def best_of(residuals: Callable[[Array], Array], starts: Array, setup: Setup) -> tuple[Array, float]:
    """Return the best local optimum reached from ``starts`` (k, p), and its Huber loss.

    All starts descend side by side by ``refit``; the best two end points are polished.

    Args:
        residuals: maps unknowns (..., p) to residuals (..., n).
        starts: starting points within the bounds.
        setup: bounds and Huber's threshold.
    """
    import numpy as np

    none = np.zeros((len(starts), np.shape(residuals(starts[0]))[-1]))
    ends, _ = refit(lambda t, _: residuals(t), starts, none, np.ones_like(none), setup)
    order = np.argsort(huber(residuals(ends), np.ones(1), setup.threshold), kind="stable")
    polished = [polish(residuals, ends[i], setup) for i in order[:2]]
    return min(polished, key=lambda pair: pair[1])


def jacobian(residuals: Callable[[Array], Array], theta: Array, setup: Setup, middle: Array | None = None) -> Array:
    """Return derivatives (b, n, p) of ``residuals`` (maps (b, p) to (b, n)) by finite differences within bounds.

    ``middle`` is ``residuals(theta)`` where that is known.
    """
    import numpy as np

    middle = residuals(theta) if middle is None else middle
    p, high = theta.shape[1], np.broadcast_to(setup.high, theta.shape)
    found = np.zeros((*middle.shape, p))
    together = {int(i) for slots, _ in setup.blocks for i in slots}
    alone = [(np.array([i]), None) for i in range(p) if i not in together]
    for slots, owner in (*alone, *setup.blocks):
        step = 1e-6 * np.maximum(1.0, np.abs(theta[:, slots]))
        step = np.where(theta[:, slots] + step > high[:, slots], -step, step)
        moved = theta.copy()
        moved[:, slots] += step
        change = residuals(moved) - middle
        if owner is None:
            found[:, :, slots[0]] = change / step
        else:
            rows = np.flatnonzero(owner >= 0)
            found[:, rows, slots[owner[rows]]] = change[:, rows] / step[:, owner[rows]]
    return found


def refit(
    residuals: Callable[[Array, Array], Array],
    start: Array,
    targets: Array,
    weights: Array,
    setup: Setup,
    *,
    tolerance: float = 1e-7,
    steps: int = 100,
) -> tuple[Array, Mask]:
    """Solve b robust least-squares problems at once, all from one start or each from its own.

    The method is Levenberg-Marquardt with Huber's weights, projected on the bounds.

    Args:
        residuals: maps unknowns (b, p) and targets (b, n) to residuals (b, n).
        start: (p,) or (b, p); it is put within the bounds.
        targets: (b, n), the data of each problem.
        weights: (b, n), how often each datum counts.
        setup: bounds and Huber's threshold.
        tolerance: a problem is done when a step lowers its objective by this share or less.
        steps: most steps.

    Returns:
        The unknowns (b, p), and which problems converged (b,).
    """
    import numpy as np

    shape = (len(targets), start.shape[-1])
    low, high = (np.broadcast_to(limit, shape) for limit in (setup.low, setup.high))
    theta = np.clip(np.broadcast_to(start, shape), low, high)
    converged = np.zeros(len(targets), dtype=bool)
    damping = np.full(len(targets), 1e-3)
    for _ in range(steps):
        active = np.flatnonzero(~converged)
        if not len(active):
            break
        y, w, now = targets[active], weights[active], theta[active]
        box = Setup(low[active], high[active], setup.threshold, setup.blocks)

        def of(unknowns: Array, y: Array = y) -> Array:
            return residuals(unknowns, y)

        r = of(now)
        before = huber(r, w, box.threshold)
        slopes = jacobian(of, now, box, r)
        new = np.clip(now + _step(r, slopes, now, w, box, damping[active]), box.low, box.high)
        after = huber(of(new), w, box.threshold)
        better = after < before
        theta[active] = np.where(better[:, None], new, now)
        damping[active] *= np.where(better, 0.2, 5.0)
        converged[active] = (
            (better & (before - after <= tolerance * before)) | (before == 0.0) | (damping[active] > 1e6)
        )
    return theta, converged


def _step(r: Array, slopes: Array, theta: Array, weights: Array, setup: Setup, damping: Array) -> Array:
    """Return the damped Gauss-Newton step (b, p); an unknown that pushes against its bound stays."""
    import numpy as np

    w = weights * np.minimum(1.0, setup.threshold / np.maximum(np.abs(r), 1e-300))
    gradient = np.einsum("bnp,bn->bp", slopes, w * r)
    free = ~(((theta <= setup.low) & (gradient > 0)) | ((theta >= setup.high) & (gradient < 0)))
    curvature = np.matmul(np.swapaxes(slopes, 1, 2) * w[:, None, :], slopes) * (free[:, :, None] & free[:, None, :])
    diagonal = np.einsum("bpp->bp", curvature)
    # An unknown that does not move the residuals gets a unit curvature, so that the system stays solvable.
    floor = 1e-12 * np.maximum(diagonal.max(axis=1, keepdims=True), 1e-300)
    added = np.where(diagonal > floor, damping[:, None] * diagonal, 1.0)
    unit, right = np.eye(theta.shape[1]), (gradient * free)[:, :, None]
    try:
        step = np.linalg.solve(curvature + added[:, :, None] * unit, right)
    except np.linalg.LinAlgError:
        # Unknowns that the data cannot tell apart, after many steps of which each lowered the damping.
        added = np.maximum(added, LEAST_DAMPING * np.maximum(diagonal, floor))
        step = np.linalg.solve(curvature + added[:, :, None] * unit, right)
    return np.asarray(-step[:, :, 0])
