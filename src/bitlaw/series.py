"""Series of sizes: models of a family that differ in size and were trained alike, so that they can be on one curve."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

SHARE = 1 / 3
"""Share of a family's models that have another one of their size where the family is of several series."""
_SIZE = re.compile(r"(?<![a-z0-9.])\d+(?:\.\d+)?\s*[bmk](?![a-z0-9])", re.IGNORECASE)


def series(table: pd.DataFrame) -> pd.Series[str]:
    """Return for each row of a results table the series that its model belongs to.

    That is the family. Where it has several models of one size (as far as ``SHARE`` says), their names tell: that of
    ``llama-9m-d80`` without its size is ``llama-d80``. Where two of one size have the same name then, their training
    tokens for each parameter tell, to the nearest power of two: ``llama, 20 tokens a parameter``. Missing where there
    is no family.
    """
    import pandas as pd

    models = table[[name for name in ("model", "family", "n_params", "n_tokens") if name in table]]
    models = models.drop_duplicates("model").set_index("model")
    names = dict(zip(models.index, models["family"], strict=True))
    for family, own in models.groupby("family", sort=True):
        if own["n_params"].dropna().duplicated(keep=False).sum() >= SHARE * len(own):
            names |= dict(zip(own.index, _told_apart(str(family), own), strict=True))
    return pd.Series([names[model] for model in table["model"]], index=table.index, dtype="string")


def lineage(table: pd.DataFrame) -> pd.Series[str]:
    """Return for each row what a law of size and training tokens is fitted to: the family, or its ``series``.

    The latter where a family has two models of one size on as many tokens: then something else differs that no column
    tells, such as the text that they were trained on.
    """
    models = table.drop_duplicates("model")
    twice = models[models.duplicated(["family", "n_params", "n_tokens"], keep=False)]["family"].dropna().unique()
    names = table["family"].astype("string")
    return names.where(~names.isin(twice), series(table))


def _told_apart(family: str, models: pd.DataFrame) -> list[str]:
    import numpy as np
    import pandas as pd

    stems = pd.Series([_stem(str(name)) for name in models.index], index=models.index)
    several = stems.map(stems.value_counts()) > 1
    if several.any() and not models.assign(stem=stems).duplicated(["stem", "n_params"]).any():
        return stems.tolist()
    tokens = models["n_tokens"] if "n_tokens" in models else pd.Series(math.nan, index=models.index)
    ratio = tokens.astype("float64") / models["n_params"].astype("float64")
    step = ratio.map(lambda value: np.round(np.log2(value)))
    if step.nunique() < 2:
        return [family] * len(models)
    typical = ratio.groupby(step).transform("median")
    return [family if math.isnan(value) else f"{family}, {_digits(value)} tokens a parameter" for value in typical]


def _digits(value: float) -> str:
    """Return two digits of ``value``: tokens come in whole batches, and more were not meant."""
    return f"{float(f'{value:.2g}'):g}"


def _stem(name: str) -> str:
    """Return a model's name without what tells its size."""
    return re.sub(r"[-_. ]{2,}", "-", _SIZE.sub("", name)).strip("-_. ") or name
