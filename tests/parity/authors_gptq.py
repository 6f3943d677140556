"""GPTQ in the order of steps of its authors' program (IST-DASLab/gptq, commit 2d65066), to compare with.

Their repository cannot be installed, and none of its 56 commits has a case with weights that should come out (its one
test, ``test_kernel.py``, multiplies a matrix by a vector on a GPU). So this is written anew from what the program does.
It gives the same weights bit for bit: ``test_parity_gptq`` compares it with their program, where a checkout is given.
What it does that others do not:

* A symmetric row or group without negative weights keeps the lower end of its range at zero.
* The step of a group taken on the way is read from weights that lack the updates of the lazy block under way.
* The steps of whole rows are taken before columns without input are made zero, those of groups after.

Equal diagonal entries are ordered stably here, which there is left to chance.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Grid(NamedTuple):
    """Steps and zero points of rows, ``(rows, 1)``, and the largest code."""

    step: Tensor
    zero: Tensor
    last: int

    def round(self, w: Tensor) -> Tensor:
        """Return ``w`` (rows, n) on the grid."""
        code = (w / self.step).round() + self.zero
        return self.step * (code.clamp(0, self.last) - self.zero)


def grid(w: Tensor, bits: int, *, symmetric: bool) -> Grid:
    """Return the grid of each row of ``w``."""
    last = 2**bits - 1
    low, high = w.amin(1, keepdim=True).clamp(max=0), w.amax(1, keepdim=True).clamp(min=0)
    if symmetric:
        high = torch.maximum(high, -low)
        low = torch.where(low < 0, -high, low)
    empty = (low == 0) & (high == 0)
    low, high = low.masked_fill(empty, -1.0), high.masked_fill(empty, 1.0)
    step = (high - low) / last
    zero = torch.full_like(step, (last + 1) / 2) if symmetric else (-low / step).round()
    return Grid(step, zero, last)


def gptq(
    w: Tensor,
    hessian: Tensor,
    bits: int,
    *,
    symmetric: bool,
    group: int | None = None,
    lazy: int = 128,
    act_order: bool = False,
    static: bool = False,
) -> Tensor:
    """Return ``w`` (rows, columns) rounded; ``group`` columns share a grid, or with ``None`` the whole row."""
    columns = w.shape[1]
    rows = grid(w, bits, symmetric=symmetric)
    no_input = hessian.diagonal() == 0
    h = hessian + torch.diag(no_input.float())
    w = w.masked_fill(no_input, 0.0)
    fixed = [grid(part, bits, symmetric=symmetric) for part in w.split(group or columns, 1)] if static else []
    order = h.diagonal().argsort(descending=True, stable=True) if act_order else torch.arange(columns)
    w, h = w[:, order], h[order][:, order]
    h.diagonal().add_(0.01 * h.diagonal().mean())
    upper = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    rounded, current = torch.empty_like(w), rows
    for start in range(0, columns, lazy):
        own = slice(start, min(start + lazy, columns))
        pending, triangle = w[:, own].clone(), upper[own, own]
        errors = torch.empty_like(pending)
        for j in range(pending.shape[1]):
            at = start + j
            if static:
                current = fixed[int(order[at]) // (group or columns)]
            elif group and at % group == 0:
                current = grid(w[:, at : at + group], bits, symmetric=symmetric)
            column = pending[:, j : j + 1]
            rounded[:, at : at + 1] = current.round(column)
            errors[:, j : j + 1] = (column - rounded[:, at : at + 1]) / triangle[j, j]
            pending[:, j:] -= errors[:, j : j + 1] @ triangle[j : j + 1, j:]
        w[:, own.stop :] -= errors @ upper[own, own.stop :]
    return rounded[:, order.argsort()]
