"""What a predictor's model is, and the scale that errors are judged on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import pandas as pd

    Array = np.ndarray[Any, np.dtype[np.float64]]
    Predict = Callable[[pd.DataFrame], Array]

KNEE = 0.01
"""Below this loss (nats per token) ``squash`` is linear, above it logarithmic: about the noise of a measured loss."""

MOST_ROWS = 2000
"""A model learns from at most so many cells, drawn with the seed: more change errors little and cost minutes."""


@dataclass(frozen=True)
class Model:
    """A way to predict the target of cells from their features.

    Attributes:
        name: its name; the name of its module.
        title: what it is, in a phrase.
        role: a ``baseline`` is only compared with, a ``candidate`` may be chosen.
        learn: ``learn(rows, y, seed) -> predict``; ``rows`` are features (``bitlaw.predictor.features``), ``y`` the
            target, and ``predict`` maps other rows to the predicted target.
        complexity: rank among the candidates: of about equal ones the lowest is chosen.
        law: whether it is a closed form, which has an answer outside of what was measured and is fitted at once.
        needs: features that must be there for every row.
        source: the paper that it is from.
    """

    name: str
    title: str
    role: Literal["baseline", "candidate"]
    learn: Callable[[pd.DataFrame, Array, int], Predict]
    complexity: int = 0
    law: bool = False
    needs: tuple[str, ...] = ()
    source: str = ""

    def fits(self, rows: pd.DataFrame) -> bool:
        """Return whether ``rows`` have all the features that the model needs."""
        return all(name in rows and bool(rows[name].notna().all()) for name in self.needs)


def learn(model: Model, rows: pd.DataFrame, y: Array, seed: int) -> Predict:
    """Return ``model`` fitted to ``rows``, or to ``MOST_ROWS`` of them drawn with ``seed``."""
    import numpy as np

    if len(rows) > MOST_ROWS:
        kept = np.sort(np.random.default_rng(seed).choice(len(rows), MOST_ROWS, replace=False))
        rows, y = rows.iloc[kept], y[kept]
    return model.learn(rows.reset_index(drop=True), y, seed)


def squash(values: Array) -> Array:
    """Return ``asinh(values / KNEE)``, elementwise: nearly the logarithm of large losses, finite at zero and below."""
    import numpy as np

    return np.asarray(np.arcsinh(np.asarray(values, dtype="float64") / KNEE))


def stretch(values: Array) -> Array:
    """Return the inverse of ``squash``."""
    import numpy as np

    return np.asarray(KNEE * np.sinh(np.clip(values, -50.0, 50.0)))
