"""Choosing units: against all sets of them, one by one."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitlaw.mixing.choose import FINEST, cheapest, drawn, frontier, nearest, steps, ways

SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=8)
COSTS = st.floats(-2.0, 5.0, allow_nan=False)


def sets(sizes: list[int]) -> dict[int, list[tuple[int, ...]]]:
    """Return all sets of units by what they make."""
    found: dict[int, list[tuple[int, ...]]] = {}
    for count in range(len(sizes) + 1):
        for units in combinations(range(len(sizes)), count):
            found.setdefault(sum(sizes[i] for i in units), []).append(units)
    return found


def cost(units: tuple[int, ...] | list[int], costs: list[float]) -> float:
    return sum(costs[i] for i in units)


@settings(deadline=None)
@given(SIZES, st.floats(0.0, 1.0))
def test_the_nearest_sum_that_can_be_made(sizes: list[int], share: float) -> None:
    wanted = share * sum(sizes)
    found = nearest(sizes, share)
    assert found in sets(sizes)
    assert abs(found - wanted) <= min(abs(total - wanted) for total in sets(sizes)) + 1e-6


def test_of_two_equally_near_sums_the_larger() -> None:
    assert nearest([2, 2], 0.25) == 2
    assert nearest([1, 1, 1, 1, 1], 0.9) == 5


@settings(deadline=None)
@given(st.data())
def test_the_cheapest_set_of_every_sum(data: st.DataObject) -> None:
    sizes = data.draw(SIZES)
    costs = data.draw(st.lists(COSTS, min_size=len(sizes), max_size=len(sizes)))
    for total, candidates in sets(sizes).items():
        chosen = cheapest(sizes, costs, total)
        assert chosen == sorted(chosen)
        assert sum(sizes[i] for i in chosen) == total
        assert cost(chosen, costs) == pytest.approx(min(cost(units, costs) for units in candidates), abs=1e-9)


@settings(deadline=None)
@given(st.data())
def test_along_the_frontier_more_always_costs_more(data: st.DataObject) -> None:
    sizes = data.draw(SIZES)
    costs = data.draw(st.lists(COSTS, min_size=len(sizes), max_size=len(sizes)))
    least = {total: cost(cheapest(sizes, costs, total), costs) for total in sets(sizes)}
    found = frontier(sizes, costs)
    assert found == sorted(found)
    assert found[-1] == sum(sizes)
    for total, own in least.items():
        larger = [value for other, value in least.items() if other > total]
        # Sums that tie but for rounding may be on either side.
        if all(value > own + 1e-9 for value in larger):
            assert total in found
        if any(value < own - 1e-9 for value in larger):
            assert total not in found


@settings(deadline=None)
@given(SIZES)
def test_ways_counts_sets(sizes: list[int]) -> None:
    for total, candidates in sets(sizes).items():
        assert ways(sizes, total) == len(candidates)


def test_each_set_is_drawn_equally_often() -> None:
    sizes, total, draws = [1, 1, 2, 3, 4], 5, 6000
    candidates = sets(sizes)[total]
    found = Counter(tuple(drawn(sizes, total, Random(f"0/{trial}"))) for trial in range(draws))
    assert set(found) == set(candidates)
    expected = draws / len(candidates)
    # Five standard deviations of a binomial count.
    assert all(abs(count - expected) < 5 * math.sqrt(expected) for count in found.values())


@settings(max_examples=30, deadline=None)
@given(SIZES, st.integers(0, 2**32))
def test_a_draw_is_that_of_its_seed(sizes: list[int], seed: int) -> None:
    total = nearest(sizes, 0.5)
    first = drawn(sizes, total, Random(seed))
    assert first == drawn(sizes, total, Random(seed))
    assert sum(sizes[i] for i in first) == total


def test_what_cannot_be_made_is_an_error() -> None:
    with pytest.raises(ValueError, match="no units make 3"):
        cheapest([2, 4], [1.0, 1.0], 3)
    with pytest.raises(ValueError, match="no units make 3"):
        drawn([2, 4], 3, Random(0))


def test_a_large_model_takes_few_steps() -> None:
    # 80 layers of 7 linears, as in Llama 2 70B, and sizes without a common divisor.
    sizes = [8192 * 8192, 1024 * 8192, 1024 * 8192, 8192 * 8192, *3 * [28672 * 8192]] * 80
    assert sum(steps(sizes)) == sum(sizes) // (1024 * 8192)
    odd = [size + i for i, size in enumerate(sizes)]
    assert FINEST - len(odd) <= sum(steps(odd)) <= FINEST + len(odd)
    small = steps(odd)
    total = nearest(small, 0.9)
    assert total / sum(small) == pytest.approx(0.9, abs=1e-3)
    chosen = drawn(small, total, Random(0))
    assert sum(odd[i] for i in chosen) / sum(odd) == pytest.approx(0.9, abs=0.02)
