"""Features of a cell that are known before it is evaluated, and their form for models that take numbers only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from bitlaw.errors import UserError
from bitlaw.table import element_kind

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.predictor.base import Array
    from bitlaw.predictor.cells import Cells

ROW, WHOLE = 12.0, 22.0
"""log2 of the weights that share a scale where it is one a row, or one a matrix: rows of 4,096, matrices of 4 M."""
FLOOR = 1e-4
"""Losses of random noise below this (nats per token) are the noise of the measurement."""
ABOVE = -4.0
"""SQNR less ``DB_PER_BIT`` for each bit, in dB, where no format of the table is known: that of four-bit integers."""
DB_PER_BIT = 20 * math.log10(2)


@dataclass(frozen=True)
class Feature:
    """A number that is known of a cell.

    Attributes:
        name: its column.
        group: what it belongs to where a prediction is explained.
        meaning: one phrase.
        sign: -1 if more of it never adds loss, +1 if it never saves any, 0 if that is not known.
    """

    name: str
    group: str
    meaning: str
    sign: int = 0


FEATURES: tuple[Feature, ...] = (
    Feature("log_n", "size", "logarithm of the non-embedding parameters"),
    Feature("log_d", "training tokens", "logarithm of the training tokens"),
    Feature("base_nll", "unquantized loss", "loss of the unquantized model, nats per token"),
    Feature("bits", "format", "bits of an element", -1),
    Feature("effective_bits", "format", "stored bits per weight, scales counted", -1),
    Feature("log_block", "format", "log2 of the weights that share a scale"),
    Feature("noise_db", "format", "SQNR of the weights rounded to nearest, or else of normal numbers", -1),
    Feature("gmse_db", "format", "SQNR of normal numbers in the format", -1),
    Feature("output_sqnr_db", "outputs", "SQNR of the layers' outputs, weights rounded to nearest", -1),
    Feature("q_ratio", "mix", "share of the weights quantized", 1),
    Feature("log_radial", "landscape", "logarithm of the loss that random noise of the same SQNR adds", 1),
    Feature("step_db", "landscape", "SQNR at which the loss begins to climb", 1),
    Feature("step_width_db", "landscape", "width of that climb"),
    Feature("log_trace", "landscape", "logarithm of the trace of the Hessian"),
)  # fmt: skip
LABELS = ("model", "family", "format", "element", "kind", "method", "n_total", "key")
CATEGORIES = {"method": "method", "kind": "format"}
_LOGS = {"log_n": "n_params", "log_d": "n_tokens", "log_trace": "hessian_trace"}
_TAKEN = ("bits", "effective_bits", "q_ratio", "base_nll", "step_db", "step_width_db")


def features(cells: Cells) -> pd.DataFrame:
    """Return the features and labels of ``cells``, one row each; a feature that the table cannot tell is NaN."""
    return features_of(cells.rows)


def features_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the features and labels of rows of a results table that have ``base_nll``.

    Raises:
        UserError: no feature of the format is known for some row.
    """
    import numpy as np
    import pandas as pd

    found = pd.DataFrame(index=rows.index)
    for name in ("model", "family", "format", "element", "method"):
        found[name] = rows[name].astype("string").fillna("none").astype(object)
    found["kind"] = element_kind(rows).fillna("none").astype(object)
    found["key"] = rows["key"].astype(object) if "key" in rows else ""
    found["n_total"] = _number(rows, "n_total")
    for name, column in _LOGS.items():
        values = _number(rows, column)
        found[name] = np.log(values.where(values > 0))
    for name in _TAKEN:
        found[name] = _number(rows, name)
    found["log_block"] = [_log_block(block) for block in rows["block"]]
    found["gmse_db"] = [format_db(name) for name in rows["format"]]
    rtn = _of_rtn(rows)
    found["output_sqnr_db"] = rtn["output_sqnr_db"]
    radial = rtn["radial_delta_nll"].fillna(_number(rows, "radial_delta_nll"))
    found["log_radial"] = np.log(radial.where(radial > 0).fillna(FLOOR).where(radial.notna()).clip(lower=FLOOR))
    known = rtn["sqnr_db"].fillna(found["gmse_db"])
    # A format that only its source knows: a bit is 6 dB, from where the known formats stand on average.
    above = (known - DB_PER_BIT * found["effective_bits"]).mean()
    found["noise_db"] = known.fillna(DB_PER_BIT * found["effective_bits"] + (ABOVE if math.isnan(above) else above))
    if found["noise_db"].isna().any():
        raise UserError("effective_bits is missing for some rows, so nothing is known of their formats")
    return found


def present(rows: pd.DataFrame) -> list[Feature]:
    """Return the features that ``rows`` have at least one value of."""
    return [feature for feature in FEATURES if rows[feature.name].notna().any()]


@cache
def format_db(name: str) -> float:
    """Return the SQNR in dB of normal numbers in the format ``name``; NaN for a name that the grammar does not know."""
    from bitlaw.formats.gmse import gmse
    from bitlaw.formats.grammar import parse

    try:
        return -10.0 * math.log10(gmse(parse(name)))
    except UserError:
        return math.nan


def _number(rows: pd.DataFrame, name: str) -> pd.Series[float]:
    import pandas as pd

    if name not in rows:
        return pd.Series(math.nan, index=rows.index, dtype="float64")
    return pd.to_numeric(rows[name]).astype("float64")


def _log_block(block: object) -> float:
    text = str(block)
    if text.isdigit():
        return math.log2(int(text))
    return {"row": ROW, "none": WHOLE}.get(text, math.nan)


def _of_rtn(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what rounding to nearest does for the model and format of each row, by the table's cell of method rtn."""
    import pandas as pd

    names = ("sqnr_db", "output_sqnr_db", "radial_delta_nll")
    shown = pd.DataFrame({name: _number(rows, name) for name in (*names, "q_ratio")})
    by = [rows["model"].astype(str), rows["format"].astype(str), shown["q_ratio"].fillna(1.0).round(6)]
    rtn = shown[list(names)].where((rows["method"] == "rtn").fillna(False))
    return rtn.groupby(by, sort=False).transform("mean")


class Encoder:
    """Features as a matrix without holes, scaled by the rows that it was made from.

    Args:
        rows: features to learn the scale from.
        names: the features to take; those that ``rows`` never have are left out.
        categories: the categories to take, each as one column per value.
    """

    def __init__(self, rows: pd.DataFrame, names: tuple[str, ...], categories: tuple[str, ...]) -> None:
        import numpy as np

        self.names = [name for name in names if name in rows and rows[name].notna().any()]
        self.values = {name: sorted(set(rows[name].astype(str))) for name in categories}
        self.middle = {name: float(rows[name].median()) for name in self.names}
        numbers = self._numbers(rows)
        self.mean = numbers.mean(0)
        spread = numbers.std(0)
        self.spread = np.where(spread > 1e-9, spread, 1.0)

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.names) + sum(len(values) for values in self.values.values())

    def plain(self, rows: pd.DataFrame) -> Array:
        """Return (n, ``width``): the features as they are, then a column of 0 and 1 for each value of a category."""
        import numpy as np

        return np.concatenate([self._numbers(rows), self._ones(rows)], axis=1)

    def scaled(self, rows: pd.DataFrame) -> Array:
        """Return as ``plain``, with numbers as standard deviations from the mean."""
        import numpy as np

        return np.concatenate([(self._numbers(rows) - self.mean) / self.spread, self._ones(rows)], axis=1)

    def _numbers(self, rows: pd.DataFrame) -> Array:
        import numpy as np

        columns = [rows[name].fillna(self.middle[name]).to_numpy("float64") for name in self.names]
        return np.stack(columns, axis=1) if columns else np.zeros((len(rows), 0))

    def _ones(self, rows: pd.DataFrame) -> Array:
        import numpy as np

        columns = [
            (rows[name].astype(str) == value).to_numpy("float64")
            for name, values in self.values.items()
            for value in values
        ]
        return np.stack(columns, axis=1) if columns else np.zeros((len(rows), 0))
