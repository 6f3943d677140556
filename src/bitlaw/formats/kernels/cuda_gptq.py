"""Triton kernel of GPTQ inside a lazy block of columns."""
# Triton compiles a small language inside Python: constants are in capitals, there is no "in", NaN is x != x.
# ruff: noqa: N803, PLR0124
# mypy: disable-error-code="no-untyped-def, misc, unused-ignore, untyped-decorator"

import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]

from bitlaw.formats.kernels import cuda_parts as parts
from bitlaw.formats.kernels.cuda_parts import ABSMAX, CODEBOOK, E8M0, FLOAT, MINMAX


@triton.jit
def _members(tile, member, START):
    return tl.reduce(tl.where(member, tile, START), 0, parts.larger)


@triton.jit
def _fit(tile, member, matrix_scale, rule, RULE: tl.constexpr, DTYPE: tl.constexpr, VARIANT: tl.constexpr):
    """Step, zero point and what is stored for the scale, of the ``member`` columns (rows of the tile)."""
    if RULE == MINMAX:
        if VARIANT:
            high = _members(tile, member, float("-inf"))
            low = 0.0 - _members(0.0 - tile, member, float("-inf"))
        else:
            high = _members(tile, member, 0.0)
            low = 0.0 - _members(0.0 - tile, member, 0.0)
        step, zero = parts.minmax_step(low, high, rule[0], DTYPE, VARIANT)
        stored = step
    else:
        amax = _members(tl.abs(tile), member, 0.0)
        zero = tl.zeros(amax.shape, tl.float32)
        if RULE == ABSMAX:
            step = parts.absmax_step(amax, rule[0], rule[1], rule[2], DTYPE)
            stored = step
        elif RULE == E8M0:
            stored = parts.e8m0_byte(amax, parts.whole(rule[0]), parts.whole(rule[1]), rule[2], VARIANT)
            step = parts.e8m0_step(stored, parts.whole(rule[3]))
        else:
            scale = tl.load(matrix_scale)
            block_scale = parts.two_level_scale(amax, scale, rule[0])
            step = block_scale * scale
            code = parts.float_code(tl.where(amax < float("inf"), block_scale, 0.0), -6, 3, 8)
            stored = tl.where(amax < float("inf"), code, 127)
    return step, zero, stored


@triton.jit
def _round(units, zero, table, cells, header, element, ELEMENT: tl.constexpr, EQUAL: tl.constexpr):
    """Codes (int32) and the numbers they mean less the zero point, for weights in units of the step."""
    good = units == units
    if ELEMENT == CODEBOOK:
        units = tl.where(good, units, 0.0)
        exponents, mantissa = parts.whole(element[0]), parts.whole(element[1])
        code = parts.codebook_code(units, table, cells, tl.load(header), exponents, mantissa, EQUAL, False)
        value = parts.codebook_value(code, table)
    elif ELEMENT == FLOAT:
        least, mantissa = parts.whole(element[1]), parts.whole(element[2])
        value = tl.where(good, parts.round_float(units, element[0], least, mantissa), 0.0)
        code = parts.float_code(value, least, mantissa, parts.whole(element[3]))
    else:
        # Beyond these bounds a number is clipped whatever its zero point, which is a code.
        number = parts.round_integer(units, element[0] - element[1], element[1] - element[0]) + zero
        number = tl.minimum(tl.maximum(number, element[0]), element[1])
        number = tl.where(good, number, 0.0)
        code = number.to(tl.int32)
        value = number - zero
    return code, value


@triton.jit(do_not_specialize=["width"])
def gptq_block(
    w_t,
    upper,
    upper_stride,
    upper_column,
    steps,
    zeros,
    means,
    group,
    codes,
    errors,
    stored,
    table,
    cells,
    header,
    matrix_scale,
    rows,
    w_stride,
    code_stride,
    error_stride,
    width,
    rule,
    element,
    RULE: tl.constexpr,
    DTYPE: tl.constexpr,
    VARIANT: tl.constexpr,
    ELEMENT: tl.constexpr,
    EQUAL: tl.constexpr,
    FIT: tl.constexpr,
    ASYMMETRIC: tl.constexpr,
    CENTERED: tl.constexpr,
    N: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Round ``N`` columns one after the other, each error handed on to the later ones, for ``ROWS`` rows of weights.

    The columns stay in registers as ``(COLUMNS, ROWS)``. With ``FIT``, each ``width`` columns get their scale from
    their updated weights when the first of them is reached: ``stored`` (and ``zeros``) are written, ``steps`` not read.
    ``rule`` and ``element``: the numbers of ``cuda.Part``; ``EQUAL``: see ``parts.codebook_cell``.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    inside = row < rows
    tile = tl.load(
        w_t + column[:, None] * w_stride + row[None, :],
        mask=(column < N)[:, None] & inside[None, :],
        other=0.0,
    )
    step = tl.full((ROWS,), 1.0, tl.float32)
    zero = tl.zeros((ROWS,), tl.float32)
    # What a column needs of U is loaded while the one before is worked on.
    next_factors = tl.load(upper + column * upper_column, mask=column < N, other=0.0)
    next_diagonal = tl.load(upper)
    for j in range(N):
        factors, diagonal = next_factors, next_diagonal
        following = tl.minimum(j + 1, N - 1)
        next_factors = tl.load(upper + following * upper_stride + column * upper_column, mask=column < N, other=0.0)
        next_diagonal = tl.load(upper + following * (upper_stride + upper_column))
        weight = tl.sum(tl.where(column[:, None] == j, tile, 0.0), 0)
        if FIT:
            if j % width == 0:
                member = ((column >= j) & (column < j + width) & (column < N))[:, None]
                step, zero, kept = _fit(tile, member, matrix_scale, rule, RULE, DTYPE, VARIANT)
                place = (j // width) * rows + row
                tl.store(stored + place, kept.to(stored.dtype.element_ty), mask=inside)
                if ASYMMETRIC:
                    tl.store(zeros + place, zero.to(zeros.dtype.element_ty), mask=inside)
        else:
            place = tl.load(group + j) * rows + row
            step = tl.load(steps + place, mask=inside, other=1.0)
            if ASYMMETRIC:
                zero = tl.load(zeros + place, mask=inside, other=0.0).to(tl.float32)
        shifted = weight
        if CENTERED:
            mean = tl.load(means + place, mask=inside, other=0.0)
            shifted = weight - mean
        code, value = _round(tl.div_rn(shifted, step), zero, table, cells, header, element, ELEMENT, EQUAL)
        rounded = value * step
        if CENTERED:
            rounded += mean
        error = tl.div_rn(weight - rounded, tl.zeros((ROWS,), tl.float32) + diagonal)
        error = tl.where(tl.abs(error) < float("inf"), error, 0.0)
        tl.store(codes + j * code_stride + row, code.to(codes.dtype.element_ty), mask=inside)
        tl.store(errors + j * error_stride + row, error, mask=inside)
        tile -= error[None, :] * factors[:, None]
