"""Triton kernels of fake quantization and of the tables of codebooks."""
# Triton compiles a small language inside Python: constants are in capitals, there is no "in", NaN is x != x.
# ruff: noqa: N803, PLR0124, PLR0912, SIM108, SIM114
# mypy: disable-error-code="no-untyped-def, misc, unused-ignore, untyped-decorator"

import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]

from bitlaw.formats.kernels import cuda_parts as parts
from bitlaw.formats.kernels.cuda_parts import (
    ABSMAX,
    CODEBOOK,
    E8M0,
    FLOAT,
    MINMAX,
    TWO_LEVEL,
)


@triton.jit
def _absolute_maximum(x):
    return tl.reduce(tl.abs(x), 1, parts.larger)


@triton.jit
def _range(x, inside, AWQ: tl.constexpr, MASKED: tl.constexpr):
    """Smallest and largest number of each row; NaN where there is one. Without ``AWQ``, 0 counts as a member."""
    if AWQ and MASKED:
        low = tl.reduce(tl.where(inside, x, float("inf")), 1, parts.smaller)
        high = tl.reduce(tl.where(inside, x, float("-inf")), 1, parts.larger)
    else:
        low = tl.reduce(x, 1, parts.smaller)
        high = tl.reduce(x, 1, parts.larger)
    if not AWQ:
        low = parts.smaller(low, 0.0)
        high = parts.larger(high, 0.0)
    return low, high


@triton.jit
def _rounded(
    x,
    inside,
    table,
    cells,
    header,
    matrix_scale,
    rule,
    element,
    RULE: tl.constexpr,
    DTYPE: tl.constexpr,
    VARIANT: tl.constexpr,
    ELEMENT: tl.constexpr,
    EQUAL: tl.constexpr,
    BOUNDED: tl.constexpr,
    MASKED: tl.constexpr,
    PRESCALE: tl.constexpr,
):
    """The blocks in the rows of ``x``, rounded."""
    if RULE == MINMAX:
        low, high = _range(x, inside, VARIANT, MASKED)
        step, zero = parts.minmax_step(low, high, rule[0], DTYPE, VARIANT)
        units = parts.quotient(x, step, PRESCALE)
        value = parts.round_integer(units, -zero[:, None], (rule[0] - zero)[:, None])
    else:
        amax = _absolute_maximum(x)
        if RULE == ABSMAX:
            step = parts.absmax_step(amax, rule[0], rule[1], rule[2], DTYPE)
        elif RULE == E8M0:
            byte = parts.e8m0_byte(amax, parts.whole(rule[0]), parts.whole(rule[1]), rule[2], VARIANT)
            step = parts.e8m0_step(byte, parts.whole(rule[3]))
        else:
            scale = tl.load(matrix_scale)
            step = parts.two_level_scale(amax, scale, rule[0]) * scale

        if RULE == E8M0:
            units = parts.quotient_by_power(x, byte, parts.whole(rule[3]))
        elif RULE == TWO_LEVEL:
            units = tl.div_rn(x, tl.broadcast_to(step[:, None], x.shape))
            units = tl.where(units == units, units, 0.0)  # 0 / 0: steps of a tiny matrix can vanish
        elif ELEMENT != CODEBOOK:
            units = parts.quotient(x, step, PRESCALE)
        elif tl.load(header + 1) == 0:
            units = parts.quotient(x, step, PRESCALE)
        else:
            units = tl.div_rn(x, tl.broadcast_to(step[:, None], x.shape))

        if ELEMENT == CODEBOOK:
            exponents, mantissa = parts.whole(element[0]), parts.whole(element[1])
            code = parts.codebook_code(units, table, cells, tl.load(header), exponents, mantissa, EQUAL, BOUNDED)
            value = parts.codebook_value(code, table)
        elif ELEMENT == FLOAT:
            value = parts.round_float(units, element[0], parts.whole(element[1]), parts.whole(element[2]))
        else:
            value = parts.round_integer(units, element[0], element[1])
    return value * step[:, None]


@triton.jit(do_not_specialize=["total", "columns", "blocks", "width"])
def fake_quantize(
    w,
    out,
    table,
    cells,
    header,
    matrix_scale,
    total,
    columns,
    w_stride,
    w_column,
    out_stride,
    out_column,
    blocks,
    width,
    rule,
    element,
    RULE: tl.constexpr,
    DTYPE: tl.constexpr,
    VARIANT: tl.constexpr,
    ELEMENT: tl.constexpr,
    EQUAL: tl.constexpr,
    BOUNDED: tl.constexpr,
    TILE: tl.constexpr,
    WIDTH: tl.constexpr,
    FLAT: tl.constexpr,
    MASKED: tl.constexpr,
    PRESCALE: tl.constexpr,
):
    """Round ``TILE`` blocks: row ``i`` of the tile is a block, padded to ``WIDTH``.

    ``total`` is the number of blocks, ``blocks`` that of a row, ``width`` that of weights in a full block.
    ``rule`` and ``element``: the numbers of ``cuda.Part``; ``EQUAL`` and ``BOUNDED``: see ``parts.codebook_cell``.
    ``FLAT``: matrices are contiguous and blocks fill rows and ``WIDTH``. ``MASKED``: some of the tile is outside.
    """
    first = tl.program_id(0).to(tl.int64) * TILE
    local = tl.arange(0, TILE)
    place = tl.arange(0, WIDTH)
    inside = (first + local < total)[:, None]
    if FLAT:
        offset = local[:, None] * WIDTH + place[None, :]
        source, target = w + first * WIDTH + offset, out + first * WIDTH + offset
    else:
        row = (first + local) // blocks
        start = ((first + local) % blocks) * width
        inside = inside & ((place[None, :] < width) & (start[:, None] + place[None, :] < columns))
        position = start[:, None] + place[None, :]
        source = w + row[:, None] * w_stride + position * w_column
        target = out + row[:, None] * out_stride + position * out_column
    if MASKED:
        x = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    else:
        x = tl.load(source).to(tl.float32)

    rounded = _rounded(
        x,
        inside,
        table,
        cells,
        header,
        matrix_scale,
        rule,
        element,
        RULE,
        DTYPE,
        VARIANT,
        ELEMENT,
        EQUAL,
        BOUNDED,
        MASKED,
        PRESCALE,
    )
    result = rounded.to(out.dtype.element_ty)
    if MASKED:
        tl.store(target, result, mask=inside)
    else:
        tl.store(target, result)


@triton.jit(do_not_specialize=["count", "number", "exponents", "mantissa"])
def build_table(
    values,
    table,
    cells,
    header,
    count,
    number,
    exponents,
    mantissa,
    VALUES: tl.constexpr,
    CELLS: tl.constexpr,
    EQUAL: tl.constexpr,
):
    """Fill what ``parts.codebook_code`` reads, from ``count`` rising values. A program fills ``CELLS`` of the cells.

    There are ``number`` of them. The first program fills the rest: the table, and in the header the rounds of the
    search in the fullest cell, and whether some bound is too small for ``parts.quotient``.
    """
    place = tl.arange(0, VALUES)
    value = tl.load(values + place, mask=place < count, other=0.0)
    following = tl.load(values + place + 1, mask=place + 1 < count, other=0.0)
    is_bound = place + 1 < count
    bound = (value + following) * 0.5 + 0.0  # no -0: it would lie in another cell than 0
    own = tl.where(is_bound, parts.codebook_cell(bound, exponents, mantissa, EQUAL, False), number)
    cell = tl.program_id(0) * CELLS + tl.arange(0, CELLS)
    below = tl.sum((own[None, :] < cell[:, None]).to(tl.int32), 1)
    tl.store(cells + cell, below.to(tl.uint8), mask=cell < number)
    if tl.program_id(0) == 0:
        padding = tl.arange(0, 512)
        tl.store(table + padding, tl.full((512,), float("inf"), tl.float32), mask=padding + 1 >= count)
        tl.store(table + place, bound, mask=is_bound)
        tl.store(table + 512 + place, value)
        shared = tl.sum(((own[:, None] == own[None, :]) & is_bound[None, :]).to(tl.int32), 1)
        fullest = tl.max(tl.where(is_bound, shared, 0), 0)
        rounds = tl.sum(((1 << tl.arange(0, 16)) <= fullest).to(tl.int32), 0)
        tiny = is_bound & (bound != 0.0) & (tl.abs(bound) < 2.0**-90)
        tl.store(header, rounds)
        tl.store(header + 1, tl.max(tiny.to(tl.int32), 0))
