"""Matrices that are worked on as one: a GPU takes as long for one small matrix as for many that lie on each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MOST = 2**24
"""Weights that are copied together, at most: beyond that the work takes longer than its launches."""


def stacks(matrices: Sequence[Tensor]) -> Iterator[list[int]]:
    """Yield the places of all ``matrices``, each (rows, columns), those together that may be worked on as one.

    They have the same columns, dtype and device, and no more than ``MOST`` weights together. On a CPU each stays for
    itself: there nothing is gained by a copy.
    """
    open_: dict[tuple[object, ...], list[int]] = {}
    sizes: dict[tuple[object, ...], int] = {}
    for place, matrix in enumerate(matrices):
        if not together(matrix):
            yield [place]
            continue
        kind = (matrix.shape[1], matrix.dtype, matrix.device)
        if sizes.get(kind, 0) + matrix.numel() > MOST and kind in open_:
            yield open_.pop(kind)
            sizes[kind] = 0
        open_.setdefault(kind, []).append(place)
        sizes[kind] = sizes.get(kind, 0) + matrix.numel()
    yield from open_.values()


def together(matrix: Tensor) -> bool:
    """Return whether ``matrix``, (rows, columns), is better worked on together with others of its width."""
    return matrix.device.type != "cpu" and matrix.numel() <= MOST
