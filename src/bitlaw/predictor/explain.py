"""Why a prediction is what it is, and whether it lies outside what was measured."""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING, Any

from bitlaw.predictor.features import CATEGORIES, FEATURES, Encoder, present
from bitlaw.predictor.models.nearest import NAMES, nearest

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.predictor.base import Array, Predict

FAR = 0.99
"""A cell counts as far from all measured ones if it is farther than this share of them are from their nearest."""


def reasons(predict: Predict, rows: pd.DataFrame, query: pd.DataFrame) -> dict[str, Any]:
    """Return what each group of features adds to the prediction, against a typical cell of the training table.

    The parts are exact Shapley values of the groups (Lundberg and Lee 2017, with one reference): every order in which
    the groups of the typical cell are exchanged for those of the query counts the same. They sum to the difference.

    Args:
        predict: the fitted model.
        rows: features that it was fitted to.
        query: the one row that is explained.

    Returns:
        ``typical`` (the prediction for the typical cell, nats) and ``parts``: group, nats, and value of each feature.
    """
    import pandas as pd

    columns: dict[str, list[str]] = {}
    for feature in present(rows):
        columns.setdefault(feature.group, []).append(feature.name)
    for name, group in CATEGORIES.items():
        columns.setdefault(group, []).append(name)
    typical = query.copy()
    for feature in FEATURES:
        typical[feature.name] = float(rows[feature.name].median())
    for name in CATEGORIES:
        typical[name] = rows[name].mode().iloc[0]
    groups = list(columns)
    chosen = [frozenset(some) for k in range(len(groups) + 1) for some in combinations(groups, k)]
    mixed = pd.concat([typical] * len(chosen), ignore_index=True)
    for at, some in enumerate(chosen):
        for group in some:
            for name in columns[group]:
                mixed.loc[at, name] = query[name].iloc[0]
    mixed["family"] = query["family"].iloc[0]
    values = dict(zip(chosen, predict(mixed).tolist(), strict=True))
    parts: list[dict[str, Any]] = [
        {"group": group, "adds": _shapley(group, groups, values), "values": _values(query, columns[group])}
        for group in groups
    ]
    parts.sort(key=lambda part: -abs(part["adds"]))
    return {"typical": values[frozenset()], "parts": parts}


def _shapley(group: str, groups: list[str], values: dict[frozenset[str], float]) -> float:
    others, n, total = [one for one in groups if one != group], len(groups), 0.0
    for k in range(n):
        weight = math.factorial(k) * math.factorial(n - k - 1) / math.factorial(n)
        total += weight * sum(
            values[frozenset((*some, group))] - values[frozenset(some)] for some in combinations(others, k)
        )
    return total


def _values(query: pd.DataFrame, names: list[str]) -> dict[str, Any]:
    row = query.iloc[0]
    return {name: row[name] if isinstance(row[name], str) else float(row[name]) for name in names}


def beyond(rows: pd.DataFrame, queries: pd.DataFrame) -> list[list[str]]:
    """Return for each of ``queries`` in sentences where it lies outside the cells ``rows``; none if it does not."""
    import numpy as np

    said: list[list[str]] = [[] for _ in range(len(queries))]
    for feature in present(rows):
        low, high = float(rows[feature.name].min()), float(rows[feature.name].max())
        for lines, value in zip(said, queries[feature.name].astype("float64"), strict=True):
            slack = 1e-3 * abs(value)  # tables round
            if not math.isnan(value) and not low - slack <= value <= high + slack:
                shown = (math.exp(v) for v in (value, low, high)) if feature.name in _SIZES else (value, low, high)
                what = _SIZES.get(feature.name, feature.meaning)
                lines.append("{}: {:.4g} is outside what was measured, {:.4g} to {:.4g}".format(what, *shown))
    for name in ("family", *CATEGORIES):
        measured, word = set(rows[name]), "kind of element" if name == "kind" else name
        for lines, value in zip(said, queries[name], strict=True):
            if value not in measured:
                lines.append(f"{word}: no cell of '{value}' was measured")
    if len(rows) > 1:
        encoder = Encoder(rows, NAMES, ("method",))
        away = nearest(encoder, rows, queries)[1]
        for at in np.flatnonzero(away > float(np.quantile(_apart(encoder, rows), FAR))):
            said[at].append(
                "the nearest measured cell is farther away than nearly all measured cells are from each other"
            )
    return said


_SIZES = {"log_n": "non-embedding parameters", "log_d": "training tokens", "log_radial": "loss of random noise"}


def _apart(encoder: Encoder, rows: pd.DataFrame) -> Array:
    """Return the distance of each model's cells to the nearest of another model, in standard deviations."""
    import numpy as np

    found = [np.zeros(1)]
    for model in sorted(set(rows["model"])):
        own = (rows["model"] == model).to_numpy()
        if not own.all():
            found.append(nearest(encoder, rows[~own], rows[own])[1])
    return np.concatenate(found)
