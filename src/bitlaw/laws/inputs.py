"""What laws read beside the columns of the table, and what a table must not be for any law."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.errors import UserError
from bitlaw.table import UNQUANTIZED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd

    Derived = Callable[[pd.DataFrame], pd.Series[float]]

# What says which cell a row is, as far as a table has it.
IDENTITY = (
    *("model", "source", "format", "method", "settings", "seed", "q_ratio", "granularity"),
    *("mix", "high", "select", "select_settings", "q_target", "trial"),
    *(
        "activation_bits",
        "text",
        "text_sha256",
        "window",
        "stride",
        "eval_tokens",
        "dtype",
        "calibration_text",
        "calibration_text_sha256",
    ),
    *("calibration_samples", "calibration_length", "metric"),
)


def check(table: pd.DataFrame) -> None:
    """Refuse a table that has a cell twice, or two texts under one label.

    Raises:
        UserError: it names the first such cell or label.
    """
    same = [name for name in IDENTITY if name in table.columns]
    twice = table.duplicated(same, keep=False)
    if twice.any():
        row = table[twice].iloc[0]
        cell = ", ".join(str(row[name]) for name in ("model", "format", "method", "text"))
        raise UserError(f"{int(table.duplicated(same).sum())} cells are in the table more than once, such as {cell}")
    texts = table.groupby("text")["text_sha256"].nunique()
    if (texts > 1).any():
        label = texts.index[texts > 1][0]
        raise UserError(f"'{label}' is the label of {texts[label]} different texts: losses on them must not be mixed")


def derive(table: pd.DataFrame, derived: Mapping[str, Derived]) -> pd.DataFrame:
    """Return ``table`` with those columns of ``derived`` that it does not have."""
    missing = {name: of(table) for name, of in derived.items() if name not in table.columns}
    return table.assign(**missing) if missing else table


def block_values(table: pd.DataFrame) -> pd.Series[float]:
    """Return for each row how many values share a scale; NaN where that depends on the shape of the matrix."""
    import pandas as pd

    return pd.to_numeric(table["block"], errors="coerce").astype("float64")


def quantized(table: pd.DataFrame) -> pd.Series[float]:
    """Return 1 for a quantized cell, 0 for a baseline."""
    return (table["format"] != UNQUANTIZED).astype("float64")
