"""The noise of a format, as an input of laws; apart from ``inputs``, so that only laws that read it follow formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.errors import UserError
from bitlaw.table import UNQUANTIZED

if TYPE_CHECKING:
    import pandas as pd


def format_noise(table: pd.DataFrame) -> pd.Series[float]:
    """Return each row's GMSE of its format (Panferov et al. 2025): 0 unquantized, NaN for a name that is no format."""
    from bitlaw.formats import grammar
    from bitlaw.formats.gmse import gmse

    known = {UNQUANTIZED: 0.0}
    for name in table["format"].unique():
        if name not in known:
            try:
                known[name] = gmse(grammar.parse(name))
            except UserError:
                known[name] = float("nan")
    return table["format"].map(known).astype("float64")
