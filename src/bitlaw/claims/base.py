"""What a claim is: a statistic of a results table, its interval over models, and what follows from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pandas as pd

Verdict = Literal["holds", "does not hold", "not enough data"]
HOLDS: Final = "holds"
FAILS: Final = "does not hold"
OPEN: Final = "not enough data"
FEWEST = 5
"""Values that a statistic needs; of fewer no interval is given."""
RESAMPLES = 2000
INTERVAL = 0.95


@dataclass(frozen=True)
class Point:
    """A point of a claim's figure; ``group`` gives its color."""

    x: float
    y: float
    group: str


@dataclass(frozen=True)
class Figure:
    """What a claim's figure shows.

    Attributes:
        x: title of the horizontal axis.
        y: title of the vertical axis.
        points: the values that the statistic was made from.
        line: height of a line that the claim is about.
        log_x: whether the horizontal axis is logarithmic.
    """

    x: str
    y: str
    points: tuple[Point, ...]
    line: float | None = None
    log_x: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came out of a test.

    Attributes:
        verdict: ``holds``, ``does not hold`` or ``not enough data``.
        why: what the verdict rests on, a sentence.
        statistic: the number; ``None`` if there is too little to compute it.
        low: lower end of its interval.
        high: upper end.
        n: values that it was made from.
        figure: what is drawn.
    """

    verdict: Verdict
    why: str
    statistic: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    figure: Figure | None = None

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Claim:
    """A claim.

    Attributes:
        title: the claim in a few words.
        paper: who made it.
        statistic: what number tests it, and in what unit.
        rule: when it holds.
        test: ``test(rows, seed) -> Outcome``; ``rows`` are from ``bitlaw.claims.rows.prepared``.
    """

    title: str
    paper: str
    statistic: str
    rule: str
    test: Callable[[pd.DataFrame, int], Outcome]


@dataclass(frozen=True)
class Estimate:
    """A mean with its bootstrap interval."""

    value: float
    low: float
    high: float
    n: int


def mean(values: Iterable[float], clusters: Iterable[object], seed: int) -> Estimate | None:
    """Return the mean of ``values`` and its interval over resampled ``clusters``; ``None`` for fewer than ``FEWEST``.

    Values of one cluster (a model, or a family) come and go together: they err together.
    """
    import numpy as np

    found = np.array(list(values), dtype="float64")
    if len(found) < FEWEST or not np.isfinite(found).all():
        return None
    names, which = np.unique([str(one) for one in clusters], return_inverse=True)
    sums, counts = np.bincount(which, weights=found), np.bincount(which).astype("float64")
    if len(names) < 2:  # one cluster tells nothing of others: resample its values
        sums, counts = found, np.ones(len(found))
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=RESAMPLES)
    low, high = np.quantile((drawn @ sums) / (drawn @ counts), [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])
    return Estimate(float(found.mean()), float(low), float(high), len(found))


def above(estimate: Estimate | None, threshold: float, why: str, figure: Figure | None = None) -> Outcome:
    """Return the outcome of the claim that the mean lies above ``threshold``.

    It holds if the whole interval does, and does not hold if the whole interval lies below; else the data are too few.
    """
    if estimate is None:
        return nothing(why or "too few cells to compare")
    verdict = decided(estimate.low > threshold, estimate.high < threshold)
    said = why if verdict != OPEN else f"{why}; the interval holds {threshold:g}, so it may be either"
    return Outcome(verdict, said, estimate.value, estimate.low, estimate.high, estimate.n, figure)


def decided(holds: bool, fails: bool) -> Verdict:
    """Return the verdict of a claim that ``holds``, or else ``fails``, or is left open."""
    return HOLDS if holds else FAILS if fails else OPEN


def nothing(why: str) -> Outcome:
    """Return the outcome of a test that the table has no data for."""
    return Outcome(OPEN, why)
