"""Number formats one weight at a time: an obvious and slow reference for the fast code, which it shares no line with.

Numbers are Python floats that hold float32 values; sums and products that a format defines in float32 are made with
numpy scalars. The code reads a format's data (bits, rules, tables), never its methods.
"""

from __future__ import annotations

import bisect
import math
from fractions import Fraction
from functools import cache
from itertools import count as count_from
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from bitlaw.formats.base import Format
from bitlaw.formats.elements import CodebookElement, FloatElement, IntElement
from bitlaw.formats.scales import E8M0, AbsMean, MinMax, TwoLevel

F32 = np.float32
SMALLEST = {"float16": 2.0**-24, "bfloat16": 2.0**-133, "float32": 2.0**-149}


def fake_quantize(fmt: Format, w: Tensor) -> Tensor:
    """Return what ``fmt.fake_quantize(w)`` must be."""
    values = w.float().numpy()
    result = np.empty_like(values)
    matrix = _matrix_scale(fmt, values)
    codebook = quantile_codebook(fmt.bits, w) if "codebook" in fmt.shared_parts() else None
    with np.errstate(all="ignore"):
        for places in _blocks(fmt, values.shape):
            out = _block(fmt, [float(values[place]) for place in places], matrix, codebook)
            for place, value in zip(places, out, strict=True):
                result[place] = value
    return torch.from_numpy(result)


def quantile_codebook(bits: int, w: Tensor) -> list[float]:
    """Return the entries of a quantile code for ``w``."""
    sample = w.float().flatten().tolist()[:: _sample_step(*w.shape)]
    chunks = -(-len(sample) // 2048)
    count = 2**bits - 1
    found = []
    for chunk in range(chunks):
        good = sorted(v for v in sample[chunk::chunks] if math.isfinite(v))
        if good:
            found.append([_quantile(good, Fraction(2 * i + 1, 2 * count)) for i in range(count)])
    means = [0.0] * count
    for quantiles in found:
        means = [mean + quantile for mean, quantile in zip(means, quantiles, strict=True)]
    entries = sorted([0.0, *(mean / max(1, len(found)) for mean in means)])
    largest = max(abs(entry) for entry in entries) or 1.0
    return [float(F32(entry / largest)) + 0.0 for entry in entries]


def _sample_step(rows: int, columns: int) -> int:
    return next(n for n in count_from(1) if n * 65536 >= rows * columns and math.gcd(n, columns) == 1)


def _quantile(ordered: list[float], level: Fraction) -> float:
    place = level * (len(ordered) - 1)
    below, above = ordered[math.floor(place)], ordered[min(math.floor(place) + 1, len(ordered) - 1)]
    return below + (above - below) * float(place - math.floor(place))


def _blocks(fmt: Format, shape: tuple[int, int]) -> list[list[tuple[int, int]]]:
    rows, columns = shape
    if fmt.block == "none":
        return [[(i, j) for i in range(rows) for j in range(columns)]]
    width = columns if fmt.block == "row" else int(fmt.block)
    return [[(i, j) for j in range(s, min(s + width, columns))] for i in range(rows) for s in range(0, columns, width)]


def _block(fmt: Format, block: list[float], matrix: float, codebook: list[float] | None) -> list[float]:
    bad = [math.nan] * len(block)
    if not all(math.isfinite(v) for v in block):
        return bad
    mean = 0.0
    if fmt.centered:
        mean = _stored(math.fsum(block) / len(block), fmt.rule.dtype)
        block = [float(F32(v) - F32(mean)) for v in block]
    found = _step(fmt, block, matrix)
    if found is None or not math.isfinite(mean):
        return bad
    step, zero = found
    out = []
    for v in block:
        x = float(F32(v) / F32(step))
        number = _nearest(fmt, x, zero, codebook)
        q = F32(number) * F32(step)
        out.append(float(q + F32(mean)) if fmt.centered else float(q))
    return out


def _step(fmt: Format, block: list[float], matrix: float) -> tuple[float, int] | None:
    """Return the step and the zero point of a block of finite weights, or nothing if the scale cannot be stored."""
    rule, amax = fmt.rule, max(abs(v) for v in block)
    if isinstance(rule, E8M0):
        exponent = min(max(_exponent(rule, amax), -127), 127)
        return 2.0 ** (exponent - rule.shift), 0
    if isinstance(rule, TwoLevel):
        scale = _in_table(_magnitudes(3, 7, 448.0), float(F32(F32(amax) / F32(6.0)) / F32(matrix)))
        return float(F32(max(scale, 2.0**-9)) * F32(matrix)), 0
    if isinstance(rule, MinMax):
        low, high = min(block), max(block)
        if rule.convention == "gptq":
            low, high = min(low, 0.0), max(high, 0.0)
        width = F32(high) - F32(low)
        if rule.convention == "awq":
            width = max(width, F32(1e-5))
        last = 2**rule.bits - 1
        step = _held(float(width / F32(last)), rule.dtype, last)
        return None if step is None else (step, int(min(max(-_round(float(F32(low) / F32(step))), 0), last)))
    if isinstance(rule, AbsMean):
        step = _held(float(F32(math.fsum(abs(v) for v in block) / len(block))), rule.dtype, 1)
    else:
        step = _held(float(F32(max(amax, float(F32(rule.least)))) / F32(rule.divisor)), rule.dtype, rule.top)
    return None if step is None else (step, 0)


def _exponent(rule: E8M0, amax: float) -> int:
    """Return the shared exponent before clipping; the rule ``even`` sees subnormal numbers with their fixed spacing."""
    if rule.rule == "rceil":
        amax = float(F32(amax) / F32(rule.top))
    if amax == 0:
        return -127 - (0 if rule.rule == "rceil" else rule.emax)
    floor = max(math.frexp(amax)[1] - 1, -127)
    unit = Fraction(2) ** max(floor, -126)
    if rule.rule == "even":
        rounded = Fraction(amax) + unit / 2 ** (rule.mantissa_bits + 1)
        return floor + (rounded >= (2 * unit if floor >= -126 else unit)) - rule.emax
    if rule.rule == "floor":
        return floor - rule.emax
    exact = Fraction(amax) == Fraction(2) ** floor if floor >= -126 else amax <= 2.0**-127
    return floor + (not exact) - (0 if rule.rule == "rceil" else rule.emax)


def _nearest(fmt: Format, x: float, zero: int, codebook: list[float] | None) -> float:
    """Return what the code of ``x`` means, in steps, less the zero point."""
    element = fmt.element
    if isinstance(element, IntElement):
        return min(max(_round(x) + zero, element.low), element.high) - zero
    if isinstance(element, FloatElement):
        magnitude = _in_table(_magnitudes(element.mantissa_bits, element.bias, element.largest), abs(x))
        return math.copysign(magnitude, x) if magnitude else 0.0
    assert isinstance(element, CodebookElement)
    values = codebook or [float(v) for v in element.values()]
    bounds = [float((F32(a) + F32(b)) / F32(2)) for a, b in pairwise(values)]
    return values[sum(bound < x for bound in bounds)]


def _round(x: float) -> float:
    return round(x) if math.isfinite(x) else x


@cache
def _magnitudes(mantissa_bits: int, bias: int, largest: float) -> list[float]:
    """Return all magnitudes of a small float, by their code."""
    found = [f * 2.0 ** (1 - bias - mantissa_bits) for f in range(2**mantissa_bits)]
    exponent = 1 - bias
    while True:
        for f in range(2**mantissa_bits):
            value = (1 + f / 2**mantissa_bits) * 2.0**exponent
            if value > largest:
                return found
            found.append(value)
        exponent += 1


def _in_table(table: list[float], x: float) -> float:
    """Return the entry nearest to ``x``, of two equally near ones that with the even place; the last one beyond it."""
    if x >= table[-1]:
        return table[-1]
    above = bisect.bisect_right(table, x)
    low, high = table[above - 1], table[above]
    if x - low == high - x:
        return low if (above - 1) % 2 == 0 else high
    return low if x - low < high - x else high


def _matrix_scale(fmt: Format, values: np.ndarray) -> float:
    finite = np.abs(values[np.isfinite(values)])
    amax = finite.max() if finite.size else F32(0)
    return max(float(F32(amax) / F32(6.0 * 448.0)), 2.0**-126)


def _held(step: float, dtype: str, top: float) -> float | None:
    """Return ``step`` as stored, or nothing if it cannot be."""
    stored = max(_stored(step, dtype), SMALLEST[dtype])
    return stored if math.isfinite(stored) and math.isfinite(F32(stored) * F32(top)) else None


def _stored(value: float, dtype: str) -> float:
    return float(torch.tensor(F32(value)).to(getattr(torch, dtype)))
