"""Rows of a results table in the one form that claims are tested on, and pairs of rows that differ in one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.errors import UserError
from bitlaw.series import series
from bitlaw.table import UNQUANTIZED, element_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

FEWEST = 5
LEAST = 1e-4
"""Losses added below this (nats per token) are the noise of the measurement; their ratios say nothing."""
_TEXTS = ("model", "family", "format", "element", "block", "method", "settings", "text", "source")
WHERE = ("evaluation", "source", "model", "family", "activation_bits")
"""What two cells must share to be compared at all."""
WHAT = ("kind", "bits", "block", "options", "method", "settings", "q", "mix")
"""What a cell is beside; a comparison is of cells that differ in one of these."""


def prepared(table: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of ``table`` with finite losses and one set of columns.

    ``added`` is the loss that quantization adds, ``noise_db`` the SQNR of rounding to nearest, ``evaluation`` text
    and window, ``series`` the family and how its sizes were trained, ``q`` the share quantized, ``mix`` the
    granularity, ``options`` what a format has beside element and block, ``log_n`` the decimal logarithm of N. Cells are
    compared within one evaluation only.

    Raises:
        UserError: a column is absent or empty, the same cell is there twice, or fewer than ``FEWEST`` cells.
    """
    import numpy as np
    import pandas as pd

    for column in ("model", "n_params", "format", "method", "delta_nll", "nll", "text", "finite"):
        if column not in table.columns:
            raise UserError(f"the table has no column '{column}'")
    if len(table) < FEWEST:
        raise UserError(f"{len(table)} rows are too few to test a claim on; it takes {FEWEST}")
    for column in ("delta_nll", "n_params"):
        if table[column].isna().all():
            raise UserError(f"the column '{column}' of the table has no value")
    rows = table.copy()
    for name in _TEXTS:
        rows[name] = rows[name].astype("string").fillna("none").astype(object) if name in rows else "none"
    label = rows["text"]
    if "window" in rows:
        label = label + "@" + rows["window"].astype("Int64").astype("string").fillna("").astype(object)
    if "text_sha256" in rows:
        label = label + rows["text_sha256"].astype("string").fillna("").str[:8].astype(object)
    rows["evaluation"] = label
    rows["kind"] = element_kind(rows).astype(object) if "scale_rule" in rows else rows["element"]
    rows["series"] = series(rows).fillna("none").astype(object)
    rows["options"] = [_options(name) for name in rows["format"]]
    rows["mix"] = _mix(rows)
    share = rows["q_target"].fillna(rows["q_ratio"]) if "q_target" in rows else rows.get("q_ratio", 1.0)
    rows["q"] = pd.to_numeric(pd.Series(share, index=rows.index)).astype("float64").fillna(1.0).round(3)
    for name, fill in (("activation_bits", 16.0), ("bits", np.nan), ("effective_bits", np.nan), ("model_bits", np.nan)):
        rows[name] = pd.to_numeric(rows[name]).astype("float64").fillna(fill) if name in rows else fill
    rows["log_n"] = np.log10(pd.to_numeric(rows["n_params"]).astype("float64"))
    rows["added"] = rows["delta_nll"].astype("float64")
    if "flag" in rows:
        rows = rows[rows["flag"].fillna("") == ""]
    _refuse_duplicates(rows)
    done: pd.DataFrame = rows.reset_index(drop=True)
    return done


def measured(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the quantized cells with a finite loss and all weights in the format."""
    import numpy as np

    good = rows["finite"].fillna(False).to_numpy("bool") & np.isfinite(rows["added"]) & rows["log_n"].notna()
    kept: pd.DataFrame = rows[good & (rows["format"] != UNQUANTIZED)]
    return kept


def whole(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the measured cells in which all weights are in one format and activations are not quantized."""
    rows = measured(rows)
    kept: pd.DataFrame = rows[(rows["q"] >= 0.9) & (rows["mix"] == "none") & (rows["activation_bits"] >= 16)]
    return kept


def pairs(
    rows: pd.DataFrame, one: pd.DataFrame, other: pd.DataFrame, differ: Sequence[str], value: str = "added"
) -> pd.DataFrame:
    """Return the pairs of a cell of ``one`` and a cell of ``other`` that are equal but in ``differ``.

    The value is averaged over cells that only the other columns tell apart.

    Returns:
        the shared columns, ``a`` and ``b`` (the value of either), and ``log_n``.
    """
    by = [name for name in (*WHERE, *WHAT) if name not in differ]
    a = one.groupby(by, dropna=False, sort=True).agg(a=(value, "mean"), log_n=("log_n", "first"), **_bits("a"))
    b = other.groupby(by, dropna=False, sort=True).agg(b=(value, "mean"), **_bits("b"))
    return a.join(b, how="inner").dropna(subset=["a", "b"]).reset_index()


def _bits(side: str) -> dict[str, tuple[str, str]]:
    return {f"bits_{side}": ("effective_bits", "mean")}


def ratio(found: pd.DataFrame) -> pd.Series[float]:
    """Return ln(a / b) for each row of pairs, both at least ``LEAST`` nats; positive if b adds less loss."""
    import numpy as np

    logs: pd.Series[float] = np.log(found["a"].clip(lower=LEAST)) - np.log(found["b"].clip(lower=LEAST))
    return logs


def slopes(
    rows: pd.DataFrame, by: Sequence[str], x: str, value: Callable[[pd.DataFrame], pd.Series[float]]
) -> pd.DataFrame:
    """Return the slope of ``value`` against ``x`` in each group of ``by`` with two or more values of ``x``."""
    import numpy as np
    import pandas as pd

    rows = rows.assign(y=value(rows))
    found = []
    for names, part in rows.groupby(list(by), sort=True, dropna=False):
        each = part.groupby(x)["y"].mean()
        if len(each) >= 2 and each.index.max() - each.index.min() > 0.2:
            slope = float(np.polyfit(each.index.to_numpy("float64"), each.to_numpy("float64"), 1)[0])
            found.append({**dict(zip(by, names, strict=True)), "slope": slope, "x": float(each.index.max())})
    return pd.DataFrame(found, columns=[*by, "slope", "x"])


def _options(name: str) -> str:
    """Return what a format's name says beside element and block: ``centered`` of ``int4_b64_centered``."""
    parts = [part for part in name.split("_")[1:] if part[:1] != "e" or "m" not in part]
    return "_".join(part for part in parts if part not in ("row", "none") and not part.lstrip("bg").isdigit())


def _mix(rows: pd.DataFrame) -> pd.Series[str]:
    import pandas as pd

    for name in ("mix", "granularity"):
        if name in rows:
            return rows[name].astype("string").replace("", "none").fillna("none").astype(object)
    return pd.Series("none", index=rows.index, dtype=object)


def _refuse_duplicates(rows: pd.DataFrame) -> None:
    names = [name for name, kind in rows.dtypes.items() if not str(kind).startswith("float")]
    free = {"key", "note", "flag", "reference", "finite"}
    twice = rows.duplicated([*(name for name in names if name not in free), "q"], keep=False)
    if twice.any():
        first = rows[twice].iloc[0]
        name = ", ".join(str(first[column]) for column in ("model", "format", "method", "text"))
        raise UserError(f"{int(twice.sum())} rows are the same cell as another, the first is {name}; keep each once")
