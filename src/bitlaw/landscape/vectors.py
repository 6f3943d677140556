"""Vectors in the space of a model's quantizable weights: products, lengths and directions.

A vector is a mapping from the names of linears to matrices ``(out, in)``, of the weights' dtype and on their device.
Products are summed in float64, in which no square overflows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch

Weights = dict[str, torch.Tensor]


def dot(a: Weights, b: Weights) -> float:
    """Return the inner product of two vectors, a number summed in float64."""
    return sum(float((a[name].double() * b[name].double()).sum()) for name in a)


def norm(a: Weights) -> float:
    """Return the Euclidean length of a vector, a number in the unit of its values."""
    return math.sqrt(dot(a, a))


def scaled(a: Weights, factor: float) -> Weights:
    """Return ``factor * a``."""
    return {name: factor * value for name, value in a.items()}


def moved(start: Weights, direction: Weights, distance: float) -> Weights:
    """Return ``start + distance * direction``."""
    return {name: torch.add(value, direction[name], alpha=distance) for name, value in start.items()}


def gaussian(weights: Weights, seed: int) -> Weights:
    """Return independent normal numbers, scaled to the length of ``weights`` as a whole.

    Args:
        weights: gives shapes, length, dtype and device.
        seed: the same numbers on every device: they are drawn on the CPU, in float32, linear by linear.
    """
    drawn = _normal(weights, seed)
    return scaled(drawn, norm(weights) / norm(drawn))


def filter_normalized(weights: Weights, seed: int) -> Weights:
    """Return normal numbers, scaled in each output row to the length of that row of ``weights``.

    Li et al. 2018, "Visualizing the Loss Landscape of Neural Nets", section 4 (a linear's row is a filter). So the
    whole has the length of ``weights`` too, and a row of zeros stays as it is. Arguments as ``gaussian``.
    """
    found = {}
    for name, drawn in _normal(weights, seed).items():
        rows = weights[name].double().norm(dim=1, keepdim=True) / drawn.double().norm(dim=1, keepdim=True)
        found[name] = drawn * rows.to(drawn.dtype)
    return found


def signs(weights: Weights, seed: int) -> Weights:
    """Return independent numbers +1 and -1 (Rademacher), drawn on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (2 * torch.randint(0, 2, w.shape, generator=generator, dtype=torch.int8) - 1).to(w)
        for name, w in weights.items()
    }


KINDS: dict[str, Callable[[Weights, int], Weights]] = {"gaussian": gaussian, "filter": filter_normalized}
"""How a random direction is drawn, by its name in a study."""


def seeds(seed: int, count: int) -> list[int]:
    """Return ``count`` seeds that follow from ``seed``; the first are the same whatever the count."""
    generator = torch.Generator().manual_seed(seed)
    return [int(torch.randint(2**62, (), generator=generator)) for _ in range(count)]


def unit(weights: Weights, seed: int) -> Weights:
    """Return a random direction of length 1."""
    drawn = _normal(weights, seed)
    return scaled(drawn, 1 / norm(drawn))


def _normal(weights: Weights, seed: int) -> Weights:
    return dict(_draws(weights, seed))


def _draws(weights: Weights, seed: int) -> Iterator[tuple[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for name, w in weights.items():
        yield name, torch.randn(w.shape, generator=generator).to(w)
