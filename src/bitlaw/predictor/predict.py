"""The predicted loss of a model, format and method that were never run, with its interval and its reasons."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bitlaw.errors import unknown
from bitlaw.methods import METHODS
from bitlaw.predictor.base import learn
from bitlaw.predictor.cells import collect
from bitlaw.predictor.conformal import calibrate
from bitlaw.predictor.crossed import candidates, chosen, usable
from bitlaw.predictor.explain import beyond, reasons
from bitlaw.predictor.features import FEATURES, Encoder, features, features_of
from bitlaw.predictor.known import Known, weights_db
from bitlaw.predictor.models.nearest import NAMES, nearest

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.formats.base import Format
    from bitlaw.predictor.base import Array
    from bitlaw.predictor.cells import Cells

COVERAGE = 0.9


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
    cells = collect(table, text=text)
    rows = features(cells)
    valid = sorted({*METHODS, *rows["method"]})
    if method not in valid:
        raise unknown("method", method, valid)
    base, spread, said = _base(cells, known, nll)
    query = _query(cells, known, fmt, method, base)
    for feature in FEATURES:  # what is not known of the model in question can't be learned from either
        if query[feature.name].isna().all():
            rows[feature.name] = math.nan
    models = {name: model for name, model in candidates(usable(rows)).items() if model.law}
    name, out_of_fit, left_out = chosen(rows, cells.y, models, seed)
    fitted = learn(models[name], rows, cells.y, seed)
    value = float(fitted(query)[0])
    margins = calibrate(cells.y, out_of_fit, left_out, COVERAGE)
    # An unquantized loss that was only estimated may be off: the interval holds what its own ends would give.
    at = [fitted(query.assign(base_nll=base + shift))[0] for shift in (-spread, 0.0, spread)]
    ends = [margins.interval(_one(float(v))) for v in at]
    encoder = Encoder(rows, NAMES, ("method",))
    near = rows.iloc[int(nearest(encoder, rows, query)[0][0])]
    return {
        "model": known.name,
        "format": str(fmt),
        "method": method,
        "evaluation": cells.evaluation,
        "delta_nll": value,
        "low": min(float(low[0]) for low, _ in ends),
        "high": max(float(high[0]) for _, high in ends),
        "coverage": COVERAGE,
        "base_nll": base,
        "nll": base + value,
        "predictor": name,
        "learned_from": {"cells": len(rows), "models": rows["model"].nunique(), "families": rows["family"].nunique()},
        "reasons": reasons(fitted, rows, query),
        "extrapolates": beyond(rows, query),
        "nearest": {
            **{column: str(near[column]) for column in ("model", "format", "method")},
            "delta_nll": float(cells.y[int(nearest(encoder, rows, query)[0][0])]),
        },
        "assumed": [*known.notes, *said],
    }


def _one(value: float) -> Array:
    import numpy as np

    return np.array([value])


def _query(cells: Cells, known: Known, fmt: Format, method: str, base: float) -> pd.DataFrame:
    """Return the features of the one cell that is asked for."""
    import pandas as pd

    own = cells.rows[cells.rows["model"] == known.name]
    found: dict[str, Any] = {
        "model": known.name,
        "family": known.family,
        "n_params": known.n_params,
        "n_total": known.n_total,
        "n_tokens": math.nan if known.n_tokens is None else known.n_tokens,
        "format": str(fmt),
        "element": fmt.element.name,
        "bits": fmt.bits,
        "block": str(fmt.block),
        "scale_rule": fmt.scale_rule,
        "effective_bits": known.effective_bits(fmt),
        "method": method,
        "q_ratio": 1.0,
        "base_nll": base,
        "key": "",
    }
    for name in ("step_db", "step_width_db", "hessian_trace"):
        if name in own and own[name].notna().any():
            found[name] = float(own[name].dropna().iloc[0])
    row = features_of(pd.DataFrame([found]))
    rtn = own[(own["format"] == str(fmt)) & (own["method"] == "rtn")]
    measured = rtn["sqnr_db"].astype("float64").mean() if "sqnr_db" in rtn else math.nan
    exact = weights_db(known, fmt) if math.isnan(measured) else measured
    row = row if math.isnan(exact) else row.assign(noise_db=exact)
    return row.assign(log_radial=_radial(own, float(row["noise_db"].iloc[0])))


def _radial(own: pd.DataFrame, noise_db: float) -> float:
    """Return the logarithm of the loss of random noise, between the cells ``own`` of the model; NaN if not known."""
    import numpy as np

    if "radial_delta_nll" not in own or not own["radial_delta_nll"].notna().any():
        return math.nan
    curve = features_of(own).dropna(subset=["log_radial"]).groupby("noise_db")["log_radial"].mean()
    inside = curve.index.min() <= noise_db <= curve.index.max()
    return float(np.interp(noise_db, curve.index, curve)) if inside else math.nan


def _base(cells: Cells, known: Known, nll: float | None) -> tuple[float, float, list[str]]:
    """Return the unquantized loss of the model, how far it may be off, and what was assumed."""
    import numpy as np

    if nll is not None:
        return nll, 0.0, []
    models = cells.rows.drop_duplicates("model")
    own = models[models["model"] == known.name]
    if len(own):
        return float(own["base_nll"].iloc[0]), 0.0, []
    same = models[models["family"] == known.family]
    used = same if same["n_params"].nunique() > 1 else models
    x, y = np.log(used["n_params"].astype("float64").to_numpy()), used["base_nll"].to_numpy("float64")
    slope, offset = np.polyfit(x, y, 1) if len(set(x)) > 1 else (0.0, float(y.mean()))
    value = float(np.clip(offset + slope * math.log(known.n_params), 0.0, y.max()))
    spread = float(np.std(y - (offset + slope * x))) if len(y) > 2 else 0.5
    where = f"the family {known.family}" if used is same else f"all {len(used)} models, for the family was not measured"
    said = f"unquantized loss {value:.3f} (give --nll if you know it), from the sizes of {where}"
    return value, max(spread, 0.02), [said]
