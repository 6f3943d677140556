"""Cells that were measured, which no prediction replaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.predictor.base import Array


class Measured(NamedTuple):
    """What was measured of a model in a format by a method, all weights quantized.

    Attributes:
        value: mean of the target over sources and seeds.
        low: the least of them.
        high: the largest of them.
        settings: of the method, as JSON: of several settings those with the least mean.
        effective_bits: stored bits per weight.
    """

    value: float
    low: float
    high: float
    settings: str
    effective_bits: float


def measured(rows: pd.DataFrame, y: Array) -> dict[tuple[str, str, str], Measured]:
    """Return what was measured, by model, format and method.

    Args:
        rows: cells, as of ``bitlaw.predictor.cells.collect``; mixed ones are passed over.
        y: the target of each.
    """
    names = ["model", "format", "method", "settings"]
    plain = rows.assign(y=y)
    plain = plain[(plain["q_ratio"].astype("float64") == 1.0).to_numpy("bool")]
    typed = plain.astype({**dict.fromkeys(names, str), "effective_bits": "float64"})
    taken = {"value": ("y", "mean"), "low": ("y", "min"), "high": ("y", "max"), "bits": ("effective_bits", "mean")}
    # Of settings with equal means the first by name are taken: a stable sort keeps the order of the groups.
    each = typed.groupby(names, sort=True).agg(**taken).reset_index().sort_values("value", kind="stable")
    least = each.drop_duplicates(names[:3]).sort_values(names)
    keys = least[names[:3]].itertuples(index=False, name=None)
    values = least[["value", "low", "high", "settings", "bits"]].itertuples(index=False, name=None)
    return dict(zip(keys, map(Measured._make, values), strict=True))
