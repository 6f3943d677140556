"""Intervals from the errors on families that a model was not fitted to.

Split conformal prediction asks that a new cell be like those that errors were taken from. Cells of one family err
together, so the families are what is exchangeable: each counts the same, and the margins are widened until families
that had no part in them are covered (leave-one-family-out over the errors; compare the jackknife+ and CV+ of Barber et
al. 2021, and hierarchical conformal prediction, Lee et al. 2023). Errors are squashed: relative for large losses and
absolute for small ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bitlaw.predictor.base import squash, stretch

if TYPE_CHECKING:
    from bitlaw.predictor.base import Array

LEVELS = (0.03, 0.3)
"""Predicted losses (nats) between which errors are pooled: small, middle, large."""
FEWEST = 20
WIDEST = 4.0


@dataclass(frozen=True)
class Margins:
    """What is added to a squashed prediction for its interval.

    Attributes:
        low: at most zero, by level of the prediction.
        high: at least zero, by level.
        widened: factor by which the quantiles were widened so that left-out families are covered.
        coverage: what was asked for.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    widened: float
    coverage: float

    def interval(self, predicted: Array) -> tuple[Array, Array]:
        """Return the ends (n,) and (n,) of the intervals around predictions (n,), in the unit of the target."""
        import numpy as np

        level, middle = np.digitize(predicted, LEVELS), squash(predicted)
        return stretch(middle + np.array(self.low)[level]), stretch(middle + np.array(self.high)[level])

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"low": list(self.low), "high": list(self.high), "widened": self.widened, "coverage": self.coverage}


def calibrate(y: Array, predicted: Array, families: Array, coverage: float = 0.9) -> Margins:
    """Return the margins for new families.

    Args:
        y: measured.
        predicted: of fits without the family of each row.
        families: family of each row.
        coverage: share of cells that the intervals are to hold.
    """
    import numpy as np

    errors, level = squash(y) - squash(predicted), np.digitize(predicted, LEVELS)
    names = sorted(set(families))
    widened = 1.0
    if len(names) > 1:
        # For each family, how far the others' margins must be widened to reach each of its cells.
        needed = [_reach(errors[out], level[out], *_quantiles(errors[~out], level[~out], families[~out], coverage))
                  for out in (families == name for name in names)]  # fmt: skip
        weights = [np.full(len(one), 1 / len(one)) for one in needed]
        widened = _quantile(np.concatenate(needed), np.concatenate(weights), coverage)
    widened = float(np.clip(widened, 1.0, WIDEST))
    low, high = _quantiles(errors, level, families, coverage)
    return Margins(tuple((widened * low).tolist()), tuple((widened * high).tolist()), widened, coverage)


def _quantiles(errors: Array, level: Any, families: Array, coverage: float) -> tuple[Array, Array]:
    """Return the lower and upper quantile of the errors at each level, each family counting the same."""
    import numpy as np

    tail = (1 - coverage) / 2
    low, high = np.empty(len(LEVELS) + 1), np.empty(len(LEVELS) + 1)
    for at in range(len(LEVELS) + 1):
        own = level == at
        if own.sum() < FEWEST:
            own = np.ones(len(level), dtype=bool)
        _, which, sizes = np.unique(families[own], return_inverse=True, return_counts=True)
        weights = 1.0 / sizes[which]
        low[at] = min(-1e-3, -_quantile(-errors[own], weights, 1 - tail))
        high[at] = max(1e-3, _quantile(errors[own], weights, 1 - tail))
    return low, high


def _quantile(values: Array, weights: Array, share: float) -> float:
    """Return the smallest value that at least ``share`` of the weight lies at or below, the new cell counted."""
    import numpy as np

    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    share = min(1.0, share * (1 + 1 / len(values)))
    return float(values[order][min(len(values) - 1, int(np.searchsorted(total, share * total[-1] - 1e-12)))])


def _reach(errors: Array, level: Any, low: Array, high: Array) -> Array:
    """Return by what factor the margins must be widened to hold each error."""
    import numpy as np

    return np.asarray(np.maximum(errors / high[level], errors / low[level]))


def covered(y: Array, low: Array, high: Array) -> float:
    """Return the share of ``y`` (n,) within the intervals from ``low`` (n,) to ``high`` (n,)."""
    return float(((y >= low) & (y <= high)).mean())
