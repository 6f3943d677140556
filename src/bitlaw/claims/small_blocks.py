"""Smaller blocks lose less, by more than the bits that their scales take."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bitlaw.claims.base import Claim, Figure, Outcome, Point, above, mean, nothing
from bitlaw.claims.rows import LEAST, whole

if TYPE_CHECKING:
    import pandas as pd

LEAST_BIT = 0.1
"""What one more bit must at least do to the logarithm of the loss to be a measure of other gains."""
BY = ("model", "family", "evaluation", "source", "kind", "options", "method", "settings")


def test(rows: pd.DataFrame, seed: int) -> Outcome:
    """Compare the largest with the smallest block at 4 bits; a bit is what the next precision at the largest saves."""
    cells = whole(rows)
    cells = cells[cells["block"].str.isdigit() & (cells["added"] > LEAST)]
    cells = cells.assign(size=cells["block"].where(cells["block"].str.isdigit(), "0").astype("int64"))
    net, gained, clusters, points = [], [], [], []
    for names, part in cells.groupby(list(BY), sort=True):
        each = part.groupby(["bits", "size"], sort=True)[["added", "effective_bits"]].mean().reset_index()
        columns = (each[name].tolist() for name in ("bits", "size", "added", "effective_bits"))
        losses = {(int(b), int(s)): (math.log(added), bits) for b, s, added, bits in zip(*columns, strict=True)}
        sizes = sorted(size for bits, size in losses if bits == 4)
        beside = [bits for bits in (5, 3) if sizes and (bits, sizes[-1]) in losses]
        if len(sizes) < 2 or not beside:
            continue
        (small, less), (large, more), (other, at) = (
            losses[4, sizes[0]],
            losses[4, sizes[-1]],
            losses[beside[0], sizes[-1]],
        )
        bit = (large - other) / (at - more)
        if bit < LEAST_BIT:
            continue  # one more bit changes next to nothing, so nothing can be counted in bits
        worth, cost = (large - small) / bit, less - more
        net.append(worth - cost)
        gained.append(worth)
        clusters.append(names[0])
        points.append(Point(cost, worth, f"{sizes[0]} for {sizes[-1]}"))
    if not net:
        return nothing("no model has two block sizes at 4 bits, and 3 or 5 bits at the larger")
    worth_it = sum(gained) / len(gained)
    why = f"smaller blocks at 4 bits are worth {worth_it:.2f} bits on average, before the bits of their scales"
    figure = Figure("bits that the scales of smaller blocks take", "bits that they are worth", tuple(points), 0.0)
    return above(mean(net, clusters, seed), 0.0, why, figure)


CLAIM = Claim(
    title="Smaller blocks help",
    paper="Dettmers and Zettlemoyer 2023, section 5.2",
    statistic="bits gained by the smallest block over the largest at 4 bits, less the bits of its scales",
    rule="above 0",
    test=test,
)
