"""Laws fitted once to a table, and the losses of many cells that were not run, with their intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bitlaw.predictor.base import learn
from bitlaw.predictor.conformal import Margins, calibrate
from bitlaw.predictor.crossed import choose, cross, groups, judged
from bitlaw.predictor.features import FEATURES, features_of
from bitlaw.predictor.known import LARGEST_READ, weights_db

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from bitlaw.formats.base import Format
    from bitlaw.predictor.base import Array, Model, Predict
    from bitlaw.predictor.cells import Cells
    from bitlaw.predictor.known import Known

COVERAGE = 0.9
TAIL = 1.645
"""Standard deviations of a normal distribution that ``COVERAGE`` lies between, on either side."""


@dataclass(frozen=True)
class Asked:
    """A cell that is asked for: all quantizable weights of a model in a format by a method.

    Attributes:
        known: the model.
        fmt: the format.
        method: the rounding method.
        base: loss of the unquantized model, nats per token.
        spread: how far ``base`` may be off, one standard deviation; 0 if it was measured.
    """

    known: Known
    fmt: Format
    method: str
    base: float
    spread: float = 0.0


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model of the predictor, fitted.

    Attributes:
        cells: what it was fitted to.
        rows: their features.
        name: its name.
        predict: predicted targets of other rows of features.
        margins: of its intervals.
    """

    cells: Cells
    rows: pd.DataFrame = field(repr=False)
    name: str
    predict: Predict
    margins: Margins

    def intervals(self, queries: pd.DataFrame, spread: Array) -> tuple[Array, Array, Array]:
        """Return the predicted targets and the ends of their intervals, each (n,).

        An unquantized loss that was only estimated may be off, so an interval holds what its own ends would give.

        Args:
            queries: features, as of ``queries``.
            spread: how far the unquantized loss of each may be off, (n,), nats per token.
        """
        import numpy as np

        middle = self.predict(queries)
        ends = [self.margins.interval(middle)]
        for sign in (-1.0, 1.0) if spread.any() else ():
            shifted = queries.assign(base_nll=queries["base_nll"].to_numpy("float64") + sign * spread)
            ends.append(self.margins.interval(self.predict(shifted)))
        low, high = (np.stack([end[side] for end in ends]) for side in (0, 1))
        return middle, low.min(0), high.max(0)


def fit(cells: Cells, rows: pd.DataFrame, models: Mapping[str, Model], seed: int) -> Fitted:
    """Return that of ``models`` which predicts families that were left out best, fitted to all cells.

    Args:
        cells: what to learn from.
        rows: their features.
        models: models that ``rows`` have all features for, by name; a single one is taken as it is.
        seed: of the fits.

    Raises:
        UserError: too few models to leave some out.
    """
    left_out = groups(rows)
    crossed = cross(rows.assign(family=left_out), cells.y, dict(models), seed, nested=False)
    errors = {name: judged(cells.y, values) for name, values in crossed.single.items()}
    name = next(iter(models)) if len(models) == 1 else choose(errors)
    margins = calibrate(cells.y, crossed.single[name], left_out, COVERAGE)
    return Fitted(cells, rows, name, learn(models[name], rows, cells.y, seed), margins)


def without(rows: pd.DataFrame, queries: pd.DataFrame) -> pd.DataFrame:
    """Return ``rows`` less the features that no query has: what is not known of them can't be learned from either."""
    lacking = [feature.name for feature in FEATURES if queries[feature.name].isna().all()]
    return rows.assign(**dict.fromkeys(lacking, math.nan))


def queries(cells: Cells, asked: Sequence[Asked], *, largest: int = LARGEST_READ) -> pd.DataFrame:
    """Return the features of the cells that are asked for, one row each.

    What the table has of a model is taken: its landscape, and what rounding to nearest did to its weights. Otherwise
    weights that are on this machine are rounded for it.

    Args:
        cells: what is learned from.
        asked: the cells.
        largest: bytes of a model's files above which its weights are not read.
    """
    import pandas as pd

    own = {str(name): part for name, part in cells.rows.groupby("model", sort=False)}
    measured = _rtn(cells.rows)
    names = {one.known.name for one in asked}
    landscapes = {name: _landscape(own[name]) for name in names if name in own}
    stored: dict[tuple[str, str], float] = {}
    rounded: dict[tuple[str, str], float] = {}
    for one in asked:
        key = (one.known.name, str(one.fmt))
        if key not in stored:
            stored[key] = one.known.effective_bits(one.fmt)
            value = measured.get(key, math.nan)
            rounded[key] = weights_db(one.known, one.fmt, largest) if math.isnan(value) else value
    raw = [{**_row(one, stored[one.known.name, str(one.fmt)]), **landscapes.get(one.known.name, {})} for one in asked]
    rows = features_of(pd.DataFrame(raw))
    exact = pd.Series([rounded[one.known.name, str(one.fmt)] for one in asked], index=rows.index, dtype="float64")
    rows = rows.assign(noise_db=exact.fillna(rows["noise_db"]))
    curves = _curves(cells.rows[cells.rows["model"].isin(list(landscapes))])
    radial = [_at(curves.get(one.known.name), noise) for one, noise in zip(asked, rows["noise_db"], strict=True)]
    return rows.assign(log_radial=pd.Series(radial, index=rows.index, dtype="float64"))


def _rtn(rows: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Return by model and format the measured SQNR in dB of weights rounded to nearest."""
    if "sqnr_db" not in rows:
        return {}
    rtn = rows[(rows["method"] == "rtn").fillna(False).to_numpy("bool")]
    means = rtn.astype({"sqnr_db": "float64"}).groupby(["model", "format"], as_index=False)["sqnr_db"].mean()
    names = zip(means["model"].astype(str), means["format"].astype(str), strict=True)
    return dict(zip(names, means["sqnr_db"].tolist(), strict=True))


def _row(one: Asked, effective_bits: float) -> dict[str, Any]:
    """Return what a results table would have of the cell before it is run."""
    known, fmt = one.known, one.fmt
    return {
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
        "effective_bits": effective_bits,
        "method": one.method,
        "q_ratio": 1.0,
        "base_nll": one.base,
        "key": "",
    }


def _landscape(own: pd.DataFrame) -> dict[str, float]:
    """Return what the cells ``own`` of a model tell of the loss around its weights."""
    names = ("step_db", "step_width_db", "hessian_trace")
    return {name: float(own[name].dropna().iloc[0]) for name in names if name in own and own[name].notna().any()}


def _curves(rows: pd.DataFrame) -> dict[str, pd.Series[float]]:
    """Return by model the logarithm of the loss of random noise by SQNR in dB, of models whose profile is known."""
    if "radial_delta_nll" not in rows or not rows["radial_delta_nll"].notna().any():
        return {}
    known = features_of(rows).dropna(subset=["log_radial"])
    return {str(name): own.groupby("noise_db")["log_radial"].mean() for name, own in known.groupby("model", sort=True)}


def _at(curve: pd.Series[float] | None, noise_db: float) -> float:
    """Return ``curve`` at an SQNR; NaN outside of it."""
    import numpy as np

    if curve is None or not curve.index.min() <= noise_db <= curve.index.max():
        return math.nan
    return float(np.interp(noise_db, curve.index, curve))


def base_loss(cells: Cells, known: Known, nll: float | None = None) -> tuple[float, float, list[str]]:
    """Return the unquantized loss of the model, how far it may be off, and what was assumed.

    Args:
        cells: their unquantized losses are in ``base_nll``.
        known: the model.
        nll: its unquantized loss in nats per token, if it was measured.
    """
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
