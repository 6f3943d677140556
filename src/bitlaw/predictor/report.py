"""All protocols on all evaluations of a table, as plain JSON values; what cannot be done is said instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitlaw.errors import UserError
from bitlaw.predictor.cells import collect, evaluations
from bitlaw.predictor.features import features
from bitlaw.predictor.protocols import PROTOCOLS, run
from bitlaw.table import UNQUANTIZED

if TYPE_CHECKING:
    import pandas as pd

MOST_POINTS = 3000
"""Points of a protocol that are kept for figures, evenly chosen; errors are those of all."""


def report(table: pd.DataFrame, seed: int) -> list[dict[str, Any]]:
    """Return for each evaluation of ``table`` its name, ``cells``, and by protocol ``records`` and ``refused``.

    A table that cannot be learned from has one entry under ``refused``, ``table``.
    """
    found = []
    quantized = table[table["format"] != UNQUANTIZED]
    names: list[str | None] = [*sorted(map(str, evaluations(quantized).index))] if len(quantized) else [None]
    for name in names:
        one: dict[str, Any] = {"evaluation": name, "cells": 0, "excluded": {}, "records": {}, "refused": {}}
        found.append(one)
        try:
            cells = collect(table, text=name)
            rows = features(cells)
        except UserError as error:
            one["refused"]["table"] = str(error)
            continue
        one |= {"cells": len(rows), "excluded": cells.excluded}
        for protocol in PROTOCOLS:
            try:
                record = run(protocol, cells, rows, seed)
            except UserError as error:
                one["refused"][protocol] = str(error)
            else:
                step = -(-len(record["points"]) // MOST_POINTS)
                one["records"][protocol] = {**record, "points": record["points"][:: max(1, step)]}
    return found
