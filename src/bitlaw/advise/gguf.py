"""llama.cpp's own formats: measured on few models, and carried over to others as they are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bitlaw.advise.effort import seconds
from bitlaw.advise.memory import cache_bytes, weight_bytes
from bitlaw.advise.question import Choice
from bitlaw.predictor.conformal import Margins, calibrate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from bitlaw.advise.engine import Loads
    from bitlaw.advise.question import Question
    from bitlaw.predictor.cells import Cells
    from bitlaw.predictor.known import Known

METHOD = "gguf"
FEWEST = 20
"""Cells that an interval takes at least."""


def own_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of ``table`` in llama.cpp's own formats that have a loss, with ``effective_bits`` filled in.

    A file's size per weight was not printed for every model; it is then that of the same format in another.
    """
    rows = table[(table["method"] == METHOD).fillna(False).to_numpy("bool")]
    if "flag" in rows:
        rows = rows[rows["flag"].fillna("").eq("").to_numpy("bool")]
    rows = rows[rows["delta_nll"].notna().to_numpy("bool")]
    bits = rows["effective_bits"].astype("float64")
    rows = rows.assign(effective_bits=bits.fillna(bits.groupby(rows["format"]).transform("mean")))
    return rows[rows["effective_bits"].notna().to_numpy("bool")]


def own_choices(
    question: Question, cells: Cells, own: pd.DataFrame, bases: dict[str, tuple[float, float]]
) -> Iterator[Choice]:
    """Yield the choices in llama.cpp's own formats.

    A model that was not measured gets what the same format cost the measured model that is nearest in size. The
    interval is of such carrying over between families, for formats and methods that many models were measured in.

    Args:
        question: what is asked.
        cells: cells of many models, to learn how far losses carry over.
        own: what ``own_cells`` returned.
        bases: by model, the loss of the unquantized model and how far it may be off.
    """
    names = ["model", "n_params", "format", "settings", "effective_bits", "delta_nll", "text", "window"]
    best = own.astype({"delta_nll": "float64"}).sort_values("delta_nll", kind="stable").drop_duplicates(names[:3:2])
    by_format: dict[str, list[dict[str, Any]]] = {}
    for cell in best[names].to_dict("records"):
        by_format.setdefault(str(cell["format"]), []).append({str(name): value for name, value in cell.items()})
    ways = {name: way for name in by_format if (way := question.engine.way(name, METHOD)) is not None}
    margins = carried_over(cells) if ways else None
    for known in question.models:
        cache, _ = cache_bytes(known, question.context, question.batch, question.cache_bits)
        for name, way in ways.items():
            yield _choice(known, by_format[name], way, (cache, *bases[known.name]), margins)


def _choice(
    known: Known,
    cells: Sequence[dict[str, Any]],
    way: Loads,
    given: tuple[float, float, float],
    margins: Margins | None,
) -> Choice:
    """Return the choice of the one format that ``cells`` are in, the best of each model that was measured."""
    cache, base, spread = given
    cell = min(cells, key=lambda one: (one["model"] != known.name, abs(math.log(one["n_params"] / known.n_params))))
    measured = cell["model"] == known.name
    value, bits = float(cell["delta_nll"]), float(cell["effective_bits"])
    low, high = (value, value) if measured else _interval(value, margins)
    evaluation = f"{cell['text']}@{cell['window']}"
    said = () if measured else (f"measured on {cell['model']}, {evaluation}, and not on this model",)
    settings = str(cell["settings"])
    return Choice(
        known, str(cell["format"]), METHOD, settings, bits, weight_bytes(known, bits, whole=True), cache, base, spread,
        value, low, high, measured, evaluation, seconds(known, METHOD, settings), way.how, way.rounds, said,
    )  # fmt: skip


def _interval(value: float, margins: Margins | None) -> tuple[float, float]:
    import numpy as np

    if margins is None:
        return math.nan, math.nan
    low, high = margins.interval(np.array([value]))
    return float(low[0]), float(high[0])


def carried_over(cells: Cells) -> Margins | None:
    """Return the margins of a loss taken over from another family's model; ``None`` where too few cells tell.

    Every cell is predicted by the one in the same format by the same method whose model, of another family, is nearest
    in size.
    """
    import numpy as np

    rows, y = cells.rows.reset_index(drop=True), cells.y
    sizes = np.log(rows["n_params"].astype("float64").to_numpy())
    families: Any = rows["family"].astype(str).to_numpy()
    places: list[int] = []
    values: list[float] = []
    for part in rows.groupby([rows["format"].astype(str), rows["method"].astype(str)], sort=True).indices.values():
        for at in part:
            others: Sequence[int] = [other for other in part if families[other] != families[at]]
            if others:
                places.append(int(at))
                values.append(float(y[min(others, key=lambda other: (abs(sizes[other] - sizes[at]), other))]))
    if len(places) < FEWEST:
        return None
    return calibrate(y[places], np.array(values), families[places])
