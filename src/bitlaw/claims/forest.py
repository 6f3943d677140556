"""A random forest predicts families that it has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.claims.base import Claim, Figure, Outcome, Point, above, mean, nothing
from bitlaw.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

ENOUGH = 0.5


def test(rows: pd.DataFrame, seed: int) -> Outcome:
    """Predict each family by the paper's forest fitted to the others, in the evaluation with most cells."""
    import numpy as np

    from bitlaw.predictor import MODELS
    from bitlaw.predictor.cells import collect, evaluations
    from bitlaw.predictor.crossed import cross
    from bitlaw.predictor.features import features

    quantized = rows[rows["finite"].fillna(False).to_numpy("bool")]
    if quantized.empty:
        return nothing("no cell has a finite loss")
    try:
        cells = collect(quantized, text=str(evaluations(quantized).index[0]))
        seen = features(cells)
        predicted = cross(seen, cells.y, {"forest": MODELS["forest"]}, seed, nested=False).single["forest"]
    except UserError as error:
        return nothing(str(error))
    spread = float(((cells.y - cells.y.mean()) ** 2).mean())
    # R^2 as a mean over cells, so that families can be resampled.
    explained = 1 - (predicted - cells.y) ** 2 / spread if spread > 0 else np.zeros(len(cells.y))
    points = tuple(
        Point(float(x), float(y), str(f)) for x, y, f in zip(cells.y, predicted, seen["family"], strict=True)
    )
    figure = Figure("measured, nats", "predicted without the family, nats", points)
    why = f"R² of the loss added over {seen['family'].nunique()} families left out in turn ({cells.evaluation})"
    return above(mean(explained, seen["family"], seed), ENOUGH, why, figure)


CLAIM = Claim(
    title="A random forest predicts unseen families",
    paper="Xu et al. 2024",
    statistic="R² of the loss added, for families left out",
    rule="above 0.5",
    test=test,
)
