"""Triton code of scale rules and elements, on tiles: what ``bitlaw.formats.scales`` and ``elements`` define in torch.

Kernels are compiled without fused multiply-add, so that each line rounds as torch does; ``tl.fma`` stands where one is
meant. Constants of a rule or an element are compile-time arguments.
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
def round_float(x, LARGEST: tl.constexpr, LEAST: tl.constexpr, MANTISSA: tl.constexpr):
    """Half even to a minifloat, saturating; never -0. NaN gives some number. ``LEAST`` is the least normal exponent."""
    x = tl.minimum(tl.maximum(x, -LARGEST), LARGEST)
    exponent = tl.maximum(bits_of(x) & 0x7F800000, (LEAST + 127) << 23)
    # 1.5 * 2^(e + 23 - M): next to it float32 numbers are the multiples of 2^(e - M), for either sign of x.
    magic = from_bits(exponent + (((23 - MANTISSA) << 23) | 0x400000))
    return (x + magic) - magic


@triton.jit
def float_code(value, LEAST: tl.constexpr, MANTISSA: tl.constexpr, BITS: tl.constexpr):
    """The bit pattern of a number that ``round_float`` returned."""
    magnitude = tl.abs(value)
    normal = (bits_of(magnitude) >> (23 - MANTISSA)) - ((LEAST + 126) << MANTISSA)
    subnormal = (magnitude * (2.0 ** (MANTISSA - LEAST))).to(tl.int32)
    code = tl.where(magnitude < 2.0**LEAST, subnormal, normal)
    return code + tl.where(value < 0, 1 << (BITS - 1), 0)


@triton.jit
def codebook_cell(x, EXPONENTS: tl.constexpr, MANTISSA: tl.constexpr, BOUNDED: tl.constexpr):
    """A number from 0 that rises with ``x``: which cell of a codebook's table ``x`` lies in.

    Without ``EXPONENTS``, cells are ``2^-MANTISSA`` wide, from -2 to 2. They are read off the last bits of a sum, so
    ``x`` must lie there: ``BOUNDED`` says that it does or is NaN. With ``EXPONENTS``, cells are read off the first bits
    of ``x``; adding ``2^-EXPONENTS`` makes those near zero equally wide, and beyond 1 there is one.
    """
    if EXPONENTS == 0:
        if not BOUNDED:
            x = tl.minimum(tl.maximum(x, -1.75), 1.75)
        scale: tl.constexpr = 2.0**MANTISSA
        place = tl.fma(x, tl.full(x.shape, scale, tl.float32), tl.full(x.shape, 8388608.0 + 2 * scale, tl.float32))
        return bits_of(place) & ((4 << MANTISSA) - 1)
    smooth = tl.abs(x) + 2.0**-EXPONENTS
    cell = (bits_of(smooth) >> (23 - MANTISSA)) - ((127 - EXPONENTS) << MANTISSA)
    last: tl.constexpr = EXPONENTS << MANTISSA
    return (last + 1) + (tl.minimum(cell, last) ^ (bits_of(x) >> 31))


@triton.jit
def codebook_code(
    x,
    table,
    cells,
    rounds,
    EXPONENTS: tl.constexpr,
    MANTISSA: tl.constexpr,
    ROUNDS: tl.constexpr,
    BOUNDED: tl.constexpr,
):
    """Number of bounds below ``x``: a table gives those of lower cells, a search the rest, in ``ROUNDS`` or ``rounds``.

    For the other constants see ``codebook_cell``.
    """
    code = tl.load(cells + codebook_cell(x, EXPONENTS, MANTISSA, BOUNDED)).to(tl.int32)
    if ROUNDS > 0:
        for i in tl.static_range(ROUNDS):
            size: tl.constexpr = 1 << (ROUNDS - 1 - i)
            code += tl.where(x > tl.load(table + code + (size - 1)), size, 0)
    elif rounds <= 2:
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
def stored_step(step, DTYPE: tl.constexpr, TOP: tl.constexpr):
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
    good = (step < _INFINITY) & (stored * TOP < _INFINITY)
    return from_bits(tl.where(good, tl.maximum(bits_of(stored), least), _NAN))


@triton.jit
def absmax_step(amax, DTYPE: tl.constexpr, DIVISOR: tl.constexpr, TOP: tl.constexpr, MINIMUM: tl.constexpr):
    """See ``bitlaw.formats.scales.Absmax``; float32."""
    if MINIMUM > 0:
        amax = larger(amax, MINIMUM)
    if DIVISOR != 1.0:
        amax = tl.div_rn(amax, tl.full(amax.shape, DIVISOR, tl.float32))
    return stored_step(amax, DTYPE, TOP)


@triton.jit
def e8m0_byte(amax, RULE: tl.constexpr, EMAX: tl.constexpr, MANTISSA: tl.constexpr, TOP: tl.constexpr):
    """See ``bitlaw.formats.scales.E8M0``; int32."""
    bits = bits_of(amax)
    if RULE == RCEIL:
        bits = bits_of(tl.div_rn(amax, tl.full(amax.shape, TOP, tl.float32)))
    if RULE == EVEN:
        bits += 1 << (22 - MANTISSA)
    byte = bits >> 23
    if RULE == CEIL or RULE == RCEIL:
        byte += tl.where((bits & 0x7FFFFF) > tl.where(byte > 0, 0, 1 << 22), 1, 0)
    if RULE != RCEIL:
        byte -= EMAX
    return tl.where(amax < _INFINITY, tl.minimum(tl.maximum(byte, 0), 254), 255)


@triton.jit
def e8m0_step(byte, SHIFT: tl.constexpr):
    """See ``bitlaw.formats.scales.E8M0.step``; float32."""
    return from_bits(tl.where(byte != 255, bits_of(power_of_two(byte - (127 + SHIFT))), _NAN))


@triton.jit
def two_level_scale(amax, matrix_scale, TOP: tl.constexpr):
    """The block's scale, a number of E4M3; NaN where ``amax`` is not finite."""
    scale = tl.div_rn(tl.div_rn(amax, tl.full(amax.shape, TOP, tl.float32)), matrix_scale)
    scale = tl.where(scale == scale, scale, 0.0)
    scale = tl.maximum(round_float(scale, 448.0, -6, 3), 2.0**-9)
    return from_bits(tl.where(amax < _INFINITY, bits_of(scale), _NAN))


@triton.jit
def minmax_step(low, high, DTYPE: tl.constexpr, TOP: tl.constexpr, AWQ: tl.constexpr):
    """Steps and zero points of the range ``low..high``, which already includes 0 unless ``AWQ``."""
    width = high - low
    if AWQ:
        width = larger(width, 1e-5)
    step = stored_step(tl.div_rn(width, tl.full(width.shape, TOP, tl.float32)), DTYPE, TOP)
    start = tl.div_rn(low, step)
    zero = 0.0 - round_integer(tl.where(start == start, start, 0.0), -TOP, 0.0)
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
def quotient_by_power(x, byte, SHIFT: tl.constexpr):
    """``x / 2^(byte - 127 - SHIFT)``, correctly rounded: products with powers of two are."""
    up = (127 + SHIFT) - byte
    return (x * power_of_two(tl.minimum(up, 127))[:, None]) * power_of_two(tl.maximum(up - 127, 0))[:, None]
