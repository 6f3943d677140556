"""The loss added against the noise in the weights, beside what random noise of the same strength adds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.card.base import Drawing, Made, Section, Study, interval, method_names, table
from bitlaw.card.charts import FEWEST, STEP, Axis, Look, lines
from bitlaw.claims.rows import LEAST
from bitlaw.report import scales, words

if TYPE_CHECKING:
    import pandas as pd

RANDOM = "random noise"


def make(study: Study) -> Made | None:
    """Return by method how much less a format costs than random noise as strong, and the medians by SQNR."""
    import numpy as np

    rows = study.quantized.dropna(subset=["sqnr_db"])
    rows = rows.assign(name=method_names(rows))
    rows = rows[np.isfinite(rows["sqnr_db"]) & (rows["delta_nll"] > LEAST)]
    if rows.empty:
        return None
    points = [
        _binned(part, "delta_nll").assign(what=words.method(str(name)))
        for name, part in rows.groupby("method", sort=True)
    ]
    random = rows[rows["radial_delta_nll"] > LEAST]
    said = "No radial profile was measured."
    if len(random):
        points.append(_binned(random, "radial_delta_nll").assign(what=RANDOM))
        logs = np.log(random["delta_nll"] / random["radial_delta_nll"])
        lines_ = [
            (str(name), f"{len(part):,}", interval(logs[part.index], part["model"], ratio=True))
            for name, part in random.groupby("name", sort=True)
        ]
        said = table(("method", "cells", "loss added, over that of random noise"), lines_)
    middle = _joined(points)
    paint = {**{words.method(name): color for name, color in scales.METHODS.items()}, RANDOM: "#8a8f98"}
    look = Look("what", "", paint=paint if set(middle["what"]) <= set(paint) else None, reverse=True)
    x, y = Axis("db", "SQNR of the weights, dB"), Axis("added", "median added loss, nats per token", log=True)
    chart = lines(middle, x, y, look, title="Loss and noise", below=f"medians over all cells within {STEP:g} dB")
    return Made(said, (Drawing("sqnr", "Median loss added against the SQNR of the weights", chart),))


def _binned(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    db = (rows["sqnr_db"] / STEP).round() * STEP
    found = rows.groupby(db)[column].agg(["median", "size"]).reset_index()
    found = found[found["size"] >= FEWEST]
    return found.rename(columns={"sqnr_db": "db", "median": "added"})


def _joined(points: list[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(points, ignore_index=True)


SECTION = Section(
    order=60,
    title="Loss and noise",
    says=(
        "Xu et al. 2024: the loss climbs with the noise in the weights. Random noise is read off each model's "
        "radial profile at the SQNR of the cell. Over 1, rounding costs more than random noise of the same "
        "strength."
    ),
    make=make,
)
