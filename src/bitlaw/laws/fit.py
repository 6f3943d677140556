"""The one fitter of all laws: robust least squares on logarithms, intervals, and what the data cannot tell.

The objective is the sum of Huber losses of log(measured) - log(predicted), as in Hoffmann et al. 2022 (eq. 3).
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from bitlaw.artifacts import canonical
from bitlaw.laws.base import Law, LawSettings, start
from bitlaw.laws.intervals import bootstrap, profile
from bitlaw.laws.model import Layout, Model
from bitlaw.laws.record import Fitted, record
from bitlaw.laws.solver import best_of, huber, polish

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.laws.base import Array

CANDIDATES = 2048
CHUNK = 4_000_000
LEAST_POINTS = 5
# The search for a starting point looks at this many rows, evenly chosen; the optimum is that of all rows.
SEARCHED = 1000


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
        UserError: the table lacks a column or rows, has a cell twice, or two texts under one label, or the settings
            name a text that it does not have.
    """
    selection = start(law, table, settings)
    layouts = []
    for problem in law.select(selection, settings):
        layout = Layout(problem, settings.huber)
        if (reason := _too_few(len(problem.rows), len(layout.slots))) is not None:
            selection.refuse(problem.by, len(problem.rows), reason)
        else:
            layouts.append(layout)
    work = bootstraps * sum(len(layout.problem.rows) * (len(layout.slots) + 2) for layout in layouts)
    fits = [_fit(law, layout, settings, seed, bootstraps, work) for layout in layouts]
    if not fits and not selection.not_fitted:
        selection.refuse({}, 0, "no row of the table is left for this law; see what was excluded")
    return {
        "name": law.name,
        "settings": settings.model_dump(mode="json"),
        "fits": fits,
        "excluded": selection.excluded,
        "not_fitted": selection.not_fitted,
    }


def _too_few(n: int, p: int) -> str | None:
    if n <= p:
        return f"{n} points for {p} constants: no degree of freedom is left to check the fit"
    if n < LEAST_POINTS:
        return f"{n} points: fewer than {LEAST_POINTS} tell nothing"
    return None


def optimum(model: Model, starts: int, rng: Any) -> Array:
    """Return the best optimum (p,) of ``model``'s Huber loss that is reached from ``starts`` of many random points."""
    import numpy as np

    setup, n = model.layout.setup, len(model.target)
    if not model.layout.slots:
        return np.empty(0, dtype=np.float64)
    some = np.unique(np.linspace(0, n - 1, min(n, SEARCHED)).astype(int))
    inputs = {name: values[some] for name, values in model.inputs.items()}
    member, target = model.layout.member[some], model.target[some]

    def residuals(theta: Array) -> Array:
        return np.asarray(model.log(theta, inputs, member) - target)

    points = model.layout.candidates(CANDIDATES, rng)
    size = max(1, CHUNK // len(some))
    losses = [huber(residuals(points[i : i + size]), np.ones(1), setup.threshold) for i in range(0, len(points), size)]
    chosen = points[np.argsort(np.concatenate(losses), kind="stable")[:starts]]
    theta, _ = best_of(residuals, chosen, model.layout.on(some))
    if len(some) < n:
        theta, _ = polish(lambda one: model.residuals(one, model.target), theta, setup)
    return theta


def _fit(law: Law, layout: Layout, settings: LawSettings, seed: int, bootstraps: int, work: int) -> dict[str, Any]:
    import numpy as np

    model = Model(law, layout)
    rng = np.random.default_rng([seed, zlib.crc32(canonical([law.name, dict(layout.problem.by)]).encode())])
    theta = optimum(model, settings.starts, rng)
    drawn, converged, how = bootstrap(model, theta, rng, bootstraps, work)
    return record(Fitted(model, theta, drawn, converged, how, settings, profile(model, theta, settings.interval)))
