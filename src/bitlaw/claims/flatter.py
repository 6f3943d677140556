"""Larger models have flatter surroundings: their loss climbs at more noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.claims.base import Claim, Figure, Outcome, Point, above, mean, nothing
from bitlaw.claims.rows import slopes

if TYPE_CHECKING:
    import pandas as pd


def test(rows: pd.DataFrame, seed: int) -> Outcome:
    """Take the slope of the SQNR at which a model's loss begins to climb against log10 of its size."""
    if "step_db" not in rows or rows["step_db"].isna().all():
        return nothing("the table has no landscape (column step_db)")
    models = rows.dropna(subset=["step_db", "log_n"]).drop_duplicates(["model", "source"])
    by = ("family", "series", "source")
    found = slopes(models, by, "log_n", lambda part: -part["step_db"].astype("float64"))
    points = tuple(
        Point(float(10**n), float(y), str(family))
        for n, y, family in zip(models["log_n"], models["step_db"], models["family"], strict=True)
    )
    figure = Figure("non-embedding parameters", "SQNR where the loss begins to climb, dB", points, None, log_x=True)
    why = f"{len(found)} series of sizes; flatter means that the loss climbs at a lower SQNR"
    return above(mean(found["slope"], found["family"], seed), 0.0, why, figure)


CLAIM = Claim(
    title="Larger models are flatter",
    paper="Xu et al. 2024",
    statistic="dB of noise that a model bears more per decade of N",
    rule="above 0",
    test=test,
)
