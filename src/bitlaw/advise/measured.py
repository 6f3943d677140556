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
    found: dict[tuple[str, str, str], Measured] = {}
    for keys, part in plain.astype(dict.fromkeys(names, str)).groupby(names, sort=True):
        model, fmt, method, settings = (str(key) for key in keys)
        values = part["y"]
        bits = float(part["effective_bits"].mean())
        one = Measured(float(values.mean()), float(values.min()), float(values.max()), settings, bits)
        if one.value < found.get((model, fmt, method), one._replace(value=float("inf"))).value:
            found[model, fmt, method] = one
    return found
