"""What is held out when laws are compared: larger models, a family, fewer bits, a kind of format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bitlaw.table import element_kind

if TYPE_CHECKING:
    import pandas as pd

LEAST_LEFT = 5
ROLLS = 3


@dataclass(frozen=True)
class Fold:
    """Rows that are held out together.

    Attributes:
        situation: a key of ``bitlaw.laws.situations.SITUATIONS``.
        name: which.
        held: the rows, bool of shape (n,).
    """

    situation: str
    name: str
    held: Any


def folds(rows: pd.DataFrame) -> list[Fold]:
    """Return the hold-outs of ``rows``, quantized cells of one text and method.

    Families and kinds of format are left out one by one. The largest sizes and the lowest bits roll: the last one,
    the last two and the last three steps are held out, as long as two steps are left. Sizes within a factor of two
    are one step, as are bits within half a bit.
    """
    import numpy as np

    found = []
    for situation, labels in (("family", rows["family"].astype("string")), ("kind", element_kind(rows))):
        known = labels.fillna("none").to_numpy(str)
        names = np.unique(known)
        found += [Fold(situation, str(name), known == name) for name in names if len(names) > 1]
    size = np.round(np.log2(rows["n_params"].to_numpy("float64"))).astype(int)
    steps = np.unique(size)[::-1]
    for last in steps[: max(0, min(ROLLS, len(steps) - 2))]:
        found.append(Fold("size", f"from 2^{last} parameters", size >= last))
    bits = np.round(2.0 * rows["effective_bits"].to_numpy("float64")) / 2.0
    steps = np.unique(bits[np.isfinite(bits)])
    for last in steps[: max(0, min(ROLLS, len(steps) - 2))]:
        found.append(Fold("bits", f"up to {last:g} bits", bits <= last))
    return [fold for fold in found if fold.held.any() and (~fold.held).sum() >= LEAST_LEFT]
