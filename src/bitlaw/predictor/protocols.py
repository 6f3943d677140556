"""How well the predictor does where it was not fitted: a family, the largest models, or a format left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitlaw.errors import UserError, unknown
from bitlaw.predictor.base import learn
from bitlaw.predictor.conformal import calibrate, covered
from bitlaw.predictor.crossed import FEWEST_FAMILIES, candidates, choose, chosen, cross, groups, judged, usable

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from bitlaw.predictor.base import Array, Model
    from bitlaw.predictor.cells import Cells

PROTOCOLS = {
    "family": "each family is predicted by a fit to the others",
    "largest": "the largest models are predicted by a fit to the smaller ones",
    "format": "each element type is predicted by a fit to the others",
}
COVERAGE = 0.9
CHOSEN = "chosen"
MOST_FOLDS = 12
"""Element types that are left out, evenly chosen by name where a table has more: each costs a fit of every model."""


def family(cells: Cells, rows: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Return the record of leave-one-family-out: errors of each model, and of the one chosen without each family.

    The choice and the intervals for a family are made from the other families alone (nested).

    Raises:
        UserError: fewer than three families, or four for the choice to be nested.
    """
    import numpy as np

    models, y = usable(rows), cells.y
    crossed = cross(rows, y, models, seed)
    names = list(candidates(models))
    predicted = {**crossed.single, CHOSEN: np.empty(len(y))}
    low, high, folds = np.empty(len(y)), np.empty(len(y)), []
    for held in sorted(set(crossed.families)):
        out = crossed.families == held
        inner = {name: crossed.inner(name, held) for name in names}
        name = choose({name: judged(y[places], values) for name, (places, values) in inner.items()})
        places, values = inner[name]
        margins = calibrate(y[places], values, crossed.families[places], COVERAGE)
        predicted[CHOSEN][out] = crossed.single[name][out]
        low[out], high[out] = margins.interval(crossed.single[name][out])
        folds.append(_fold(held, name, y[out], predicted[CHOSEN][out], covered(y[out], low[out], high[out])))
    final = choose({name: judged(y, crossed.single[name]) for name in names})
    return {
        **_record("family", rows, y, predicted, folds),
        "final": final,
        "margins": calibrate(y, crossed.single[final], crossed.families, COVERAGE).as_json(),
        "coverage": covered(y, low, high),
        "points": _points(rows, y, predicted[CHOSEN], low, high),
    }


def largest(cells: Cells, rows: pd.DataFrame, seed: int, up_to: float | None = None) -> dict[str, Any]:
    """Return the record of leave-largest-out.

    Args:
        cells: the cells.
        rows: their features.
        seed: of the fits.
        up_to: models of at most so many parameters (embeddings counted) are learned from; all others are predicted.
            If not given, the largest model of each family that has several sizes is predicted.

    Raises:
        UserError: nothing is left on one side.
    """
    size = rows["n_total"].fillna(_params(rows)).to_numpy("float64")
    if up_to is None:
        biggest = rows.assign(size=size).groupby("family")["size"].agg(["min", "max"]).loc[rows["family"]]
        out = (size == biggest["max"].to_numpy()) & (biggest["max"] > biggest["min"]).to_numpy()
    else:
        out = size > up_to
    _check(out, "largest models")
    predicted = _fold_predictions(rows, cells.y, ~out, seed)
    best = _chosen(rows[~out], cells.y[~out], seed)
    predicted[CHOSEN] = predicted[best]
    y, rows = cells.y[out], rows[out]
    held = sorted(set(rows["model"]))
    folds = [_fold(f"{len(held)} models", best, y, predicted[CHOSEN], None)]
    return {
        **_record("largest", rows, y, predicted, folds),
        "final": best,
        "held_out": held,
        "points": _points(rows, y, predicted[CHOSEN]),
    }


def formats(cells: Cells, rows: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Return the record of leave-format-out: each element type is predicted by a fit to all others.

    The model is chosen by leave-one-family-out once, for all element types. Of more than ``MOST_FOLDS`` element types
    so many are left out in turn.

    Raises:
        UserError: only one element type.
    """
    import numpy as np

    best = _chosen(rows, cells.y, seed)
    predicted = {name: np.empty(len(rows)) for name in (*usable(rows), CHOSEN)}
    folds, elements = [], sorted(set(rows["element"]))
    elements = elements[:: -(-len(elements) // MOST_FOLDS)]
    for element in elements:
        out = (rows["element"] == element).to_numpy()
        _check(out, f"cells of {element}")
        for name, values in _fold_predictions(rows, cells.y, ~out, seed).items():
            predicted[name][out] = values
        predicted[CHOSEN][out] = predicted[best][out]
        folds.append(_fold(element, best, cells.y[out], predicted[CHOSEN][out], None))
    tried = rows["element"].isin(elements).to_numpy()
    predicted = {name: values[tried] for name, values in predicted.items()}
    points = _points(rows[tried], cells.y[tried], predicted[CHOSEN])
    record = _record("format", rows[tried], cells.y[tried], predicted, folds)
    return {**record, "final": best, "points": points}


def run(name: str, cells: Cells, rows: pd.DataFrame, seed: int, up_to: float | None = None) -> dict[str, Any]:
    """Return the record of the protocol ``name``. Raises ``UserError`` if it is unknown or cannot be run."""
    if name == "family":
        return family(cells, rows, seed)
    if name == "largest":
        return largest(cells, rows, seed, up_to)
    if name == "format":
        return formats(cells, rows, seed)
    raise unknown("protocol", name, PROTOCOLS)


def _chosen(rows: pd.DataFrame, y: Array, seed: int) -> str:
    """Return the model that does best on families left out of ``rows``; the simplest if nothing can be left out."""
    names = candidates(usable(rows))
    if len(set(groups(rows))) < FEWEST_FAMILIES:
        return min(names, key=lambda name: names[name].complexity)
    return chosen(rows, y, names, seed)[0]


def _fold_predictions(rows: pd.DataFrame, y: Array, train: Any, seed: int) -> dict[str, Array]:
    """Return for each model its predictions of the rows that are not in ``train``."""
    models: Iterator[tuple[str, Model]] = iter(usable(rows).items())
    return {name: learn(model, rows[train], y[train], seed)(rows[~train]) for name, model in models}


def _check(out: Array, what: str) -> None:
    if not out.any() or out.all():
        raise UserError(f"there are {'only' if out.all() else 'no'} {what} in the table, so none can be left out")


def _params(rows: pd.DataFrame) -> pd.Series[float]:
    import numpy as np

    sizes: pd.Series[float] = np.exp(rows["log_n"])
    return sizes


def _fold(held: str, model: str, y: Array, predicted: Array, coverage: float | None) -> dict[str, Any]:
    return {"held_out": held, "model": model, "coverage": coverage, **_errors(y, predicted)}


def _errors(y: Array, predicted: Array) -> dict[str, Any]:
    """Return how far ``predicted`` is from ``y``, in the unit of the target; no R^2 where ``y`` does not vary."""
    import numpy as np

    error, spread = np.abs(predicted - y), float(((y - y.mean()) ** 2).sum())
    return {
        "n": len(y),
        "mae": float(error.mean()),
        "median": float(np.median(error)),
        "judged": judged(y, predicted),
        "r2": 1 - float((error**2).sum()) / spread if spread > 0 else None,
    }


def _record(
    name: str, rows: pd.DataFrame, y: Array, predicted: dict[str, Array], folds: list[dict[str, Any]]
) -> dict[str, Any]:
    bits = rows["bits"].fillna(0).astype("int64").to_numpy()
    by_bits = [
        {
            "bits": one,
            "method": str(method),
            **_errors(y[own], predicted[CHOSEN][own]),
            "forest_median": _errors(y[own], predicted["forest"][own])["median"],
        }
        for one in sorted(set(bits.tolist()))
        for method in sorted(set(rows["method"]))
        if (own := (bits == one) & (rows["method"] == method).to_numpy()).any()
    ]
    errors = {model: _errors(y, values) for model, values in predicted.items()}
    return {"protocol": name, "says": PROTOCOLS[name], "errors": errors, "folds": folds, "by_bits": by_bits}


def _points(
    rows: pd.DataFrame, y: Array, predicted: Array, low: Array | None = None, high: Array | None = None
) -> list[dict[str, Any]]:
    columns: dict[str, Any] = {"measured": y.tolist(), "predicted": predicted.tolist()}
    if low is not None and high is not None:
        columns |= {"low": low.tolist(), "high": high.tolist()}
    columns |= {name: rows[name].astype(str).tolist() for name in ("model", "format", "method", "key")}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
