"""Units of a mix, and what they cost."""

from __future__ import annotations

import math

import pytest

from bitlaw.errors import UserError
from bitlaw.mixing.units import Unit, unit_costs, units_of

LINEARS = [
    {"name": "model.layers.0.attn.q", "shape": [4, 2]},
    {"name": "model.layers.0.mlp.experts.1.up", "shape": [8, 2]},
    {"name": "model.layers.11.attn.q", "shape": [4, 2]},
]


def test_single_linears() -> None:
    assert units_of(LINEARS, "matmul") == [
        Unit(one["name"], (one["name"],), math.prod(one["shape"]))  # type: ignore[arg-type]
        for one in LINEARS
    ]


def test_whole_blocks() -> None:
    first, second = units_of(LINEARS, "layer")
    assert (first.name, first.weights) == ("model.layers.0", 24)
    assert first.linears == ("model.layers.0.attn.q", "model.layers.0.mlp.experts.1.up")
    assert (second.name, second.weights) == ("model.layers.11", 8)


def test_a_name_without_a_block() -> None:
    with pytest.raises(UserError, match="attn.q: its name says no block; use granularity: matmul"):
        units_of([{"name": "attn.q", "shape": [1, 1]}], "layer")


def test_costs_are_summed_and_what_the_rest_costs_is_taken_off() -> None:
    units = units_of(LINEARS, "layer")
    low = {one["name"]: cost for one, cost in zip(LINEARS, (1.0, 2.0, 4.0), strict=True)}
    high = dict.fromkeys(low, 0.5)
    assert unit_costs(units, low) == [3.0, 4.0]  # type: ignore[arg-type]
    assert unit_costs(units, low, high) == [2.0, 3.5]  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"model.layers.11: .* is not a finite number"):
        unit_costs(units, {**low, "model.layers.11.attn.q": math.nan})  # type: ignore[dict-item]
