"""Which units of a model to quantize so that they hold a given share of its weights.

The share is met as nearly as the sizes of the units allow, and by every rule to the same weight: a set that is drawn at
random and one that is chosen by cost quantize equally much, so their losses compare. Both come from one table over the
sums that the first units can make, as in a knapsack (Kellerer, Pferschy and Pisinger 2004, *Knapsack Problems*, 2.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

FINEST = 2**14
"""Steps that all weights together are counted in at most; sizes without a common divisor are rounded to them."""


def steps(sizes: Sequence[int]) -> list[int]:
    """Return ``sizes`` (weights) as whole numbers of equal steps.

    A step is their greatest common divisor. Where all of them together would be more than ``FINEST`` such steps, it is
    larger, and each size is rounded, to one step at least.
    """
    divisor = math.gcd(*sizes)
    total = sum(sizes)
    if total // divisor <= FINEST:
        return [size // divisor for size in sizes]
    return [max(1, round(size * FINEST / total)) for size in sizes]


def nearest(sizes: Sequence[int], share: float) -> int:
    """Return the sum of some of ``sizes`` (steps) that is nearest to ``share`` of them all; the larger of two.

    Args:
        sizes: steps of each unit, positive.
        share: 0 to 1.
    """
    import numpy as np

    sums = np.flatnonzero(_chances(sizes)[-1])
    distance = np.abs(sums - share * sum(sizes))
    # Of two that are equally near but for rounding, the larger.
    return int(sums[np.flatnonzero(distance <= distance.min() + 1e-9)[-1]])


def cheapest(sizes: Sequence[int], costs: Sequence[float], total: int) -> list[int]:
    """Return the units, rising, that make ``total`` steps at the least sum of ``costs``.

    Args:
        sizes: steps of each unit, positive.
        costs: of each unit; may be negative.
        total: a sum of some of ``sizes``.

    Raises:
        ValueError: no units make ``total``, or a cost is not finite.
    """
    best, taken = _least(sizes, costs)
    if not math.isfinite(best[total]):
        raise ValueError(f"no units make {total} steps, or the costs are not finite")
    chosen, left = [], total
    for unit in reversed(range(len(sizes))):
        if taken[unit][left]:
            chosen.append(unit)
            left -= sizes[unit]
    return chosen[::-1]


def drawn(sizes: Sequence[int], total: int, chance: Random) -> list[int]:
    """Return units, rising, that make ``total`` steps: each such set with the same probability.

    Args:
        sizes: steps of each unit, positive.
        total: a sum of some of ``sizes``.
        chance: the source of randomness; it is asked once a unit.

    Raises:
        ValueError: no units make ``total``.
    """
    chances = _chances(sizes)
    if not chances[-1][total]:
        raise ValueError(f"no units make {total} steps")
    chosen, left = [], total
    for unit in reversed(range(len(sizes))):
        before, size = chances[unit], sizes[unit]
        taking = before[left - size] if size <= left else 0.0
        if chance.random() * (taking + before[left]) < taking:
            chosen.append(unit)
            left -= size
    return chosen[::-1]


def ways(sizes: Sequence[int], total: int) -> float:
    """Return the number of sets of units that make ``total`` steps; infinite beyond the range of a float."""
    return math.ldexp(float(_chances(sizes)[-1][total]), len(sizes)) if len(sizes) < 1000 else math.inf


def frontier(sizes: Sequence[int], costs: Sequence[float]) -> list[int]:
    """Return the sums, rising, that no larger sum undercuts: along them more weights always cost more.

    Args:
        sizes: steps of each unit, positive.
        costs: of each unit.
    """
    best, _ = _least(sizes, costs)
    found: list[int] = []
    least = math.inf
    for total in reversed(range(len(best))):
        if best[total] < least:
            least = float(best[total])
            found.append(total)
    return found[::-1]


def _least(sizes: Sequence[int], costs: Sequence[float]) -> tuple[Any, list[Any]]:
    """Return the least cost of each sum, infinite if no units make it, and by unit for which sums it is one of them.

    The second is as of when the units up to this one were known.
    """
    import numpy as np

    best = np.full(sum(sizes) + 1, np.inf)
    best[0] = 0.0
    taken = []
    for size, cost in zip(sizes, costs, strict=True):
        # Without this unit, or with it on top of what the units before it make of the rest.
        with_it = np.full_like(best, np.inf)
        with_it[size:] = best[: len(best) - size] + cost
        taken.append(with_it < best)
        best = np.minimum(best, with_it)
    return best, taken


def _chances(sizes: Sequence[int]) -> list[Any]:
    """Return by number of units the probability that these make each sum, if each is taken by the toss of a coin.

    It counts sets without large numbers: a set of n units has probability 2^-n.
    """
    import numpy as np

    chances = [np.zeros(sum(sizes) + 1)]
    chances[0][0] = 1.0
    for size in sizes:
        before = chances[-1]
        after = before.copy()
        after[size:] += before[: len(before) - size]
        chances.append(after / 2.0)
    return chances
