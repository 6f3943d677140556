"""Loss and zero-shot accuracy correlate strongly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.claims.base import FEWEST, INTERVAL, Claim, Figure, Outcome, Point, decided, nothing

if TYPE_CHECKING:
    import pandas as pd

REPORTED, ENOUGH, RESAMPLES = -0.94, -0.8, 500
CELL = ["source", "model", "family", "format", "method", "settings", "q", "mix", "activation_bits"]


def test(rows: pd.DataFrame, seed: int) -> Outcome:
    """Correlate the mean accuracy of a cell with its mean loss; models are resampled."""
    import numpy as np
    import pandas as pd

    if "accuracy" not in rows or rows["accuracy"].isna().all():
        return nothing("the table has no zero-shot accuracy (column accuracy)")
    shares = rows.dropna(subset=["accuracy"])
    tasks = shares.groupby(CELL)["evaluation"].agg(lambda names: ", ".join(sorted(set(names))))
    mean = shares.groupby(CELL)["accuracy"].mean().rename("accuracy")
    good = rows[rows["finite"].fillna(False).to_numpy("bool") & np.isfinite(rows["nll"].astype("float64"))]
    losses = good.groupby([*CELL, "evaluation"])["nll"].mean().rename("loss").reset_index()
    joined = losses.join(pd.concat([mean, tasks.rename("tasks")], axis=1), on=CELL, how="inner")
    found = None
    # Cells compare that have the same text and the same tasks; those of which there are most.
    for _, part in joined.groupby(["source", "evaluation", "tasks"], sort=True):
        if found is None or len(part) > len(found):
            found = part.astype({"accuracy": "float64"})
    if found is None or len(found) < FEWEST or found["accuracy"].nunique() < 2 or found["loss"].nunique() < 2:
        return nothing("too few cells have both a loss and an accuracy")
    value, (low, high) = _pearson(found), _interval(found, seed)
    verdict = decided(high < ENOUGH, low > ENOUGH)
    inside = low <= REPORTED <= high
    where = "within" if inside else "outside"
    why = f"{len(found)} cells of {found['model'].nunique()} models; {REPORTED} is {where} the interval"
    points = tuple(
        Point(float(x), float(y), str(f))
        for x, y, f in zip(found["loss"], found["accuracy"], found["family"], strict=True)
    )
    figure = Figure("loss, nats per token", "mean zero-shot accuracy", points)
    return Outcome(verdict, why, value, low, high, len(found), figure)


def _pearson(found: pd.DataFrame) -> float:
    import numpy as np

    return float(np.corrcoef(found["loss"], found["accuracy"])[0, 1])


def _interval(found: pd.DataFrame, seed: int) -> tuple[float, float]:
    """Return the interval of the correlation over resampled models."""
    import numpy as np

    x, y = found["loss"].to_numpy("float64"), found["accuracy"].to_numpy("float64")
    _, which = np.unique(found["model"].astype(str), return_inverse=True)
    rng, n = np.random.default_rng(seed), int(which.max()) + 1
    weights = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)[:, which].astype("float64")
    total = weights.sum(1, keepdims=True)
    dx, dy = (values - (weights * values).sum(1, keepdims=True) / total for values in (x, y))
    spread = np.sqrt((weights * dx**2).sum(1) * (weights * dy**2).sum(1))
    drawn = np.where(spread > 0, (weights * dx * dy).sum(1) / np.where(spread > 0, spread, 1.0), 0.0)
    low, high = np.quantile(drawn, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])
    return float(low), float(high)


CLAIM = Claim(
    title="Loss against zero-shot accuracy correlates at about -0.94",
    paper="Dettmers and Zettlemoyer 2023, section 4",
    statistic="Pearson's correlation of loss and mean zero-shot accuracy",
    rule="below -0.8",
    test=test,
)
