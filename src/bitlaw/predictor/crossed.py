"""Predictions for families that a model was not fitted to, and the choice of a model by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bitlaw.errors import UserError
from bitlaw.predictor import MODELS
from bitlaw.predictor.base import learn

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from bitlaw.predictor.base import Array, Model, Predict

BROKEN = 2.0
"""Losses added beyond this many nats count as this many where a model is chosen: such a language model is broken."""
TOLERANCE = 1.05
FEWEST_FAMILIES = 3
GROUPS = 5


def usable(rows: pd.DataFrame) -> dict[str, Model]:
    """Return the predictor's models that have what they need in ``rows``, by name."""
    return {name: model for name, model in MODELS.items() if model.fits(rows)}


def candidates(models: Mapping[str, Model]) -> dict[str, Model]:
    """Return those of ``models`` that may be chosen."""
    return {name: model for name, model in models.items() if model.role == "candidate"}


def judged(y: Array, predicted: Array) -> float:
    """Return the mean absolute error in nats with losses beyond ``BROKEN`` counted as ``BROKEN``."""
    import numpy as np

    return float(np.abs(np.minimum(y, BROKEN) - np.minimum(predicted, BROKEN)).mean())


def choose(errors: Mapping[str, float]) -> str:
    """Return the simplest model whose error (by name) is within ``TOLERANCE`` of the lowest.

    With a handful of families the lowest error is partly luck, and a simple form is the better bet for the next one.
    """
    good = [name for name, error in errors.items() if error <= TOLERANCE * min(errors.values())]
    return min(good, key=lambda name: (MODELS[name].complexity, name))


@dataclass(frozen=True)
class Crossed:
    """Predictions across families.

    Attributes:
        families: family of each row.
        single: by model, the prediction for each row of a fit without its family (n,).
        double: by model and pair (held out, left out too), the predictions for the rows of the second family of a
            fit without both.
    """

    families: Array
    single: dict[str, Array]
    double: dict[str, dict[tuple[str, str], Array]]

    def inner(self, name: str, family: str) -> tuple[Array, Array]:
        """Return the rows outside ``family``, and for each the prediction without its own family and ``family``."""
        import numpy as np

        places, values = [], []
        for other in sorted(set(self.families) - {family}):
            places.append(np.flatnonzero(self.families == other))
            values.append(self.double[name][family, other])
        return np.concatenate(places), np.concatenate(values)


def cross(rows: pd.DataFrame, y: Array, models: dict[str, Model], seed: int, *, nested: bool = True) -> Crossed:
    """Fit every model without each family, and (``nested``) the candidates without each pair of families.

    ``y`` (n,) is the target of each of the rows.

    Raises:
        UserError: fewer than ``FEWEST_FAMILIES`` families.
    """
    import numpy as np

    families: Any = rows["family"].astype(str).to_numpy()
    names = sorted(set(families))
    if len(names) < FEWEST_FAMILIES:
        raise UserError(f"{len(names)} families or models are too few to leave one out; it takes {FEWEST_FAMILIES}")
    single = {name: np.empty(len(y)) for name in models}
    double: dict[str, dict[tuple[str, str], Array]] = {name: {} for name in models}
    for i, held in enumerate(names):
        out = families == held
        for name, predict in _fitted(models, rows, y, ~out, seed).items():
            single[name][out] = predict(rows[out])
        for other in names[i + 1 :] if nested else []:
            beside = families == other
            for name, predict in _fitted(candidates(models), rows, y, ~out & ~beside, seed).items():
                double[name][held, other] = predict(rows[beside])
                double[name][other, held] = predict(rows[out])
    return Crossed(families, single, double)


def groups(rows: pd.DataFrame) -> Array:
    """Return (n,) names of what is left out together: families, or (of fewer than three) groups of models."""
    import numpy as np

    families: Any = rows["family"].astype(str).to_numpy()
    if len(set(families)) >= FEWEST_FAMILIES:
        return np.asarray(families, dtype=object)
    models = sorted(set(rows["model"]))
    return np.array([f"models {models.index(model) % GROUPS + 1}" for model in rows["model"]])


def chosen(rows: pd.DataFrame, y: Array, names: dict[str, Model], seed: int) -> tuple[str, Array, Array]:
    """Return which of ``names`` does best on groups left out, its predictions there (n,), and the groups (n,).

    Raises:
        UserError: fewer than ``FEWEST_FAMILIES`` groups, that is, models.
    """
    left_out = groups(rows)
    crossed = cross(rows.assign(family=left_out), y, names, seed, nested=False)
    name = choose({name: judged(y, values) for name, values in crossed.single.items()})
    return name, crossed.single[name], left_out


def _fitted(models: dict[str, Model], rows: pd.DataFrame, y: Array, train: Array, seed: int) -> dict[str, Predict]:
    return {name: learn(model, rows[train], y[train], seed) for name, model in models.items()}
