"""Zero-shot accuracy of choices: measured, or predicted as the accuracy that quantization costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bitlaw.advise.alike import ALIKE
from bitlaw.advise.engine import is_format
from bitlaw.advise.measured import measured
from bitlaw.errors import UserError
from bitlaw.formats import grammar
from bitlaw.predictor.cells import collect, evaluations
from bitlaw.predictor.features import features
from bitlaw.predictor.fitted import TAIL, Asked, base_loss, fit, queries, without
from bitlaw.table import UNQUANTIZED

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from bitlaw.advise.question import Choice
    from bitlaw.predictor.cells import Cells
    from bitlaw.predictor.known import Known

TARGET = "accuracy_drop"
Accuracy = tuple[float, float, float]


def accuracies(
    table: pd.DataFrame, choices: Sequence[Choice], task: str | None, evaluation: str, seed: int
) -> tuple[list[Accuracy | None], str]:
    """Return the accuracy of each choice with the ends of its interval, ``None`` where nothing tells, and a sentence.

    Args:
        table: results; its accuracies are learned from.
        choices: what can be chosen.
        task: the evaluation of accuracies as ``NAME`` or ``NAME@WINDOW``. If ``None``, that of the losses if it has
            accuracies, or else the one with most cells.
        evaluation: that of the losses.
        seed: of the fits.

    Raises:
        UserError: the ``task`` that was named cannot be learned from.
    """
    try:
        cells = _cells(table, task, evaluation)
        fitted_values = _values(cells, choices, seed)
    except UserError as error:
        if task is not None:
            raise
        return [None] * len(choices), f"zero-shot accuracy is not known: {error}"
    return fitted_values, f"zero-shot accuracy on {cells.evaluation}, from {len(cells.rows)} cells"


def _cells(table: pd.DataFrame, task: str | None, evaluation: str) -> Cells:
    if "accuracy" not in table or table["accuracy"].isna().all():
        raise UserError("the table has none")
    # Mixed cells and quantized activations are other experiments, often of other sources.
    plain = table["q_ratio"].astype("float64").isin([0.0, 1.0]).to_numpy("bool")
    rows = table[plain & table["accuracy"].notna().to_numpy("bool")]
    if "activation_bits" in rows:
        rows = rows[rows["activation_bits"].fillna(16).eq(16).to_numpy("bool")]
    if task is None and len(rows):
        counts = evaluations(rows)
        task = evaluation if evaluation in counts.index else str(counts.index[0])
    return collect(rows, text=task, target=TARGET)


def _values(cells: Cells, choices: Sequence[Choice], seed: int) -> list[Accuracy | None]:
    import numpy as np

    models = {one.known.name: one.known for one in choices}
    best = {name: _unquantized(cells, known) for name, known in models.items()}
    there = measured(cells.rows, cells.y)
    found: list[Accuracy | None] = []
    open_: list[int] = []
    for at, one in enumerate(choices):
        value, spread = best[one.known.name]
        drop = there.get((one.known.name, one.format, one.method))
        if one.format == UNQUANTIZED or (drop is not None and spread == 0.0):
            lost = drop.value if drop is not None else 0.0
            found.append(_clipped(value - lost, value - lost - TAIL * spread, value - lost + TAIL * spread))
        else:
            found.append(None)
            if is_format(one.format):
                open_.append(at)
    if open_:
        bases = {name: base_loss(cells, known)[:2] for name, known in models.items()}
        open_choices = [choices[at] for at in open_]
        asked = [
            Asked(one.known, grammar.parse(one.format), one.method, *bases[one.known.name]) for one in open_choices
        ]
        rows = queries(cells, asked, largest=0)
        fitted = fit(cells, without(features(cells), rows), {ALIKE.name: ALIKE}, seed)
        drops = np.stack(fitted.intervals(rows, np.array([one.spread for one in asked])))
        for at, (drop_value, low, high) in zip(open_, drops.T.tolist(), strict=True):
            value, spread = best[choices[at].known.name]
            found[at] = _clipped(value - drop_value, value - high - TAIL * spread, value - low + TAIL * spread)
    return found


def _clipped(*values: float) -> Accuracy:
    value, low, high = (min(1.0, max(0.0, one)) for one in values)
    return value, low, high


def _unquantized(cells: Cells, known: Known) -> tuple[float, float]:
    """Return the accuracy of the unquantized model and how far it may be off: 0 if it was measured."""
    import numpy as np

    rows = cells.rows.assign(best=cells.y + cells.rows["accuracy"].astype("float64")).drop_duplicates("model")
    own = rows[rows["model"] == known.name]
    if len(own):
        return float(own["best"].iloc[0]), 0.0
    same = rows[rows["family"] == known.family]
    used = same if same["n_params"].nunique() > 1 else rows
    x, y = np.log(used["n_params"].astype("float64").to_numpy()), used["best"].to_numpy("float64")
    slope, offset = np.polyfit(x, y, 1) if len(set(x)) > 1 else (0.0, float(y.mean()))
    spread = float(np.std(y - (offset + slope * x))) if len(y) > 2 else 0.1
    return float(np.clip(offset + slope * math.log(known.n_params), 0.0, 1.0)), max(spread, 0.01)
