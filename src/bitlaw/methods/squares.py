"""Sums of squares of matrices and of what rounding changed in them, in float64, where no square overflows.

Rows are summed first, and these sums matrix by matrix on the host: many small matrices then take few launches of a GPU,
and one wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bitlaw.methods import stacks

if TYPE_CHECKING:
    from torch import Tensor

_SLAB_ON_CPU = 2**18
"""Weights of which a float64 copy is made at a time, so that it stays in cache."""


@dataclass(frozen=True)
class Squares:
    """Of one matrix.

    Attributes:
        signal: sum of squares of its weights.
        noise: sum of squares of the differences.
        finite: whether all rounded weights are.
    """

    signal: float
    noise: float
    finite: bool


class SquareSums:
    """Adds up what is added, when it is asked for or when much is waiting."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, Tensor, Tensor]] = []
        self._weights = 0
        self._sums: list[tuple[list[tuple[str, int]], Tensor]] = []

    def add(self, name: str, exact: Tensor, rounded: Tensor) -> None:
        """Add a matrix (out, in) and what it was rounded to, (out, in), of any floating dtypes, not to be changed."""
        self._waiting.append((name, exact, rounded))
        self._weights += exact.numel()
        # What waits is kept alive.
        if self._weights > stacks.MOST or not stacks.together(exact):
            self._flush()

    def found(self) -> dict[str, Squares]:
        """Return the sums of all matrices, by name."""
        self._flush()
        found = {}
        if self._sums:
            host = torch.cat([rows for _, rows in self._sums]).cpu()  # a GPU is waited for once
            sizes = [size for sizes, _ in self._sums for size in sizes]
            for (name, _), rows in zip(sizes, host.split([size for _, size in sizes]), strict=True):
                signal, noise = rows[:, :2].sum(0).tolist()
                found[name] = Squares(signal, noise, bool(rows[:, 2].all()))
        return found

    def _flush(self) -> None:
        exact = [one for _, one, _ in self._waiting]
        for places in stacks.stacks(exact):
            own = [self._waiting[i] for i in places]
            whole = (
                own[0][1:] if len(own) == 1 else (torch.cat([w for _, w, _ in own]), torch.cat([q for *_, q in own]))
            )
            self._sums.append(([(name, len(w)) for name, w, _ in own], _rows(*whole)))
        self._waiting, self._weights = [], 0


def _rows(exact: Tensor, rounded: Tensor) -> Tensor:
    """Return signal, noise and 1 for finite weights of each row, (rows, 3) float64, of matrices (rows, columns)."""
    step = max(1, (_SLAB_ON_CPU if exact.device.type == "cpu" else 2 * stacks.MOST) // exact.shape[1])
    parts = []
    for w, q in zip(exact.split(step), rounded.split(step), strict=True):
        double = w.to(torch.float64, copy=True)
        signal, finite = double.square().sum(1), q.isfinite().all(1).double()
        parts.append(torch.stack([signal, double.sub_(q).square_().sum(1), finite], 1))
    return parts[0] if len(parts) == 1 else torch.cat(parts)
