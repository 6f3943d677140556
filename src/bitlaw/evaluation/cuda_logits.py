"""Triton kernels that read rows of logits once; the plain code of ``logits`` says what comes out.

Sums of exponentials are kept relative to the largest logit seen so far, as Milakov & Gimelshein 2018 (arXiv 1805.02867)
do for softmax. A NaN or an infinity in a row makes its loss and its distance NaN.
"""
# Triton compiles a small language inside Python: constants are in capitals, there is no "in", NaN is x != x.
# ruff: noqa: N803, PLR0124, PLR0913, PLR0917
# mypy: disable-error-code="no-untyped-def, misc, unused-ignore, untyped-decorator"

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from torch import Tensor

_TILE: Final = 4096  # logits that a program looks at at once, at most
_INFINITY = tl.constexpr(float("inf"))
_LOWEST = tl.constexpr(-1e38)  # below all logits; differences to it stay finite


def described(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Do as ``bitlaw.evaluation.logits.described`` says."""
    logits, target = _rows(logits), target.contiguous()
    loss, negentropy = (torch.empty(len(logits), dtype=torch.float32, device=logits.device) for _ in range(2))
    top = torch.empty_like(target)
    if len(logits):
        _launch(_describe, logits, logits, target, loss, negentropy, top, logits.stride(0), logits.shape[1])
    return loss, negentropy, top


def compared(
    logits: Tensor, own_logits: Tensor, negentropy: Tensor, top: Tensor, target: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Do as ``bitlaw.evaluation.logits.compared`` says."""
    logits, own_logits = _rows(logits), _rows(own_logits)
    negentropy, top, target = negentropy.contiguous(), top.contiguous(), target.contiguous()
    loss, kl = torch.empty_like(negentropy), torch.empty_like(negentropy)
    agreed = torch.empty_like(top, dtype=torch.int8)
    if len(logits):
        strides = (logits.stride(0), own_logits.stride(0), logits.shape[1])
        _launch(_compare, logits, logits, own_logits, negentropy, top, target, loss, kl, agreed, *strides)
    return loss, kl, agreed.bool()


def _rows(logits: Tensor) -> Tensor:
    return logits if logits.stride(1) == 1 else logits.contiguous()


def _launch(kernel: Any, logits: Tensor, *arguments: Any) -> None:
    """Run a program for each row of ``logits``, on its device."""
    tile = min(_TILE, 1 << (logits.shape[1] - 1).bit_length())
    with torch.cuda.device_of(logits):
        kernel[(len(logits),)](*arguments, TILE=tile, num_warps=max(1, tile // 512))


@triton.jit
def _describe(logits, target, loss, negentropy, top, stride, columns, TILE: tl.constexpr):
    """Write loss, negative entropy and place of the largest logit of one row."""
    row = tl.program_id(0).to(tl.int64)
    logits += row * stride
    place = tl.arange(0, TILE)
    most, total, weighted = tl.full((), _LOWEST, tl.float32), tl.full((), 0, tl.float32), tl.full((), 0, tl.float32)
    best, start = tl.full((), 0, tl.int32), tl.full((), 0, tl.int32)
    while start < columns:
        x = tl.load(logits + start + place, mask=start + place < columns, other=-_INFINITY).to(tl.float32)
        found, at = tl.max(x, 0, return_indices=True)
        best = tl.where(found > most, start + at, best)
        higher = tl.maximum(most, found)
        shrink, share = tl.exp(most - higher), tl.exp(x - higher)
        weighted = (weighted + total * (most - higher)) * shrink + _mean_part(share, x - higher)
        total = total * shrink + tl.sum(share, 0)
        most = higher
        start += TILE
    chosen = tl.load(logits + tl.load(target + row)).to(tl.float32)
    tl.store(loss + row, (most - chosen) + tl.log(total))
    tl.store(negentropy + row, weighted / total - tl.log(total))
    tl.store(top + row, tl.minimum(best, columns - 1).to(tl.int64))


@triton.jit
def _compare(
    logits,
    own_logits,
    negentropy,
    top,
    target,
    loss,
    kl,
    agreed,
    stride,
    own_stride,
    columns,
    TILE: tl.constexpr,
):
    """Write loss, distance and agreement of one row."""
    row = tl.program_id(0).to(tl.int64)
    logits += row * stride
    own_logits += row * own_stride
    place = tl.arange(0, TILE)
    # Logits relative to one that is near the largest: of small numbers fewer digits are lost.
    anchor = tl.load(logits + tl.load(top + row)).to(tl.float32)
    most, total = tl.full((), _LOWEST, tl.float32), tl.full((), 0, tl.float32)
    own_most, own_total, crossed, start = most, total, total, tl.full((), 0, tl.int32)
    while start < columns:
        inside = start + place < columns
        x = tl.load(logits + start + place, mask=inside, other=-_INFINITY).to(tl.float32)
        own = tl.load(own_logits + start + place, mask=inside, other=-_INFINITY).to(tl.float32)
        higher = tl.maximum(most, tl.max(x, 0))
        total = total * tl.exp(most - higher) + tl.sum(tl.exp(x - higher), 0)
        most = higher
        higher = tl.maximum(own_most, tl.max(own, 0))
        shrink, share = tl.exp(own_most - higher), tl.exp(own - higher)
        crossed = crossed * shrink + _mean_part(share, x - anchor)
        own_total = own_total * shrink + tl.sum(share, 0)
        own_most = higher
        start += TILE
    log_total = tl.log(total)
    chosen = tl.load(logits + tl.load(target + row)).to(tl.float32)
    tl.store(loss + row, (most - chosen) + log_total)
    tl.store(kl + row, tl.load(negentropy + row) + ((most - anchor) + log_total) - crossed / own_total)
    tl.store(agreed + row, ((anchor == most) & (total == total)).to(tl.int8))


@triton.jit
def _mean_part(share, x):
    """Return the sum of ``share x``, where a share of zero is of no weight, as behind the end of a row."""
    return tl.sum(tl.where(share == 0, 0.0, share * x), 0)
