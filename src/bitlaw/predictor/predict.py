"""The predicted loss of a model, format and method that were never run, with its interval and its reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitlaw.errors import unknown
from bitlaw.methods import METHODS
from bitlaw.predictor.cells import collect
from bitlaw.predictor.crossed import candidates, usable
from bitlaw.predictor.explain import beyond, reasons
from bitlaw.predictor.features import Encoder, features
from bitlaw.predictor.fitted import COVERAGE, Asked, base_loss, fit, queries, without
from bitlaw.predictor.models.nearest import NAMES, nearest

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.formats.base import Format
    from bitlaw.predictor.known import Known


def predict(
    table: pd.DataFrame,
    known: Known,
    fmt: Format,
    method: str,
    *,
    text: str | None = None,
    nll: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the answer as plain JSON values; a fit to ``table`` is made for it, the same for the same seed.

    It comes from that of the laws which predicts families that were left out best: trees know nothing beyond the sizes
    and bits that they have seen.

    Args:
        table: the results to learn from.
        known: the model.
        fmt: the format of all its quantizable weights.
        method: the rounding method.
        text: the evaluation, as ``bitlaw.predictor.cells.collect`` takes it.
        nll: loss of the unquantized model in nats per token, if it was measured.
        seed: of the fits.

    Raises:
        UserError: an unknown method, or a table that cannot be learned from.
    """
    import numpy as np

    cells = collect(table, text=text)
    rows = features(cells)
    valid = sorted({*METHODS, *rows["method"]})
    if method not in valid:
        raise unknown("method", method, valid)
    base, spread, said = base_loss(cells, known, nll)
    query = queries(cells, [Asked(known, fmt, method, base, spread)])
    rows = without(rows, query)
    laws = {name: model for name, model in candidates(usable(rows)).items() if model.law}
    fitted = fit(cells, rows, laws, seed)
    value, low, high = (float(part[0]) for part in fitted.intervals(query, np.array([spread])))
    at = int(nearest(Encoder(rows, NAMES, ("method",)), rows, query)[0][0])
    near = rows.iloc[at]
    return {
        "model": known.name,
        "format": str(fmt),
        "method": method,
        "evaluation": cells.evaluation,
        "delta_nll": value,
        "low": low,
        "high": high,
        "coverage": COVERAGE,
        "base_nll": base,
        "nll": base + value,
        "predictor": fitted.name,
        "learned_from": {"cells": len(rows), "models": rows["model"].nunique(), "families": rows["family"].nunique()},
        "reasons": reasons(fitted.predict, rows, query),
        "extrapolates": beyond(rows, query)[0],
        "nearest": {
            **{column: str(near[column]) for column in ("model", "format", "method")},
            "delta_nll": float(cells.y[at]),
        },
        "assumed": [*known.notes, *said],
    }
