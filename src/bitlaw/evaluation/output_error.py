"""The error of a linear's output that follows from that of its weights, exactly, for the inputs of a calibration."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 1024


@torch.no_grad()
def output_energies(own: Tensor, changed: Tensor, hessian: Tensor) -> Tensor:
    """Return signal and noise of the outputs ``W x`` when the weights W change to Q.

    With the Hessian ``H = 2/n sum x x^T`` of the layer-wise problem (Frantar et al. 2022, arXiv 2208.11580, equation 1)
    the mean of ``|W x|^2`` over the n inputs is ``tr(W H W^T) / 2``, and that of ``|(W - Q) x|^2`` is
    ``tr((W - Q) H (W - Q)^T) / 2``: no input is needed. A bias changes neither.

    Args:
        own: W, (out, in), any float dtype.
        changed: Q, (out, in), any float dtype.
        hessian: H, (in, in) float32, on the same device.

    Returns:
        Mean squared norm of the output, and of its error, (2,) float64 on that device.
    """
    sums = []
    for w, q in zip(own.split(ROWS), changed.split(ROWS), strict=True):
        exact = w.float()
        delta = exact - q.float()
        sums.append(torch.stack([_product(exact, hessian), _product(delta, hessian)]))
    return torch.stack(sums).sum(0) / 2


def _product(rows: Tensor, hessian: Tensor) -> Tensor:
    return (rows @ hessian).mul_(rows).sum(dtype=torch.float64)


def output_error(own: Tensor, changed: Tensor, hessian: Tensor) -> tuple[float, float]:
    """Return ``output_energies`` as two numbers; ``own`` and ``changed`` (out, in), ``hessian`` (in, in)."""
    signal, noise = output_energies(own, changed, hessian).tolist()
    return signal, noise


def sqnr_db(signal: float, noise: float) -> float:
    """Return ``10 log10(signal / noise)`` in dB: infinite without noise, NaN if one of the two is no number."""
    if math.isnan(signal) or math.isnan(noise):
        return math.nan
    if noise <= 0:  # rounding can leave a tiny negative one
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf
