"""Bit-level curves: loss or accuracy against the logarithm of all bits of a model, one curve a precision.

Dettmers and Zettlemoyer 2023 (arXiv 2212.09720) found no closed form that fits and interpolate linearly; their curves
are nearly parallel, a common shape moved by an offset for each precision. So this is no ``Law``: it has no constants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bitlaw.errors import UserError
from bitlaw.series import series
from bitlaw.table import UNQUANTIZED

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.laws.base import Array


@dataclass(frozen=True)
class Curve:
    """A piecewise linear curve.

    Attributes:
        bits: log2 of all bits of each model, rising, float64 of shape (k,).
        values: loss in nats per token or accuracy, (k,).
    """

    bits: Array
    values: Array

    def at(self, bits: Array) -> Array:
        """Return the values (n,) at log2 ``bits`` (n,); beyond its ends the curve goes on straight."""
        import numpy as np

        inside = np.interp(bits, self.bits, self.values)
        (low, high), ends = self._slopes(), (self.bits[0], self.bits[-1])
        inside = np.where(bits < ends[0], self.values[0] + low * (bits - ends[0]), inside)
        return np.asarray(np.where(bits > ends[1], self.values[-1] + high * (bits - ends[1]), inside))

    def where(self, values: Array) -> Array:
        """Return the log2 bits (n,) at which the curve takes ``values`` (n,); NaN where it is flat or not monotonic."""
        import numpy as np

        steps = np.diff(self.values)
        if not (np.all(steps < 0) or np.all(steps > 0)):
            return np.full(np.shape(values), np.nan)
        sign = np.sign(steps[0])
        inverse = Curve(sign * self.values, self.bits)
        return inverse.at(sign * np.asarray(values))

    def _slopes(self) -> tuple[float, float]:
        first, last = slice(None, 2), slice(-2, None)
        low, high = ((self.values[part][1] - self.values[part][0]) / (self.bits[part][1] - self.bits[part][0])
                     for part in (first, last))  # fmt: skip
        return float(low), float(high)


def curve(rows: pd.DataFrame, value: str = "nll") -> Curve:
    """Return the curve of ``rows``, cells of one precision of models of one family; equal sizes are averaged.

    Raises:
        UserError: there are fewer than two sizes.
    """
    import numpy as np

    known = rows[np.isfinite(rows["model_bits"].to_numpy("float64")) & np.isfinite(rows[value].to_numpy("float64"))]
    mean = known.groupby("model_bits", sort=True)[value].mean()
    if len(mean) < 2:
        raise UserError(f"a curve of {value} against bits needs models of two sizes; there are {len(mean)}")
    return Curve(np.log2(mean.index.to_numpy("float64")), mean.to_numpy("float64"))


def offsets(table: pd.DataFrame, value: str = "nll", reference: str = UNQUANTIZED) -> pd.DataFrame:
    """Return by how many times fewer bits a format gives the loss of ``reference``: its offset in log2 bits.

    Each cell is compared with the curve of its family in the format ``reference`` on the same text: the offset is how
    many log2 bits more the reference needs for the same value. Positive is better.

    Returns:
        One row for each text, method and format: ``cells``, the mean ``offset`` and its ``low`` and ``high`` quartile.

    Raises:
        UserError: no family has two sizes in the format ``reference``.
    """
    import numpy as np
    import pandas as pd

    found = []
    for _, part in table.groupby([series(table), "text"], sort=True):
        try:
            base = curve(part[part["format"] == reference], value)
        except UserError:
            continue
        rest = part[part["format"] != reference]
        bits = np.log2(rest["model_bits"].to_numpy("float64"))
        offset = base.where(rest[value].to_numpy("float64")) - bits
        found.append(rest[["text", "method", "format"]].assign(offset=offset))
    if not found:
        raise UserError(f"no family has two sizes in the format '{reference}': there is no curve to compare with")
    every = pd.concat(found).dropna(subset="offset")
    groups = every.groupby(["text", "method", "format"], sort=True)["offset"]
    spread = {"low": groups.quantile(0.25), "high": groups.quantile(0.75)}
    return pd.DataFrame({"cells": groups.size(), "offset": groups.mean(), **spread}).reset_index()


def predict(train: pd.DataFrame, baselines: pd.DataFrame, rows: pd.DataFrame) -> Array:
    """Return the ``delta_nll`` (n,) that parallel curves give ``rows``, NaN where a family has fewer than two sizes.

    The shape is the family's unquantized curve, the offset of a format the median over ``train``, or for a format
    that is not in it what lies between those of the next effective bits.

    Args:
        train: quantized cells of one text and method.
        baselines: the unquantized cells of all models, those of ``rows`` too.
        rows: quantized cells.
    """
    import numpy as np

    whole = series(baselines)
    # Told from all models: a part of them may not show how their training differs.
    of = dict(zip(baselines["model"], whole, strict=True))
    train, rows = (part.assign(series=part["model"].map(of)) for part in (train, rows))
    curves = {}
    for family, part in baselines.groupby(whole, sort=True):
        if part["model_bits"].nunique() >= 2:
            curves[family] = curve(part)
    known = train[train["series"].isin(list(curves))]
    if known.empty:
        return np.full(len(rows), np.nan)
    shift = np.empty(len(known))
    for family, own in curves.items():
        mask = (known["series"] == family).to_numpy(bool)
        shift[mask] = own.where(known["nll"].to_numpy("float64")[mask])
    bits = np.log2(known["model_bits"].to_numpy("float64"))
    median = known.assign(shift=shift - bits).dropna(subset="shift").groupby("effective_bits")["shift"].median()
    if median.empty:
        return np.full(len(rows), np.nan)
    offset = np.interp(rows["effective_bits"].to_numpy("float64"), median.index.to_numpy("float64"), median)
    at, predicted = np.log2(rows["model_bits"].to_numpy("float64")) + offset, np.full(len(rows), np.nan)
    for family, own in curves.items():
        mask = (rows["series"] == family).to_numpy(bool)
        predicted[mask] = own.at(at[mask])
    return np.asarray(predicted - (rows["nll"] - rows["delta_nll"]).to_numpy("float64"))
