"""The GPTQ solver: Frantar et al. 2023 (arXiv 2210.17323), Algorithm 1, for any block format.

All linear algebra is in float32, as in the authors' code. The work matrix is kept transposed, so that a column of
the weights is contiguous, and inside a lazy block a column is brought up to date when its turn comes (left-looking),
which reads the errors once instead of rewriting all later columns each time; the sums are the paper's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

from bitlaw.errors import UserError
from bitlaw.formats.base import Quantized, Scales

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.formats.base import Format

DAMPING_FACTOR: Final = 10.0
"""What the damping is multiplied by after a failed factorization."""

DAMPING_TRIES: Final = 5
"""Factorizations tried before giving up: with a damping of 0.01, up to 100 times the mean of the diagonal."""


class HessianError(UserError):
    """A Hessian that no admissible damping makes positive definite, or that is not finite."""


def solve(
    w: Tensor,
    hessian: Tensor,
    fmt: Format,
    *,
    damping: float,
    block_columns: int,
    act_order: bool,
    static_groups: bool,
) -> tuple[Quantized, dict[str, Any]]:
    """Return ``w`` rounded to ``fmt`` so that ``tr((W - Q) H (W - Q)^T)`` is small, and how it went.

    As in the authors' code: columns whose input is always zero (``H_jj = 0``) are set to zero and get ``H_jj = 1``
    before the mean of the diagonal is taken for the damping. Scales belong to blocks of columns in the matrix's own
    order, whatever order the columns are worked on, so the result needs no stored permutation. (With ``act_order``
    and without ``static_groups`` the authors' code instead forms groups of columns in the permuted order; all other
    combinations agree with it.) A scale taken on reaching a block is read from fully updated weights, also where
    blocks are narrower than ``block_columns`` or straddle its borders.

    A block that decodes to NaN (a NaN or an infinity among its weights, a scale that cannot be stored) hands no error
    on: all other blocks are what they would be if that block's rounding were exact.

    Args:
        w: ``(out, in)``, any floating dtype; not changed.
        hessian: ``(in, in)``, ``2/n sum x x^T``, symmetric; not changed. Its scale does not matter.
        fmt: the format.
        damping: share of the mean of H's diagonal that is added to the diagonal.
        block_columns: columns a lazy update covers.
        act_order: work on columns by falling ``H_jj`` (stable).
        static_groups: take all scales from the weights before any update.

    Returns:
        The quantized matrix, and: ``damping`` as used; ``damping_tries``, 1 unless factorizations failed, each
        failure multiplying the damping by ``damping_factor``; ``dead_columns``, how many; ``proxy_loss``,
        ``tr((W - Q) H (W - Q)^T) / tr(W H W^T)`` with the weights and the Hessian as given.

    Raises:
        ValueError: if the shapes do not fit.
        HessianError: see there.
    """
    rows, columns = w.shape
    if hessian.shape != (columns, columns):
        raise ValueError(
            f"weights of {rows} x {columns} need a {columns} x {columns} Hessian, not {tuple(hessian.shape)}"
        )
    original = w.detach().float()
    h = hessian.detach().to(device=w.device, dtype=torch.float32)
    if not bool(torch.isfinite(h).all()):
        raise HessianError("the Hessian is not finite: the model has bad weights or overflows on the text")
    dead = h.diagonal() == 0
    # A product keeps a NaN or an infinity in a dead column visible, where assigning zero would hide it.
    live = original * (~dead).float()
    damped = h + torch.diag(dead.float())
    order = torch.argsort(damped.diagonal(), descending=True, stable=True) if act_order else torch.arange(columns)
    order = order.to(w.device)
    factor, tries = factorize(damped[order][:, order], damping)
    quantized = _round_columns(live, factor, order, fmt, block_columns, static_groups)
    return quantized, {
        "damping": damping * DAMPING_FACTOR ** (tries - 1),
        "damping_tries": tries,
        "damping_factor": DAMPING_FACTOR,
        "dead_columns": int(dead.sum()),
        "proxy_loss": proxy_loss(original, fmt.dequantize(quantized), h),
    }


def factorize(h: Tensor, damping: float) -> tuple[Tensor, int]:
    """Return the upper Cholesky factor ``U`` of the damped inverse, ``U^T U = (H + d mean(diag H) I)^-1``.

    If a factorization fails, the damping ``d`` is multiplied by ``DAMPING_FACTOR`` and it is tried again.

    Args:
        h: ``(n, n)`` float32, symmetric.
        damping: the first ``d``.

    Returns:
        ``U``, and the number of tries, at most ``DAMPING_TRIES``.

    Raises:
        HessianError: if all tries failed.
    """
    mean = h.diagonal().mean()
    for tries in range(1, DAMPING_TRIES + 1):
        shift = damping * DAMPING_FACTOR ** (tries - 1) * mean
        lower, failed = torch.linalg.cholesky_ex(h + shift * torch.eye(len(h), device=h.device))
        if failed == 0:
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if failed == 0 and bool(torch.isfinite(upper).all()):
                return upper, tries
    largest = damping * DAMPING_FACTOR ** (DAMPING_TRIES - 1)
    raise HessianError(
        f"the Hessian is not positive definite, even with a damping of {largest:g} of its mean diagonal "
        f"({DAMPING_TRIES} tries): is it symmetric, and made of enough calibration samples?"
    )


def proxy_loss(w: Tensor, q: Tensor, h: Tensor) -> float:
    """Return ``tr((W - Q) H (W - Q)^T) / tr(W H W^T)``, the relative squared error of the layer's outputs."""
    error = w - q
    loss, total = float(((error @ h) * error).sum()), float(((w @ h) * w).sum())
    # Without any output there is none to lose; a loss against a total of zero is infinite, not an exception.
    return loss / total if total else 0.0 if loss == 0 else float("inf")


class _Columns:
    """The work matrix: transposed weights in working order, and the errors of the current lazy block.

    Attributes:
        w: ``(in, out)``; rows from ``start`` on lack the updates by the errors of the current lazy block.
        upper_t: ``U^T``, ``(in, in)``, so that what a column needs is contiguous.
        errors: ``(columns of the lazy block, out)``, ``(w - q) / U_jj``.
        start: first column of the current lazy block.
        done: columns of it that are rounded.
    """

    def __init__(self, w: Tensor, upper: Tensor, block_columns: int) -> None:
        self.w, self.upper_t = w, upper.T.contiguous()
        self.errors = w.new_empty((block_columns, w.shape[1]))
        self.start = self.done = 0

    def current(self, at: Tensor) -> Tensor:
        """Return the columns ``at`` (positions in working order), fully updated: ``(len(at), out)``."""
        pending = self.upper_t[at, self.start : self.start + self.done]
        return torch.addmm(self.w[at], pending, self.errors[: self.done], alpha=-1)

    def next(self) -> Tensor:
        """Return the next column, fully updated: ``(out,)``."""
        at = self.start + self.done
        pending = self.upper_t[at, self.start : at]
        return torch.addmv(self.w[at], self.errors[: self.done].T, pending, alpha=-1)

    def rounded(self, error: Tensor) -> None:
        """Take the rounding error ``w - q`` of the column that ``next`` gave; one that is not finite counts as none."""
        at = self.start + self.done
        torch.div(error, self.upper_t[at, at], out=self.errors[self.done])
        self.errors[self.done].nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        self.done += 1
        if self.done == len(self.errors):
            stop = self.start + self.done
            self.w[stop:].addmm_(self.upper_t[stop:, self.start : stop], self.errors, alpha=-1)
            self.start, self.done = stop, 0


def _round_columns(
    w: Tensor, upper: Tensor, order: Tensor, fmt: Format, block_columns: int, static_groups: bool
) -> Quantized:
    """Round the columns of ``w`` in ``order``; ``upper`` is in that order, the result in the matrix's own."""
    rows, columns = w.shape
    scales = fmt.fit(w)
    width = fmt.width(columns)
    # One block a row, or one for all, is reached before any update: its scale is the static one.
    running = not static_groups and width < columns
    position = torch.argsort(order)
    work = _Columns(w.T[order].contiguous(), upper, block_columns)
    codes = torch.empty((columns, rows), dtype=torch.int8 if fmt.signed else torch.uint8, device=w.device)
    seen: set[int] = set()
    for column in order.tolist():
        block = column // width
        if running and block not in seen:
            seen.add(block)
            members = work.current(position[block * width : (block + 1) * width])
            for name, part in fmt.scales(members.T.contiguous(), scales.shared).block.items():
                scales.block[name][:, block] = part
        scale: Scales = scales[:, block]
        weights = work.next()
        code = fmt.round_block(weights.unsqueeze(1), scale)
        codes[column] = code[:, 0]
        work.rounded(weights - fmt.decode(code, scale)[:, 0])
    return Quantized(fmt, codes.T.contiguous(), scales)
