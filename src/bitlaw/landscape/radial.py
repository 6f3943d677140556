"""Radial profiles: the loss at growing distance from the weights, along straight lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from bitlaw.landscape.vectors import Weights, moved

if TYPE_CHECKING:
    from bitlaw.landscape.surface import Surface

NEAR_DB, FAR_DB = -60.0, 0.0
"""The ends of every profile: a thousandth of the length of the weights, and their whole length."""


def distances_db(points: int) -> list[float]:
    """Return ``points`` (at least 2) relative distances in dB, evenly from ``NEAR_DB`` to ``FAR_DB``.

    A distance is 20 log10(||dW|| / ||W||), which is minus the SQNR of the weights at that place.
    """
    step = (FAR_DB - NEAR_DB) / (points - 1)
    return [NEAR_DB + i * step for i in range(points)]


def profiles(
    surface: Surface, directions: Iterable[Weights], r_db: Sequence[float], at_once: int | None = None
) -> list[list[float]]:
    """Return the loss minus the loss of the model as it stands, in nats, for each direction at each distance.

    Args:
        surface: costs a forward pass for each point, and one more for the model as it stands.
        directions: vectors as long as the weights, taken one by one.
        r_db: relative distances in dB.
        at_once: as ``Surface.losses``.
    """

    def points() -> Iterator[Weights]:
        for direction in directions:
            for distance in r_db:
                yield moved(surface.weights, direction, 10 ** (distance / 20))

    start = surface.loss
    found = [value - start for value in surface.losses(points(), at_once)]
    return [found[i * len(r_db) : (i + 1) * len(r_db)] for i in range(len(found) // len(r_db))]
