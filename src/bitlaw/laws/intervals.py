"""How sure the constants of a fit are: by resampling, and by the profile of the objective."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitlaw.laws.solver import Setup, huber, jacobian, refit

if TYPE_CHECKING:
    from bitlaw.laws.base import Array
    from bitlaw.laws.model import Model

CHUNK = 4_000_000
# Beyond these numbers of residuals (all resamples of a law together; one profile) less is done: see ``docs/laws.md``.
REFITTED = 8_000_000
PROFILED = 100_000
CLUSTERS = 5


def bootstrap(model: Model, theta: Array, rng: Any, bootstraps: int, work: int) -> tuple[Array, Any, str]:
    """Return resampled unknowns (b, p), which of them converged (b,), and a sentence that says what was resampled.

    Args:
        model: the law on its rows.
        theta: its optimum (p,).
        rng: NumPy's generator.
        bootstraps: b.
        work: residuals in all resamples of the law; beyond ``REFITTED`` one step is taken instead of a refit.
    """
    import numpy as np

    n, p = len(model.target), len(theta)
    if not bootstraps or not p:
        return np.empty((0, p)), np.empty(0, dtype=bool), "no bootstrap"
    clusters = model.layout.problem.rows["model"].astype(str).to_numpy()
    names, member = np.unique(clusters, return_inverse=True)
    by_model = model.law.resample == "model" and len(names) >= CLUSTERS
    if by_model:
        counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=bootstraps)
        how = f"{bootstraps} resamples of the {len(names)} models, each drawn with all its points, with replacement"
    else:
        scale = np.sqrt(n / (n - p))
        said = f"centred and scaled by sqrt(n/df) = {scale:.3g}"
        how = f"{bootstraps} resamples of the {n} log residuals, {said}"
    if work > REFITTED:
        how += "; one Newton step from the optimum instead of a refit, as there are many"
        drawn = _steps(model, theta, counts, member) if by_model else _steps_of_residuals(model, theta, rng, bootstraps)
        return drawn, np.ones(bootstraps, dtype=bool), how
    size = max(1, CHUNK // (n * (p + 2)))
    parts = []
    for i in range(0, bootstraps, size):
        count = min(size, bootstraps - i)
        if by_model:
            weights, targets = counts[i : i + count, member].astype("float64"), np.tile(model.target, (count, 1))
        else:
            weights, targets = np.ones((count, n)), model.log(theta) + rng.choice(_rest(model, theta), size=(count, n))
        parts.append(refit(model.residuals, theta, targets, weights, model.layout.setup))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]), how


def _rest(model: Model, theta: Array) -> Array:
    """Return the log residuals, centred and scaled to the degrees of freedom."""
    import numpy as np

    rest = model.target - model.log(theta)
    return np.asarray((rest - rest.mean()) * np.sqrt(len(rest) / (len(rest) - len(theta))))


def _slopes(model: Model, theta: Array) -> tuple[Array, Array]:
    """Return the derivatives (n, p) of the log predictions, 0 where an unknown is at its bound, and the residuals."""
    import numpy as np

    setup = model.layout.setup
    slopes = jacobian(lambda t: model.residuals(t, model.target), theta[None], setup)[0]
    edge = 1e-6 * (setup.high - setup.low)
    free = (theta > setup.low + edge) & (theta < setup.high - edge)
    return np.where(free, slopes, 0.0), model.residuals(theta, model.target)


def _curvature(residuals: Array, threshold: float) -> Array:
    """Return for each residual the second derivative of its Huber loss, smoothed where few lie in the square part."""
    import numpy as np

    width = max(threshold, 0.5 * float(np.median(np.abs(residuals))))
    return np.asarray((np.abs(residuals) <= width) * (threshold / width))


def _steps(model: Model, theta: Array, counts: Array, member: Any) -> Array:
    """Return (b, p): one Newton step from ``theta`` for each draw of clusters, ``counts`` (b, clusters)."""
    import numpy as np

    slopes, r = _slopes(model, theta)
    threshold = model.layout.setup.threshold
    gradient = np.zeros((counts.shape[1], len(theta)))
    np.add.at(gradient, member, slopes * np.clip(r, -threshold, threshold)[:, None])
    hessian = np.zeros((counts.shape[1], len(theta), len(theta)))
    np.add.at(hessian, member, slopes[:, :, None] * slopes[:, None, :] * _curvature(r, threshold)[:, None, None])
    return _moved(model, theta, np.einsum("bc,cpq->bpq", counts, hessian), counts @ gradient)


def _steps_of_residuals(model: Model, theta: Array, rng: Any, bootstraps: int) -> Array:
    """Return (b, p): one Newton step from ``theta`` for each draw of residuals."""
    import numpy as np

    slopes, r = _slopes(model, theta)
    threshold, rest = model.layout.setup.threshold, _rest(model, theta)
    hessian = (slopes * _curvature(r, threshold)[:, None]).T @ slopes
    gradients = []
    for _ in range(bootstraps):
        drawn = -rng.choice(rest, size=len(rest))
        gradients.append(np.clip(drawn, -threshold, threshold) @ slopes)
    return _moved(model, theta, np.tile(hessian, (bootstraps, 1, 1)), np.array(gradients))


def _moved(model: Model, theta: Array, hessian: Array, gradient: Array) -> Array:
    import numpy as np

    setup = model.layout.setup
    step = np.einsum("bpq,bq->bp", np.linalg.pinv(hessian, rcond=1e-10, hermitian=True), gradient)
    return np.asarray(np.clip(theta - step, setup.low, setup.high))


def profile(model: Model, theta: Array, level: float) -> tuple[Array, Array] | None:
    """Return the ends (p,), (p,) of the profile intervals, infinite where the profile does not close.

    An end is where the objective, all other unknowns fitted anew, has risen by the ``level`` quantile of chi-square
    with one degree of freedom times half the scale E[psi^2] / E[psi'] of the Huber loss (the likelihood-ratio-type
    test of M-estimation, Schrader and Hettmansperger 1980). Rows count as independent. ``None`` if it is too much work.
    """
    import numpy as np
    from scipy.stats import chi2

    n, p, setup = len(model.target), len(theta), model.layout.setup
    if not p or n * p * (p + 2) > PROFILED:
        return None
    slopes, r = _slopes(model, theta)
    second, first = _curvature(r, setup.threshold), np.clip(r, -setup.threshold, setup.threshold)
    if not second.any() or not first.any():
        return None
    scale = (first**2).mean() / second.mean() * n / (n - p)
    rise = float(chi2.ppf(level, 1)) * scale / 2.0
    spread = np.diag(np.linalg.pinv((slopes * second[:, None]).T @ slopes, rcond=1e-12, hermitian=True)) * scale
    wide = setup.high - setup.low
    steps = np.clip(np.sqrt(np.maximum(spread, 0.0) * float(chi2.ppf(level, 1))), 1e-6 * wide, wide)
    lowest = float(huber(r, np.ones(1), setup.threshold))
    return _search(model, theta, steps, rise, lowest)


def _search(model: Model, theta: Array, steps: Array, rise: float, lowest: float) -> tuple[Array, Array]:
    """Return where each unknown's profile has risen by ``rise`` on either side, all of them searched side by side."""
    import numpy as np

    setup, p = model.layout.setup, len(theta)
    which, sign = np.tile(np.arange(p), 2), np.repeat([-1.0, 1.0], p)
    room = np.where(sign < 0, theta[which] - setup.low[which], setup.high[which] - theta[which])
    step, rows = np.minimum(steps[which], room), np.arange(2 * p)
    now, found = np.tile(theta, (2 * p, 1)), np.full(2 * p, np.nan)
    targets, own = np.tile(model.target, (2 * p, 1)), np.eye(p, dtype=bool)[which]
    for _ in range(12):
        at = theta[which] + sign * step
        now[rows, which] = at
        # The unknown in question is held by bounds that leave it no room.
        low, high = (np.where(own, at[:, None], limit) for limit in (setup.low, setup.high))
        held = Setup(low, high, setup.threshold, setup.blocks)
        now, _ = refit(model.residuals, now, targets, np.ones_like(targets), held)
        risen = huber(model.residuals(now, model.target), np.ones(1), setup.threshold) - lowest
        open_end = (step >= room) & (risen < rise)
        done = (np.abs(risen / rise - 1.0) < 0.02) | open_end
        found = np.where(open_end, sign * np.inf, at)
        if done.all():
            break
        factor = np.sqrt(rise / np.maximum(risen, 1e-12 * rise))
        step = np.where(done, step, np.minimum(step * np.clip(factor, 0.3, 3.0), room))
    return found[:p], found[p:]
