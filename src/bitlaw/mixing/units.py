"""What is chosen as a whole in a mix: single linears, or all linears of a transformer block."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bitlaw.errors import UserError

Granularity = Literal["layer", "matmul"]


@dataclass(frozen=True)
class Unit:
    """Linears that are quantized together or not at all.

    Attributes:
        name: of the linear, or of the block.
        linears: their names, in the model's order.
        weights: how many weights they have.
    """

    name: str
    linears: tuple[str, ...]
    weights: int


def units_of(linears: Iterable[Mapping[str, Any]], granularity: Granularity) -> list[Unit]:
    """Return the units of a model, in its order.

    Args:
        linears: ``name`` and ``shape`` of each, as the model stage describes them.
        granularity: ``matmul`` for each linear by itself, ``layer`` for whole blocks (Cao et al. 2024, section 3).

    Raises:
        UserError: a linear's name says no block.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for linear in linears:
        name = _block(linear["name"]) if granularity == "layer" else linear["name"]
        groups.setdefault(name, []).append(linear)
    return [
        Unit(name, tuple(one["name"] for one in group), sum(math.prod(one["shape"]) for one in group))
        for name, group in groups.items()
    ]


def unit_costs(units: Iterable[Unit], low: Mapping[str, float], high: Mapping[str, float] | None = None) -> list[float]:
    """Return what quantizing each unit costs: the costs ``low`` of its linears, less what they cost in a high format.

    Raises:
        UserError: a cost is not a finite number.
    """
    found = []
    for unit in units:
        cost = sum(low[name] - (high[name] if high else 0.0) for name in unit.linears)
        if not math.isfinite(cost):
            raise UserError("what quantizing it costs is not a finite number", place=unit.name)
        found.append(cost)
    return found


def _block(linear: str) -> str:
    """Return the name of the block, ``model.layers.3`` say, that ``linear`` is in: up to the first number."""
    found = re.match(r"(?:.*?\.)??\d+(?=\.)", linear)
    if found is None:
        raise UserError("its name says no block; use granularity: matmul", place=linear)
    return found[0]
