"""Three bits without a fitting method break large models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.claims.base import Claim, Figure, Outcome, Point, above, mean, nothing
from bitlaw.claims.rows import LEAST, slopes, whole

if TYPE_CHECKING:
    import pandas as pd

BY = ("family", "series", "evaluation", "source", "kind", "block", "options")


def test(rows: pd.DataFrame, seed: int) -> Outcome:
    """Take the slope of ln(loss added) against log10 of the size at 3 bits, rounded to nearest."""
    import numpy as np

    cells = whole(rows)
    cells = cells[(cells["bits"] == 3) & (cells["method"] == "rtn")]
    found = slopes(cells, BY, "log_n", lambda part: np.log(part["added"].clip(lower=LEAST)))
    if found.empty:
        return nothing("no family has two sizes at 3 bits rounded to nearest")
    points = tuple(
        Point(float(10**n), float(added), str(family))
        for n, added, family in zip(cells["log_n"], cells["added"], cells["family"], strict=True)
    )
    figure = Figure("non-embedding parameters", "loss added at 3 bits, nats", points, None, log_x=True)
    broken = float((cells["added"] > 1.0).mean())
    why = f"{broken:.0%} of the cells lose more than 1 nat; unstable at scale means that the loss grows with size"
    return above(mean(found["slope"], found["family"], seed), 0.0, why, figure)


CLAIM = Claim(
    title="3 bits are unstable at scale",
    paper="Dettmers and Zettlemoyer 2023, section 5.1",
    statistic="slope of ln(loss added) at 3 bits by RTN per decade of N",
    rule="above 0: larger models lose more",
    test=test,
)
