"""The one fitter of all laws: robust least squares on logarithms, bootstrap intervals, and what the data cannot tell.

The objective is the sum of Huber losses of log(measured) - log(predicted), as in Hoffmann et al. 2022 (eq. 3).
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from bitlaw.artifacts import canonical
from bitlaw.laws.base import Law, LawSettings, start
from bitlaw.laws.model import Layout, Model
from bitlaw.laws.record import Fitted, record
from bitlaw.laws.solver import best_of, huber, refit

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.laws.base import Array

CANDIDATES = 2048
CHUNK = 4_000_000


def fit(law: Law, table: pd.DataFrame, settings: LawSettings, *, seed: int, bootstraps: int) -> dict[str, Any]:
    """Fit ``law`` to ``table`` and return the record of it (plain JSON values).

    Args:
        law: the law.
        table: the results table.
        settings: an instance of ``law.settings``.
        seed: of starting points and bootstraps.
        bootstraps: number of resamples behind each interval.

    Returns:
        ``fits``, one entry a problem; ``excluded``, rows by reason; ``not_fitted``, sub-groups with the reason.

    Raises:
        UserError: the table lacks a column or rows, or the settings name a text that it does not have.
    """
    selection = start(law, table, settings)
    fits = []
    for problem in law.select(selection, settings):
        layout = Layout(problem, settings.huber)
        n, p = len(problem.rows), len(layout.slots)
        if n <= p:
            selection.refuse(
                problem.by, n, f"{n} points for {p} constants: no degree of freedom is left to check the fit"
            )
        else:
            fits.append(_fit(law, layout, settings, seed, bootstraps))
    if not fits and not selection.not_fitted:
        selection.refuse({}, 0, "no row of the table is left for this law; see what was excluded")
    return {
        "name": law.name,
        "settings": settings.model_dump(mode="json"),
        "fits": fits,
        "excluded": selection.excluded,
        "not_fitted": selection.not_fitted,
    }


def _fit(law: Law, layout: Layout, settings: LawSettings, seed: int, bootstraps: int) -> dict[str, Any]:
    import numpy as np

    model = Model(law, layout)
    rng = np.random.default_rng([seed, zlib.crc32(canonical([law.name, dict(layout.problem.by)]).encode())])
    points = layout.candidates(CANDIDATES, rng)
    size = max(1, CHUNK // len(model.target))
    losses = [huber(model.residuals(part, model.target), np.ones(1), settings.huber) for part in _chunks(points, size)]
    starts = points[np.argsort(np.concatenate(losses), kind="stable")[: settings.starts]]
    theta, _ = best_of(lambda one: model.residuals(one, model.target), starts, layout.setup)
    drawn, converged, how = _bootstrap(model, theta, settings, rng, bootstraps)
    return record(Fitted(model, theta, drawn, converged, how, settings))


def _bootstrap(model: Model, theta: Array, settings: LawSettings, rng: Any, bootstraps: int) -> tuple[Array, Any, str]:
    """Return refitted unknowns (b, p), which of them converged (b,), and a sentence that says what was resampled."""
    import numpy as np

    target, n, p = model.target, len(model.target), len(theta)
    clusters = model.layout.problem.rows["model"].astype(str).to_numpy()
    names = sorted(set(clusters))
    if model.law.resample == "model" and len(names) >= 5:
        member = np.array([names.index(name) for name in clusters])
        counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=bootstraps)
        weights, targets = counts[:, member].astype("float64"), np.repeat(target[None], bootstraps, axis=0)
        how = f"{bootstraps} resamples of the {len(names)} models, each drawn with all its points, with replacement"
    else:
        rest = target - model.log(theta)
        rest = (rest - rest.mean()) * np.sqrt(n / (n - p))
        targets = model.log(theta) + rng.choice(rest, size=(bootstraps, n))
        weights = np.ones_like(targets)
        scale = f"centred and scaled by sqrt(n/df) = {np.sqrt(n / (n - p)):.3g}"
        how = f"{bootstraps} resamples of the {n} log residuals, {scale}"
    size = max(1, CHUNK // (n * (p + 2)))
    parts = [
        refit(model.residuals, theta, y, w, model.layout.setup)
        for y, w in zip(_chunks(targets, size), _chunks(weights, size), strict=True)
    ]
    if not parts:
        return np.empty((0, p)), np.empty(0, dtype=bool), "no bootstrap"
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]), how


def _chunks(values: Array, size: int) -> list[Array]:
    return [values[i : i + size] for i in range(0, len(values), size)]
