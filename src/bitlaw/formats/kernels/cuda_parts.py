"""Triton code of scale rules and elements, on tiles: what ``bitlaw.formats.scales`` and ``elements`` define in torch.

Kernels are compiled without fused multiply-add, so that each line rounds as torch does; ``tl.fma`` stands where one is
meant. The kind of a rule or an element is a compile-time argument, its numbers are not: a study has formats by the
hundred, and compiling a kernel takes longer than rounding the linears of a small model.
"""
# Triton compiles a small language inside Python: constants are in capitals, there is no "in", NaN is x != x.
# ruff: noqa: N803, PLR0124, PLR1714, SIM109
# mypy: disable-error-code="no-untyped-def, misc, unused-ignore, untyped-decorator"

import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]

# Rules.
ABSMAX = tl.constexpr(0)
E8M0 = tl.constexpr(1)
MINMAX = tl.constexpr(2)
TWO_LEVEL = tl.constexpr(3)
# Storage of a step.
FLOAT32 = tl.constexpr(0)
FLOAT16 = tl.constexpr(1)
BFLOAT16 = tl.constexpr(2)
# How an E8M0 exponent is taken.
FLOOR = tl.constexpr(0)
EVEN = tl.constexpr(1)
RCEIL = tl.constexpr(2)
CEIL = tl.constexpr(3)
# Elements.
INTEGER = tl.constexpr(0)
FLOAT = tl.constexpr(1)
CODEBOOK = tl.constexpr(2)

_INFINITY = tl.constexpr(float("inf"))
_NAN = tl.constexpr(0x7FC00000)
_MAGIC = tl.constexpr(12582912.0)  # 1.5 * 2^23: float32 numbers near it are the integers
_BOUNDS = tl.constexpr(512)  # a codebook's table: bounds, padded with infinity, then values


@triton.jit
def whole(x):
    """Return a small whole number, which kernels are given as a float32, as int32."""
    return tl.cast(x, tl.int32)


@triton.jit
def bits_of(x):
    """Return the bits of a float32 as int32, elementwise."""
    return x.to(tl.int32, bitcast=True)


@triton.jit
def from_bits(bits):
    """Return the float32 with these bits, elementwise."""
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def larger(a, b):
    """Return the larger one, elementwise; NaN if one is."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def smaller(a, b):
    """Return the smaller one, elementwise; NaN if one is."""
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def power_of_two(exponent):
    """``2^exponent``, -149..127, subnormal or not."""
    normal = (exponent + 127) << 23
    subnormal = 1 << tl.maximum(exponent + 149, 0)
    return from_bits(tl.where(exponent > -127, normal, subnormal))


@triton.jit
def round_integer(x, low, high):
    """Half even, clipped to ``low..high`` (at most 2^22 in magnitude); never -0. NaN gives some number."""
    return (tl.minimum(tl.maximum(x, low), high) + _MAGIC) - _MAGIC


@triton.jit
def round_float(x, largest, least, mantissa):
    """Half even to a minifloat, saturating; never -0. NaN gives some number. ``least`` is the least normal exponent."""
    x = tl.minimum(tl.maximum(x, -largest), largest)
    exponent = tl.maximum(bits_of(x) & 0x7F800000, (least + 127) << 23)
    # 1.5 * 2^(e + 23 - M): next to it float32 numbers are the multiples of 2^(e - M), for either sign of x.
    magic = from_bits(exponent + (((23 - mantissa) << 23) | 0x400000))
    return (x + magic) - magic


@triton.jit
def float_code(value, least, mantissa, bits):
    """The bit pattern of a number that ``round_float`` returned."""
    magnitude = tl.abs(value)
    normal = (bits_of(magnitude) >> (23 - mantissa)) - ((least + 126) << mantissa)
    subnormal = (magnitude * power_of_two(mantissa - least)).to(tl.int32)
    code = tl.where(magnitude < power_of_two(least), subnormal, normal)
    return code + tl.where(value < 0, 1 << (bits - 1), 0)


@triton.jit
def codebook_cell(x, exponents, mantissa, EQUAL: tl.constexpr, BOUNDED: tl.constexpr):
    """A number from 0 that rises with ``x``: which cell of a codebook's table ``x`` lies in.

    If they are ``EQUAL``, cells are ``2^-mantissa`` wide, from -2 to 2. They are read off the last bits of a sum, so
    ``x`` must lie there: ``BOUNDED`` says that it does or is NaN. Else cells are read off the first bits of ``x``;
    adding ``2^-exponents`` makes those near zero equally wide, and beyond 1 there is one.
    """
    if EQUAL:
        if not BOUNDED:
            x = tl.minimum(tl.maximum(x, -1.75), 1.75)
        scale = power_of_two(mantissa)
        place = tl.fma(x, tl.full(x.shape, scale, tl.float32), tl.full(x.shape, 8388608.0 + 2 * scale, tl.float32))
        return bits_of(place) & ((4 << mantissa) - 1)
    smooth = tl.abs(x) + power_of_two(-exponents)
    cell = (bits_of(smooth) >> (23 - mantissa)) - ((127 - exponents) << mantissa)
    last = exponents << mantissa
    return (last + 1) + (tl.minimum(cell, last) ^ (bits_of(x) >> 31))


@triton.jit
def codebook_code(x, table, cells, rounds, exponents, mantissa, EQUAL: tl.constexpr, BOUNDED: tl.constexpr):
    """Number of bounds below ``x``: a table gives those of lower cells, a search in ``rounds`` the rest.

    For the last four see ``codebook_cell``.
    """
    code = tl.load(cells + codebook_cell(x, exponents, mantissa, EQUAL, BOUNDED)).to(tl.int32)
    if rounds <= 2:
        if rounds == 2:
            code += tl.where(x > tl.load(table + code + 1), 2, 0)
        code += tl.where(x > tl.load(table + code), 1, 0)
    else:
        span = (1 << rounds) >> 1
        while span > 0:
            code += tl.where(x > tl.load(table + code + (span - 1)), span, 0)
            span = span >> 1
    return code


@triton.jit
def codebook_value(code, table):
    """Return the entries of a codebook's table at these places."""
    return tl.load(table + _BOUNDS + code)


@triton.jit
def stored_step(step, top, DTYPE: tl.constexpr):
    """See ``bitlaw.formats.scales.stored_step``; float32."""
    if DTYPE == FLOAT16:
        stored = step.to(tl.float16).to(tl.float32)
    elif DTYPE == BFLOAT16:
        bits = bits_of(step)
        stored = from_bits((bits + 0x7FFF + ((bits >> 16) & 1)) & -65536)
    else:
        stored = step
    # The bits of 2^-24, 2^-133 or 2^-149. Positive numbers are in the order of their bits, and a subnormal constant
    # would not be of type float32.
    least: tl.constexpr = 0x33800000 if DTYPE == FLOAT16 else 0x10000 if DTYPE == BFLOAT16 else 1
    good = (step < _INFINITY) & (stored * top < _INFINITY)
    return from_bits(tl.where(good, tl.maximum(bits_of(stored), least), _NAN))


@triton.jit
def absmax_step(amax, divisor, top, minimum, DTYPE: tl.constexpr):
    """See ``bitlaw.formats.scales.Absmax``; float32."""
    amax = larger(amax, tl.full(amax.shape, minimum, tl.float32))
    return stored_step(tl.div_rn(amax, tl.full(amax.shape, divisor, tl.float32)), top, DTYPE)


@triton.jit
def e8m0_byte(amax, emax, mantissa, top, VARIANT: tl.constexpr):
    """See ``bitlaw.formats.scales.E8M0``; int32."""
    bits = bits_of(amax)
    if VARIANT == RCEIL:
        bits = bits_of(tl.div_rn(amax, tl.full(amax.shape, top, tl.float32)))
    if VARIANT == EVEN:
        bits += 1 << (22 - mantissa)
    byte = bits >> 23
    if VARIANT == CEIL or VARIANT == RCEIL:
        byte += tl.where((bits & 0x7FFFFF) > tl.where(byte > 0, 0, 1 << 22), 1, 0)
    if VARIANT != RCEIL:
        byte -= emax
    return tl.where(amax < _INFINITY, tl.minimum(tl.maximum(byte, 0), 254), 255)


@triton.jit
def e8m0_step(byte, shift):
    """See ``bitlaw.formats.scales.E8M0.step``; float32."""
    return from_bits(tl.where(byte != 255, bits_of(power_of_two(byte - (127 + shift))), _NAN))


@triton.jit
def two_level_scale(amax, matrix_scale, top):
    """The block's scale, a number of E4M3; NaN where ``amax`` is not finite."""
    scale = tl.div_rn(tl.div_rn(amax, tl.full(amax.shape, top, tl.float32)), matrix_scale)
    scale = tl.where(scale == scale, scale, 0.0)
    scale = tl.maximum(round_float(scale, 448.0, -6, 3), 2.0**-9)
    return from_bits(tl.where(amax < _INFINITY, bits_of(scale), _NAN))


@triton.jit
def minmax_step(low, high, top, DTYPE: tl.constexpr, AWQ: tl.constexpr):
    """Steps and zero points of the range ``low..high``, which already includes 0 unless ``AWQ``."""
    width = high - low
    if AWQ:
        width = larger(width, 1e-5)
    step = stored_step(tl.div_rn(width, tl.full(width.shape, top, tl.float32)), top, DTYPE)
    start = tl.div_rn(low, step)
    zero = 0.0 - round_integer(tl.where(start == start, start, 0.0), -top, 0.0)
    return step, zero


@triton.jit
def quotient(x, step, PRESCALE: tl.constexpr):
    """``x / step``, correctly rounded where it is at least 2^-100 (below: with an error of that order).

    ``x r`` with the rounded reciprocal ``r`` is one or two units off; one correction by the exact remainder gives the
    rounded quotient (Markstein 1990), shorter than a division by a number each. ``PRESCALE`` brings steps near the
    ends of float32's range to where nothing overflows; 16-bit floats (float16) do not reach there.
    """
    if PRESCALE:
        exponent = tl.minimum(tl.maximum(127 - ((bits_of(step) >> 23) & 0xFF), -126), 127)
        scale = power_of_two(exponent)
        step = step * scale
        x = x * scale[:, None]
    reciprocal = tl.div_rn(tl.full(step.shape, 1.0, tl.float32), step)[:, None]
    rough = x * reciprocal
    remainder = tl.fma(rough, tl.broadcast_to((0.0 - step)[:, None], x.shape), x)
    return tl.fma(remainder, tl.broadcast_to(reciprocal, x.shape), rough)


@triton.jit
def quotient_by_power(x, byte, shift):
    """``x / 2^(byte - 127 - shift)``, correctly rounded: products with powers of two are."""
    up = (127 + shift) - byte
    return (x * power_of_two(tl.minimum(up, 127))[:, None]) * power_of_two(tl.maximum(up - 127, 0))[:, None]
