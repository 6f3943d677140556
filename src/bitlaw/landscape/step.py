"""Where on a radial profile the loss begins to climb, and over how many dB it does.

The height of the climb is ``ln(vocabulary) - loss``: what a model loses that ends up with a uniform guess. On the
profile of ``delta_nll`` against the relative distance r in dB, cut off at that height and made monotone by isotonic
regression, the climb begins where a tenth of the height is reached and ends where nine tenths are. Between two points
of the grid the logarithm of the profile is taken as linear in dB, which is exact for a loss that grows as a power of r;
where the lower point is not above zero, the profile itself is.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

BEGIN, END = 0.1, 0.9
"""Shares of the height at which a climb begins and ends."""


@dataclass(frozen=True)
class Step:
    """A climb, from several profiles of one model.

    Attributes:
        step_db: SQNR in dB at which the loss begins to climb (minus the relative distance), the mean over profiles.
        step_error_db: its standard error over profiles; NaN for one profile.
        width_db: dB from the beginning to the end of the climb, the mean over profiles.
        width_error_db: its standard error over profiles; NaN for one profile.
        height: of the climb, nats.

    A mean is NaN if a profile does not reach the share in question, or begins above it.
    """

    step_db: float
    step_error_db: float
    width_db: float
    width_error_db: float
    height: float


def locate(r_db: Sequence[float], profiles: Sequence[Sequence[float]], loss: float, vocabulary: int) -> Step:
    """Return the climb of ``profiles``, estimated on each of them by itself.

    Args:
        r_db: relative distances in dB, rising.
        profiles: for each direction the loss added at each distance, nats; NaN and infinity count as the height.
        loss: of the model as it stands, nats per token.
        vocabulary: number of tokens that the model knows.
    """
    height = math.log(vocabulary) - loss
    begins = [_crossing(r_db, profile, BEGIN, height) for profile in profiles]
    ends = [_crossing(r_db, profile, END, height) for profile in profiles]
    steps = [-begin for begin in begins]
    widths = [end - begin for begin, end in zip(begins, ends, strict=True)]
    return Step(*_mean(steps), *_mean(widths), height)


def _crossing(r_db: Sequence[float], profile: Sequence[float], share: float, height: float) -> float:
    """Return the distance in dB at which ``profile`` reaches ``share`` of ``height``; NaN if that is not in it."""
    from sklearn.isotonic import isotonic_regression

    if not height > 0:  # no better than a guess, or NaN: nothing to lose
        return math.nan
    level = share * height
    cut = [min(value, height) if math.isfinite(value) else height for value in profile]
    rising = [float(value) for value in isotonic_regression(cut)]
    reached = next((i for i, value in enumerate(rising) if value >= level), 0)
    if reached == 0:
        return math.nan
    low, high = rising[reached - 1], rising[reached]
    line = math.log if low > 0 else float
    part = (line(level) - line(low)) / (line(high) - line(low))
    return r_db[reached - 1] + part * (r_db[reached] - r_db[reached - 1])


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and its standard error."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2 or math.isnan(mean):
        return mean, math.nan
    return mean, statistics.stdev(values) / math.sqrt(len(values))
