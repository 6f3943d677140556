"""What is recorded of a fit: constants with intervals, goodness, curves, points, and warnings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bitlaw.laws.solver import huber, jacobian

if TYPE_CHECKING:
    from bitlaw.laws.base import Array, LawSettings
    from bitlaw.laws.model import Model

CURVE_POINTS = 41
# Of a fit to more rows, this many evenly chosen points are recorded.
POINTS = 2000
FEW_DF = 10
FLAT = 1e-4


@dataclass(frozen=True)
class Fitted:
    """A fit: the model, its optimum (p,), the bootstrapped optima (b, p), how these were drawn, and its profile."""

    model: Model
    theta: Array
    drawn: Array
    converged: Any
    how: str
    settings: LawSettings
    profile: tuple[Array, Array] | None = None


def record(fit: Fitted) -> dict[str, Any]:
    """Return the record of ``fit`` as plain JSON values; what does not exist (an R^2 of one point) is ``None``."""
    import numpy as np

    problem, target = fit.model.layout.problem, fit.model.target
    predicted = fit.model.log(fit.theta)
    constants = _constants(fit)
    n, p = len(target), len(fit.theta)
    said, told = fit.model.law.plain, {c["name"]: c["value"] for c in constants if c["determined"] and not c["group"]}
    return {
        "by": dict(problem.by),
        "group": problem.group,
        "n": n,
        "fitted_constants": p,
        "df": n - p,
        "r2": _r2(target, predicted),
        "rmse_log": float(((target - predicted) ** 2).mean() ** 0.5),
        "objective": float(huber(predicted - target, np.ones(1), fit.settings.huber)),
        **criteria(target - predicted, p),
        "groups": _groups(fit, predicted),
        "constants": constants,
        "plain": None if said is None else said(told),
        "interval": fit.settings.interval,
        "bootstrap": fit.how,
        "notes": list(problem.notes),
        "warnings": _warnings(fit, constants),
        "curves": _curves(fit),
        "points": _points(fit, predicted),
    }


def criteria(residuals: Array, p: int) -> dict[str, float | None]:
    """Return AIC and BIC of log residuals (n,) as normal with one variance, p constants; ``None`` if they are all 0."""
    n, mean = len(residuals), float((residuals**2).mean())
    if mean == 0.0:
        return {"aic": None, "bic": None}
    fit = n * (math.log(2.0 * math.pi * mean) + 1.0)
    return {"aic": fit + 2.0 * (p + 1), "bic": fit + math.log(n) * (p + 1)}


def _r2(target: Array, predicted: Array) -> float | None:
    total = float(((target - target.mean()) ** 2).sum())
    return None if total == 0.0 else 1.0 - float(((target - predicted) ** 2).sum()) / total


def _groups(fit: Fitted, predicted: Array) -> list[dict[str, Any]]:
    layout, found = fit.model.layout, []
    for index, name in enumerate(layout.groups if layout.problem.group else []):
        own = layout.member == index
        found.append({"name": name, "n": int(own.sum()), "r2": _r2(fit.model.target[own], predicted[own])})
    return found


def _ends(fit: Fitted, drawn: Array) -> tuple[Any, Any]:
    import numpy as np

    if not len(drawn):
        return None, None
    tail = (1.0 - fit.settings.interval) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail], axis=0)
    return low, high


def _constants(fit: Fitted) -> list[dict[str, Any]]:
    import numpy as np

    layout, found = fit.model.layout, []
    edge = 1e-6 * (layout.setup.high - layout.setup.low)
    for i, slot in enumerate(layout.slots):
        to = np.exp if slot.constant.log else float
        low, high = _ends(fit, fit.drawn[:, i])
        inside = (layout.setup.low[i] + edge[i], layout.setup.high[i] - edge[i])
        bound = not inside[0] < fit.theta[i] < inside[1]
        touching = (fit.drawn[:, i] <= inside[0]) | (fit.drawn[:, i] >= inside[1])
        one = {
            **_constant(slot.constant, slot.group, float(to(fit.theta[i]))),
            "low": None if low is None else float(to(low)),
            "high": None if high is None else float(to(high)),
            "profile": _profiled(fit, i, to),
            "at_bound": bool(bound),
            "resamples_at_bound": float(touching.mean()) if len(touching) else 0.0,
        }
        unbounded = low is not None and (low <= inside[0] or high >= inside[1])
        found.append({**one, "determined": not (bound or unbounded or _spread(one))})
    for constant in layout.problem.constants:
        if constant.held is not None:
            rest = {"low": None, "high": None, "profile": None, "at_bound": False, "resamples_at_bound": 0.0}
            found.append({**_constant(constant, None, constant.held), **rest, "held": True, "determined": False})
    return found


def _profiled(fit: Fitted, i: int, to: Any) -> list[float | None] | None:
    """Return the profile interval of unknown ``i``, ``None`` for an end that does not close; ``None`` without one."""
    if fit.profile is None:
        return None
    return [float(to(ends[i])) if math.isfinite(ends[i]) else None for ends in fit.profile]


def _constant(constant: Any, group: str | None, value: float) -> dict[str, Any]:
    names = {"name": constant.name, "group": group, "latex": constant.latex, "meaning": constant.meaning}
    return {**names, "value": value, "log": constant.log, "held": False, "published": constant.published}


def _warnings(fit: Fitted, constants: list[dict[str, Any]]) -> list[str]:
    """Return what the data do not tell, in words."""
    found = []
    df = len(fit.model.target) - len(fit.theta)
    if df < FEW_DF:
        found.append(f"{df} degree{'s' if df > 1 else ''} of freedom: the intervals are rough and R² says little.")
    for c in (c for c in constants if not c["held"]):
        name = c["name"] + (f" of {c['group']}" if c["group"] else "")
        if c["at_bound"]:
            found.append(f"{name} stopped at its bound {c['value']:.4g}: the data do not determine it.")
        elif c["resamples_at_bound"] > 0.05:
            found.append(f"{name} ran into its bound in {c['resamples_at_bound']:.0%} of the resamples.")
        if not c["at_bound"] and c["profile"] is not None and None in c["profile"]:
            found.append(f"the profile of {name} does not close: the fit is about as good at a bound of {name}.")
        if not c["at_bound"] and (spread := _spread(c)):
            found.append(f"{name} is poorly determined: {spread}.")
    found += _flat(fit)
    if len(fit.converged) and (failed := float(1.0 - fit.converged.mean())) > 0.0:
        found.append(f"{failed:.1%} of the resamples did not converge; their last values are in the intervals.")
    return found


def _spread(constant: dict[str, Any]) -> str:
    """Return what is wrong with a constant's interval if it is too wide to tell the constant; empty if it is not."""
    low, high, value = constant["low"], constant["high"], constant["value"]
    if low is None:
        return ""
    if constant["log"]:
        return f"its interval spans a factor of {high / low:.3g}" if high > 100.0 * low else ""
    return (
        f"its interval, {low:.3g} to {high:.3g}, is wider than twice its value" if high - low > 2 * abs(value) else ""
    )


def _flat(fit: Fitted) -> list[str]:
    """Return a warning for each direction in which a unit step changes predictions by less than ``FLAT``.

    A unit is 1 for exponents and offsets and a factor of e for constants that are fitted as logarithms.
    """
    import numpy as np

    layout = fit.model.layout
    slopes = jacobian(lambda t: fit.model.residuals(t, fit.model.target), fit.theta[None], layout.setup)[0]
    _, sizes, directions = np.linalg.svd(slopes / np.sqrt(len(slopes)), full_matrices=False)
    found = []
    for size, direction in zip(sizes, directions, strict=True):
        if size < FLAT:
            slots = [slot for slot, part in zip(layout.slots, direction, strict=True) if abs(part) > 0.1]
            names = ", ".join(s.constant.name + (f" of {s.group}" if s.group else "") for s in slots)
            found.append(f"flat direction: moving {names} by one changes the predictions by less than {FLAT:.2%}.")
    return found


def _curves(fit: Fitted) -> list[dict[str, Any]]:
    """Return for each group the fitted curve and its band, from half the smallest to twice the largest input."""
    import numpy as np

    column, layout = fit.model.law.curve, fit.model.layout
    if column is None:
        return []
    found = []
    for index, name in enumerate(layout.groups):
        own = fit.model.inputs[column][layout.member == index]
        x = np.geomspace(own.min() / 2.0, own.max() * 2.0, CURVE_POINTS)
        member = np.full(len(x), index)
        y = np.exp(fit.model.log(fit.theta, {column: x}, member))
        low, high = _ends(fit, np.exp(fit.model.log(fit.drawn, {column: x}, member)))
        band = {} if low is None else {"low": low.tolist(), "high": high.tolist()}
        found.append({"group": name, "column": column, "x": x.tolist(), "y": y.tolist(), **band})
    return found


def _points(fit: Fitted, predicted: Array) -> list[dict[str, Any]]:
    import numpy as np

    n = len(predicted)
    some = np.unique(np.linspace(0, n - 1, min(n, POINTS)).astype(int))
    rows = fit.model.layout.problem.rows.iloc[some]
    values = (np.exp(fit.model.target[some]), np.exp(predicted[some]))
    return [
        {"key": str(key), "measured": float(measured), "predicted": float(said)}
        for key, measured, said in zip(rows["key"], *values, strict=True)
    ]
