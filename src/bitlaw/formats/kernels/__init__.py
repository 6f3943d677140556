"""Compiled kernels for what takes time: the plain torch code of ``bitlaw.formats`` defines what they must equal.

They are written for the data of elements and scale rules, so that a format made of existing parts needs none of its
own. A kernel takes a part only if it is of a class that it knows, or of one that inherits what it computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bitlaw.gpu import has_triton

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.formats.layout import Layout
    from bitlaw.formats.scales import Scales


def fake_quantize(fmt: Layout, w: Tensor, shared: Mapping[str, Tensor], out: Tensor) -> bool:
    """Write ``w`` rounded to ``fmt`` to ``out`` and return true, or return false if no kernel can.

    The result equals that of ``Format._fake_quantize`` bit for bit, but for which NaN a NaN is.

    Args:
        fmt: the format.
        w: ``(out, in)``, any floating dtype, any strides.
        shared: what ``fmt.shared(w)`` returned.
        out: where to write, in its dtype, any strides; may be ``w``.
    """
    if w.device.type == "cpu" and out.device.type == "cpu":
        from bitlaw.formats.kernels import cpu

        return cpu.fake_quantize(fmt, w, shared, out)
    if w.device.type == "cuda" and out.device == w.device and has_triton():
        import torch

        from bitlaw.formats.kernels import cuda

        with torch.cuda.device(w.device):
            return cuda.fake_quantize(fmt, w, shared, out)
    return False


def largest_finite(w: Tensor) -> Tensor | None:
    """Return the largest finite magnitude in ``w``, ``(1,)`` float32 (0 without one), or ``None`` if no kernel can.

    Args:
        w: a matrix, any floating dtype, any strides.
    """
    if w.device.type == "cuda" and has_triton():
        import torch

        from bitlaw.formats.kernels import cuda_shared

        with torch.cuda.device(w.device):
            return cuda_shared.largest_finite(w)
    return None


def quantile_codebook(w: Tensor, step: int, chunk: int, bits: int) -> Tensor | None:
    """Return the codebook of a quantile code, or ``None`` if no kernel can.

    See ``bitlaw.formats.quantile.AbsmaxWithCodebook.shared``, of whose plain code it has the same bits.

    Args:
        w: a matrix, any floating dtype, any strides.
        step: every how many weights belong to the sample.
        chunk: weights that are sorted together, at most; a power of two.
        bits: of a code.
    """
    if w.device.type == "cuda" and has_triton():
        import torch

        from bitlaw.formats.kernels import cuda_shared

        with torch.cuda.device(w.device):
            return cuda_shared.quantile_codebook(w, step, chunk, bits)
    return None


def dequantize(fmt: Layout, codes: Tensor, scales: Scales, out: Tensor) -> bool:
    """Write the weights that ``codes`` mean to ``out`` and return true, or return false if no kernel can.

    The result equals that of ``Format._decode`` bit for bit, but for which NaN a NaN is.

    Args:
        fmt: the format.
        codes: ``(out, in)`` int8 or uint8.
        scales: of the whole matrix.
        out: where to write, in its dtype, any strides.
    """
    if codes.device.type == "cpu" and out.device.type == "cpu":
        from bitlaw.formats.kernels import cpu

        return cpu.dequantize(fmt, codes, scales, out)
    return False


def gptq_block(
    fmt: Layout,
    shared: Mapping[str, Tensor],
    w_t: Tensor,
    upper: Tensor,
    scales: tuple[Tensor, Tensor | None, Tensor | None],
    group: Tensor,
    codes: Tensor,
    errors: Tensor,
) -> bool:
    """Round columns by GPTQ, one after the other, and return true, or return false if no kernel can.

    Column j becomes ``q = decode(round(w_j))``; its error ``e = (w_j - q) / U_jj``, 0 if not finite, is taken off the
    later columns: ``w_k = w_k - (e * U_jk)``, the product rounded, then the difference.

    Args:
        fmt: the format.
        shared: the shared parts of the matrix's scales.
        w_t: the columns to be rounded, ``(n, rows)`` float32, contiguous; may be overwritten.
        upper: U, ``(n, n)`` float32; entries below the diagonal are not looked at.
        scales: steps, zero points and means (``None`` for none), each ``(groups, rows)`` float32, contiguous.
        group: to which group each column belongs, ``(n,)`` int64.
        codes: gets the codes, ``(n, rows)`` int8 or uint8, contiguous.
        errors: gets the errors, ``(n, rows)`` float32, contiguous.
    """
    if w_t.device.type == "cpu":
        from bitlaw.formats.kernels import cpu

        return cpu.gptq_block(fmt, shared, w_t, upper, scales, group, codes, errors)
    if w_t.device.type == "cuda" and has_triton():
        import torch

        from bitlaw.formats.kernels import cuda

        with torch.cuda.device(w_t.device):
            return cuda.gptq_block(fmt, shared, w_t, upper, scales, group, codes, errors)
    return False


def gptq_groups(
    fmt: Layout,
    shared: Mapping[str, Tensor],
    w_t: Tensor,
    upper: Tensor,
    parts: Mapping[str, Tensor],
    width: int,
    codes: Tensor,
    errors: Tensor,
) -> bool:
    """Do as ``gptq_block``, with running scales: each ``width`` columns get theirs when the first is reached.

    One launch then covers all groups of a lazy block; only on a GPU, where launches cost more than the work.

    Args:
        fmt: the format.
        shared: the shared parts of the matrix's scales.
        w_t: see ``gptq_block``.
        upper: see ``gptq_block``.
        parts: gets the block parts in their storage dtypes, each ``(ceil(n / width), rows)``, contiguous.
        width: columns of a group; the first begins with the first column.
        codes: see ``gptq_block``.
        errors: see ``gptq_block``.
    """
    if w_t.device.type == "cuda" and has_triton():
        import torch

        from bitlaw.formats.kernels import cuda

        with torch.cuda.device(w_t.device):
            return cuda.gptq_groups(fmt, shared, w_t, upper, parts, width, codes, errors)
    return False
