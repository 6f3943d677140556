"""Triton kernels of what all blocks of a matrix share: its largest weight, and the codebook of a quantile code.

The plain code of ``bitlaw.formats.scales`` and ``bitlaw.formats.quantile`` says what comes out, bit for bit.
"""
# Triton compiles a small language inside Python: constants are in capitals, there is no "in", NaN is x != x.
# ruff: noqa: N803
# mypy: disable-error-code="no-untyped-def, misc, unused-ignore, untyped-decorator"

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from torch import Tensor

_DTYPES: Final = (torch.float32, torch.float16, torch.bfloat16)
_TILE: Final = 8192  # weights that a program looks at at once
_PROGRAMS: Final = 1024  # at most
_SORTING_WARPS: Final = 32  # measured on an H200
_CHUNKS: Final = 32  # of a sample, at most (SAMPLE / CHUNK of formats.quantile): one kernel for all matrices
_INFINITY = tl.constexpr(float("inf"))


# ---- The largest weight.


def largest_finite(w: Tensor) -> Tensor | None:
    """Do as ``bitlaw.formats.kernels.largest_finite`` says."""
    if w.dtype not in _DTYPES or not w.is_contiguous():
        return None
    programs = min(_PROGRAMS, -(-w.numel() // _TILE))
    partial = w.new_empty(programs, dtype=torch.float32)
    _largest[(programs,)](w, partial, w.numel(), TILE=_TILE, num_warps=8)
    return partial.amax().view(1)


@triton.jit
def _largest(w, partial, total, TILE: tl.constexpr):
    """Write the largest finite magnitude that a program sees; 0 if there is none."""
    program, programs = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    place = tl.arange(0, TILE)
    most = tl.zeros((TILE,), tl.float32)
    start = program * TILE
    while start < total:
        x = tl.abs(tl.load(w + start + place, mask=start + place < total, other=0.0).to(tl.float32))
        most = tl.maximum(most, tl.where(x < _INFINITY, x, 0.0))
        start += programs * TILE
    tl.store(partial + program, tl.max(most, 0))


# ---- The codebook of a quantile code.


def quantile_codebook(w: Tensor, step: int, chunk: int, bits: int) -> Tensor | None:
    """Do as ``bitlaw.formats.kernels.quantile_codebook`` says."""
    if w.dtype not in _DTYPES:
        return None
    sampled, count = -(-w.numel() // step), (1 << bits) - 1
    chunks = -(-sampled // chunk)
    quantiles = w.new_empty((chunks, count), dtype=torch.float64)
    good = w.new_empty(chunks, dtype=torch.int32)
    codebook = w.new_empty(1 << bits, dtype=torch.float32)
    _chunk_quantiles[(chunks,)](
        *(w, quantiles, good, sampled, step, w.shape[1], w.stride(0), w.stride(1)),
        CHUNK=chunk,
        COUNT=count,
        VALUES=1 << bits,
        FLAT=w.is_contiguous(),
        num_warps=_SORTING_WARPS,
        enable_fp_fusion=False,
    )
    _mean_codebook[(1,)](
        *(quantiles, good, codebook, chunks),
        CHUNKS=max(_CHUNKS, _power_of_two(chunks)),
        COUNT=count,
        VALUES=1 << bits,
        num_warps=4,
        enable_fp_fusion=False,
    )
    return codebook


@triton.jit(do_not_specialize=["sampled", "step", "columns", "row_stride", "column_stride"])
def _chunk_quantiles(
    w,
    quantiles,
    good,
    sampled,
    step,
    columns,
    row_stride,
    column_stride,
    CHUNK: tl.constexpr,
    COUNT: tl.constexpr,
    VALUES: tl.constexpr,
    FLAT: tl.constexpr,
):
    """Write ``COUNT`` quantiles of one chunk of the sample, float64, and how many of its weights are finite."""
    chunk, chunks = tl.program_id(0), tl.num_programs(0)
    number = tl.arange(0, CHUNK) * chunks + chunk
    place = number.to(tl.int64) * step
    if not FLAT:
        place = place // columns * row_stride + place % columns * column_stride
    x = tl.load(w + place, mask=number < sampled, other=float("inf")).to(tl.float32)
    finite = tl.abs(x) < _INFINITY
    count = tl.sum(finite.to(tl.int32), 0)
    x = tl.sort(tl.where(finite, x, float("inf")))

    level = tl.arange(0, VALUES)
    last = tl.maximum(count - 1, 0)
    places = tl.where(level < COUNT, (2 * level + 1) * last, 0)
    low = places // (2 * COUNT)
    share = (places % (2 * COUNT)).to(tl.float64) / tl.full((VALUES,), 2 * COUNT, tl.float64)
    below = tl.gather(x, low, 0).to(tl.float64)
    above = tl.gather(x, tl.minimum(low + 1, last), 0).to(tl.float64)
    value = tl.where(count > 0, below + (above - below) * share, 0.0)
    tl.store(quantiles + chunk * COUNT + level, value, mask=level < COUNT)
    tl.store(good + chunk, count)


@triton.jit(do_not_specialize=["chunks"])
def _mean_codebook(quantiles, good, codebook, chunks, CHUNKS: tl.constexpr, COUNT: tl.constexpr, VALUES: tl.constexpr):
    """Write the means of the quantiles of all chunks, and zero, in rising order, over the largest magnitude."""
    level = tl.arange(0, VALUES)
    inside = level < COUNT
    total = tl.zeros((VALUES,), tl.float64)
    for chunk in tl.static_range(CHUNKS):
        total += tl.load(quantiles + chunk * COUNT + level, mask=inside & (chunk < chunks), other=0.0)
    number = tl.arange(0, CHUNKS)
    used = tl.sum((tl.load(good + number, mask=number < chunks, other=0) > 0).to(tl.int32), 0)
    mean = total / tl.maximum(used, 1).to(tl.float64)
    largest = tl.max(tl.where(inside, tl.abs(mean), 0.0), 0)
    value = (mean / tl.where(largest > 0, largest, 1.0)).to(tl.float32) + 0.0  # no -0
    # Zero stands behind all that is below it.
    zero = tl.sum((inside & (mean < 0)).to(tl.int32), 0)
    tl.store(codebook + level + (level >= zero).to(tl.int32), value, mask=inside)
    tl.store(codebook + zero, 0.0)


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()
