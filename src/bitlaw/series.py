"""Series of sizes: models of a family that differ in size and were trained alike, so that they can be on one curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

APART = 1.5
"""Training tokens of one size that differ by less than this factor are the same number, but for whole batches."""
SHARE = 1 / 3
"""Share of a family's models that have another one of their size, on other tokens, where it has an axis of tokens."""


def series(table: pd.DataFrame) -> pd.Series[str]:
    """Return for each row of a results table the series that its model belongs to.

    That is the family, and where its sizes were trained on several numbers of tokens (as far as ``SHARE`` says), the
    tokens for each parameter, to the nearest power of two: ``llama, 20 tokens a parameter``. Missing where there is no
    family.
    """
    import numpy as np
    import pandas as pd

    names = table["family"].astype("string")
    if "n_tokens" not in table:
        return names
    n, d = (pd.to_numeric(table[name]).astype("float64") for name in ("n_params", "n_tokens"))
    tokens = d.groupby([names, n])
    twice = tokens.transform("max") > APART * tokens.transform("min")
    models = pd.DataFrame({"model": table["model"], "family": names, "twice": twice}).drop_duplicates("model")
    share = models.groupby("family")["twice"].mean()
    several = (names.map(share).astype("float64") >= SHARE) & d.notna() & n.notna()
    if not several.any():
        return names
    step = np.round(np.log2((d / n).where(several)))
    typical = (d / n).where(several).groupby([names, step]).transform("median")
    said = pd.Series([f", {value:.2g} tokens a parameter" for value in typical], index=table.index, dtype="string")
    return names.where(~several, names + said)
