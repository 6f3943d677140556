"""What GPTQ needs of a layer's inputs: a triangular factor of the inverse Hessian, shared by all formats.

A module of its own, so that the artifacts that hold factors depend on no code that rounds weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch

from bitlaw.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

DAMPING_FACTOR: Final = 10.0
"""What the damping is multiplied by after a failed factorization."""

DAMPING_TRIES: Final = 5
"""Factorizations tried before giving up: with a damping of 0.01, up to 100 times the mean of the diagonal."""


class HessianError(UserError):
    """A Hessian that no admissible damping makes positive definite, or that is not finite."""


@dataclass(frozen=True, eq=False)
class Factor:
    """What depends on a layer's inputs, the damping and the order alone.

    H' is the Hessian with 1 for the zeros of its diagonal.

    Attributes:
        upper: U, upper triangular with ``U^T U = (H' + shift I)^-1``, in working order, ``(in, in)`` float32.
        order: the column worked on at each step, ``(in,)`` int64.
        dead: where ``H_jj = 0``, in the matrix's own order, ``(in,)`` bool: inputs that are always zero.
        damping: d, as used.
        damping_tries: 1 unless factorizations failed, each failure multiplying d by ``DAMPING_FACTOR``.
        shift: ``d mean(diag H')``.
        dead_columns: how many are dead. Known here, for asking a GPU takes longer than rounding a small matrix.
        in_order: whether the columns are worked on from left to right.
    """

    upper: Tensor
    order: Tensor
    dead: Tensor
    damping: float
    damping_tries: int
    shift: float
    dead_columns: int
    in_order: bool

    def to(self, device: torch.device) -> Factor:
        """Return the same with all tensors on ``device``."""
        return replace(self, upper=self.upper.to(device), order=self.order.to(device), dead=self.dead.to(device))


def factorize(h: Tensor, damping: float, act_order: bool) -> Factor:
    """Return the factor of a Hessian.

    As in the authors' code, columns whose input is always zero get ``H_jj = 1`` before the mean of the diagonal is
    taken. U is the inverse of the upper triangular R with ``R R^T = H' + shift I``: the same matrix as their Cholesky
    factor of the inverse, with one factorization instead of three.

    Args:
        h: ``(in, in)``, ``2/n sum x x^T``, symmetric; not changed. Its scale does not matter.
        damping: share of the mean of the diagonal that is added to the diagonal.
        act_order: work on columns by falling ``H_jj`` (stable) instead of from left to right.

    Raises:
        HessianError: if ``h`` is not finite, or not positive definite at any damping tried.
    """
    h = h.detach().float()
    if not bool(torch.isfinite(h).all()):
        raise HessianError("the Hessian is not finite: the model has bad weights or overflows on the text")
    diagonal = h.diagonal()
    dead = diagonal == 0
    diagonal = diagonal + dead
    order = torch.arange(len(h), device=h.device)
    if act_order:
        order = torch.argsort(diagonal, descending=True, stable=True)
    # Backwards in both directions: of a lower triangular factor that makes an upper triangular one.
    backwards = order.flip(0)
    turned = h[backwards][:, backwards] if act_order else h.flip(0, 1)
    mean = float(diagonal.mean())
    for tries in range(1, DAMPING_TRIES + 1):
        used = damping * DAMPING_FACTOR ** (tries - 1)
        turned.diagonal().copy_(diagonal[backwards] + used * mean)
        lower, failed = torch.linalg.cholesky_ex(turned)
        if failed == 0:
            upper = _inverse_of_upper(lower.flip(0, 1))
            if bool(torch.isfinite(upper).all()):
                return Factor(upper, order, dead, used, tries, used * mean, int(dead.sum()), not act_order)
    raise HessianError(
        f"the Hessian is not positive definite, even with a damping of {used:g} of its mean diagonal "
        f"({DAMPING_TRIES} tries): is it symmetric, and made of enough calibration samples?"
    )


def _inverse_of_upper(upper: Tensor) -> Tensor:
    """Return the inverse of an upper triangular matrix.

    By halves, ``[[A, B], [0, D]]^-1 = [[A^-1, -A^-1 B D^-1], [0, D^-1]]``, until they are small.
    """
    n = len(upper)
    if n <= (64 if upper.device.type == "cpu" else 1024):
        small: Tensor = torch.linalg.solve_triangular(upper, torch.eye(n, device=upper.device), upper=True)
        return small
    half = n // 2
    inverse = torch.zeros_like(upper)
    inverse[:half, :half] = _inverse_of_upper(upper[:half, :half])
    inverse[half:, half:] = _inverse_of_upper(upper[half:, half:])
    inverse[:half, half:] = -(inverse[:half, :half] @ upper[:half, half:] @ inverse[half:, half:])
    return inverse
