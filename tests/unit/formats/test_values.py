"""What formats do to weights: obvious references, properties, and the edges that the docstrings promise."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from bitlaw.formats import base
from bitlaw.formats.base import Format, Quantized
from bitlaw.formats.grammar import known_names, parse
from bitlaw.formats.integer import IntFormat
from bitlaw.formats.mxint import MxIntFormat

torch.set_num_threads(1)

INT = ["int2_b16", "int3_row", "int4_b32", "int5_none", "int8_b16", "int6_b64_sbf16"]
MX = ["mxint2_b16", "mxint3_row", "mxint4_b32", "mxint5_none", "mxint8_b16"]
NAMES = [*INT, "int7_b16_sf32", *MX]


# Slow references: one weight at a time, numpy scalars and exact fractions.


def blocks_of(fmt: Format, w: np.ndarray) -> list[list[tuple[int, int]]]:
    rows, columns = w.shape
    if fmt.block == "none":
        return [[(i, j) for i in range(rows) for j in range(columns)]]
    width = columns if fmt.block == "row" else fmt.block
    starts = range(0, columns, width)
    return [[(i, j) for j in range(s, min(s + width, columns))] for i in range(rows) for s in starts]


def slow_int(fmt: IntFormat, block: list[np.float32]) -> list[float]:
    limit = 2 ** (fmt.bits - 1) - 1
    if not all(np.isfinite(block)):
        return [math.nan] * len(block)
    step32 = np.float32(max(abs(v) for v in block)) / np.float32(limit)
    if fmt.scale_dtype == "float16":
        with np.errstate(over="ignore"):
            step = float(np.float16(step32))
        smallest = 2.0**-24
    elif fmt.scale_dtype == "bfloat16":
        step, smallest = float(torch.tensor(step32).bfloat16()), 2.0**-133
    else:
        step, smallest = float(step32), 2.0**-149
    step = max(step, smallest)
    if limit * step > np.finfo(np.float32).max:
        return [math.nan] * len(block)
    codes = [min(max(round(float(v / np.float32(step))), -limit), limit) for v in block]
    return [float(np.float32(code) * np.float32(step)) for code in codes]


def slow_mxint(fmt: MxIntFormat, block: list[np.float32]) -> list[float]:
    limit = 2 ** (fmt.bits - 1) - 1
    if not all(np.isfinite(block)):
        return [math.nan] * len(block)
    amax = max(abs(float(v)) for v in block)
    exponent = max(math.frexp(amax)[1] - 1, -127) if amax else -127
    step = Fraction(2) ** (exponent - fmt.bits + 2)
    codes = [min(max(round(Fraction(float(v)) / step), -limit), limit) for v in block]
    return [float(code * step) for code in codes]


def slow(fmt: Format, w: Tensor) -> Tensor:
    values = w.float().numpy()
    result = np.empty_like(values)
    for places in blocks_of(fmt, values):
        block = [values[place] for place in places]
        out = slow_int(fmt, block) if isinstance(fmt, IntFormat) else slow_mxint(fmt, block)  # type: ignore[arg-type]
        for place, value in zip(places, out, strict=True):
            result[place] = value
    return torch.from_numpy(result)


def same(a: Tensor, b: Tensor) -> bool:
    """Equal bit for bit, NaN included; its payload and the sign of zero in ``b`` do not matter."""
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def gaussian(rows: int = 6, columns: int = 77, seed: int = 0) -> Tensor:
    return 0.02 * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def ties() -> Tensor:
    """Multiples of half a step, for every width: amax 127 or 128 with halves."""
    steps = torch.arange(-256, 257).float() / 2
    return torch.cat([steps * 2.0**-n for n in range(9)]).view(-1, 27)


EDGES = {
    "gaussian": gaussian(),
    "ties": ties(),
    "powers of two": 2.0 ** torch.arange(-60, 60).float().view(4, 30),
    "below powers of two": torch.nextafter(2.0 ** torch.arange(-60, 60).float(), torch.tensor(0.0)).view(4, 30),
    "float16 subnormal steps": gaussian() * 1e-5,
    "below float16": gaussian() * 1e-9,
    "float32 subnormals": gaussian() * 1e-38,
    "smallest": torch.full((2, 40), 2.0**-149),
    "float16 overflow": gaussian() * 1e8,
    "at float16's border": torch.tensor([[65504.0, 65519.0], [65520.0, 65536.0]]) * 7,
    "1e38": torch.tensor([[1e38, -3e38, 1.0, 0.0]] * 3),
    "largest": torch.full((2, 20), torch.finfo(torch.float32).max),
    "zeros": torch.zeros(3, 40),
    "negative zeros": -torch.zeros(3, 40),
    "constant": torch.full((2, 33), 0.25),
    "one weight": torch.tensor([[-0.3]]),
    "nan": torch.where(torch.rand(6, 77, generator=torch.Generator().manual_seed(3)) < 0.01, math.nan, gaussian()),
    "inf": torch.where(torch.rand(6, 77, generator=torch.Generator().manual_seed(4)) < 0.01, -math.inf, gaussian()),
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_slow_reference(name: str, edge: str) -> None:
    fmt, w = parse(name), EDGES[edge]
    assert same(fmt.fake_quantize(w), slow(fmt, w))


@pytest.mark.parametrize("name", known_names())
def test_all_formats_equal_the_slow_reference(name: str) -> None:
    fmt, w = parse(name), gaussian(2, 150)
    assert same(fmt.fake_quantize(w), slow(fmt, w))


# Properties.

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
moderate = st.floats(min_value=-4.0, max_value=4.0, width=32).map(lambda v: v if abs(v) > 2.0**-10 else 0.0)
shapes = st.tuples(st.integers(1, 3), st.integers(1, 40))


def matrices(elements: st.SearchStrategy[float]) -> st.SearchStrategy[Tensor]:
    return shapes.flatmap(lambda shape: arrays(np.float32, shape, elements=elements)).map(torch.from_numpy)


formats = st.sampled_from(NAMES).map(parse)
quick = settings(max_examples=60, deadline=None)


@quick
@given(formats, matrices(st.floats(width=32)))
def test_fake_quantize_is_dequantize_of_quantize_packed_or_not(fmt: Format, w: Tensor) -> None:
    q = fmt.quantize(w)
    fake = fmt.fake_quantize(w)
    assert torch.equal(fmt.dequantize(q).view(torch.int32), fake.view(torch.int32))
    stored = q.tensors()
    back = Quantized.from_tensors(fmt, q.shape, stored)
    assert torch.equal(back.codes, q.codes)
    assert torch.equal(fmt.dequantize(back).view(torch.int32), fake.view(torch.int32))
    spare = 8 * sum(part.nbytes for part in stored.values()) - fmt.effective_bits(q.shape) * w.numel()
    assert -1e-6 < spare < 8
    limit = 2 ** (fmt.bits - 1) - 1
    assert int(q.codes.abs().max()) <= limit


@quick
@given(st.sampled_from(INT + MX).map(parse), matrices(moderate))
def test_idempotent(fmt: Format, w: Tensor) -> None:
    once = fmt.fake_quantize(w)
    assert torch.equal(fmt.fake_quantize(once), once)


@quick
@given(formats, matrices(finite))
def test_odd(fmt: Format, w: Tensor) -> None:
    assert same(fmt.fake_quantize(-w), -fmt.fake_quantize(w))


@quick
@given(st.sampled_from(MX).map(parse), matrices(moderate), st.integers(-100, 100))
def test_mx_commutes_with_powers_of_two(fmt: Format, w: Tensor, n: int) -> None:
    factor = 2.0**n
    assert torch.equal(fmt.fake_quantize(w * factor), fmt.fake_quantize(w) * factor)


@quick
@given(formats, st.lists(finite, min_size=1, max_size=16))
def test_monotone_inside_a_block(fmt: Format, values: list[float]) -> None:
    q = fmt.fake_quantize(torch.tensor([sorted(values)]))
    assume(not q.isnan().any())
    assert bool((q.diff() >= 0).all())


@quick
@given(formats, matrices(finite))
@example(parse("int8_b16"), gaussian() * 1e-6)
def test_at_most_half_a_step_off_unless_clipped(fmt: Format, w: Tensor) -> None:
    limit = 2 ** (fmt.bits - 1) - 1
    ones = Quantized(fmt, torch.ones(w.shape, dtype=torch.int8), fmt.fit(w))
    step = fmt.dequantize(ones).double()
    q = fmt.fake_quantize(w).double()
    assume(not q.isnan().any())
    # The largest slack is float32's rounding of w / step, and of a product with a float32 step.
    top = (limit * step).float().double()  # exact for 16-bit steps and powers of two
    inside = w.double().abs() <= top
    assert bool((((w.double() - q).abs() <= step * (0.5 + limit * 2.0**-23)) | ~inside).all())
    assert torch.equal(q.abs()[~inside], top[~inside])
    # A clipped weight is the price of the scale's rounding (int), or within a step of the top (MX, floor rule).
    loss = 2.0**-8 * limit if isinstance(fmt, IntFormat) else 1.0
    assert bool((w.double().abs() <= (limit + loss) * step).all())


@quick
@given(st.sampled_from(["int4_b16", "mxint4_b16"]).map(parse), st.integers(0, 2), st.integers(0, 2), finite)
def test_blocks_do_not_see_each_other(fmt: Format, row: int, block: int, value: float) -> None:
    w = gaussian(3, 40)
    changed = w.clone()
    changed[row, block * 16] = value
    inside = torch.zeros(w.shape, dtype=torch.bool)
    inside[row, block * 16 : block * 16 + 16] = True
    assert torch.equal(fmt.fake_quantize(w)[~inside], fmt.fake_quantize(changed)[~inside])


# Single promises.


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("name", "count"), [("int4_b16", 16), ("mxint8_b16", 16), ("int8_row", 40), ("mxint4_none", 120)]
)
def test_a_bad_weight_spoils_its_whole_block_and_no_other(name: str, count: int, bad: float) -> None:
    w = gaussian(3, 40)
    w[1, 17] = bad
    assert int(parse(name).fake_quantize(w).isnan().sum()) == count


def test_weights_beyond_a_float16_scale_are_nan_and_within_wider_ones_fine() -> None:
    w = torch.tensor([[1e38, -2e38, 5e37]])
    assert parse("int4_row").fake_quantize(w).isnan().all()
    for name in ("int8_row_sbf16", "int8_row_sf32", "mxint8_row"):
        assert torch.allclose(parse(name).fake_quantize(w), w, rtol=0.02)
    assert parse("int4_row").fake_quantize(torch.tensor([[65504.0 * 7]])).item() == 65504.0 * 7


def test_tiny_weights_are_rounded_not_divided_by_zero() -> None:
    w = torch.tensor([[1e-9, 2.0**-24, -(2.0**-23)]])
    assert parse("int4_row").fake_quantize(w).tolist() == [[0.0, 2.0**-24, -(2.0**-23)]]


def test_zero_blocks_are_positive_zeros() -> None:
    for name in NAMES:
        q = parse(name).fake_quantize(-torch.zeros(2, 40))
        assert torch.equal(q.view(torch.int32), torch.zeros(2, 40, dtype=torch.int32))


def test_mx_scale_is_read_from_the_bits() -> None:
    below_eight = torch.nextafter(torch.tensor([[8.0]]), torch.tensor(0.0))
    assert parse("mxint4_b32").fake_quantize(below_eight).item() == 7.0
    assert parse("mxint4_b32").fit(below_eight).block["scale"].item() == 127 + 2
    assert parse("mxint4_b32").fake_quantize(torch.full((1, 32), 0.25)).unique().item() == 0.25


def test_mxint8_is_the_ocp_format() -> None:
    """OCP MX v1.0, 5.3.4: INT8 with an implied scale of 2^-6, here without the asymmetric -2."""
    q = parse("mxint8_b32").quantize(torch.tensor([[1.984375, -1.99, 0.015625, 0.0234375]]))
    assert q.codes.tolist() == [[127, -127, 1, 2]]
    assert q.scales.block["scale"].item() == 127


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_taken_as_float32(name: str, dtype: torch.dtype) -> None:
    fmt, w = parse(name), gaussian().to(dtype)
    q = fmt.fake_quantize(w)
    assert q.dtype == torch.float32
    assert torch.equal(q, fmt.fake_quantize(w.float()))
    assert torch.equal(fmt.fake_quantize(w, out=torch.empty_like(w)), q.to(dtype))


@pytest.mark.parametrize("name", NAMES)
def test_strides_slabs_and_gradients_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fmt, w = parse(name), gaussian(40, 50)
    expected, codes = fmt.fake_quantize(w), fmt.quantize(w).codes
    assert torch.equal(fmt.fake_quantize(w.T.contiguous().T), expected)
    assert torch.equal(fmt.fake_quantize(torch.stack([w, w], -1)[..., 0]), expected)
    parameter = torch.nn.Parameter(w.clone())
    assert torch.equal(fmt.fake_quantize(parameter), expected)
    monkeypatch.setattr(base, "_SLAB", 150)
    assert torch.equal(fmt.fake_quantize(w), expected)
    assert torch.equal(fmt.quantize(w.T.contiguous().T).codes, codes)
    assert torch.equal(fmt.dequantize(fmt.quantize(w)), expected)
    assert fmt.fake_quantize(w, out=w) is w
    assert torch.equal(w, expected)


def test_effective_bits_count_every_scale() -> None:
    assert parse("int4_b64").effective_bits((32, 128)) == 4.25
    assert parse("int4_b64_sf32").effective_bits((32, 128)) == 4.5
    assert parse("mxint4_b32").effective_bits((32, 128)) == 4.25
    assert parse("mxint4_b32").effective_bits((1, 33)) == 4 + 16 / 33
    assert parse("int4_row").effective_bits((10, 100)) == 4.16
    assert parse("int4_none").effective_bits((10, 100)) == 4.016
    assert parse("int4_b64").effective_bits((2, 8)) == 4 + 16 / 8


def test_what_is_no_matrix_of_weights_is_an_error() -> None:
    fmt = parse("int4_b64")
    with pytest.raises(TypeError, match="int64"):
        fmt.quantize(torch.ones(2, 2, dtype=torch.int64))
    for shape in [(4,), (0, 4), (4, 0), (2, 2, 2)]:
        with pytest.raises(ValueError, match="matrix"):
            fmt.fake_quantize(torch.ones(shape))
    with pytest.raises(ValueError, match="out is"):
        fmt.fake_quantize(torch.ones(2, 4), out=torch.ones(2, 5))
    stored = fmt.quantize(torch.ones(2, 4)).tensors()
    with pytest.raises(ValueError, match="take 8 bytes"):
        Quantized.from_tensors(fmt, (4, 4), stored)
    with pytest.raises(KeyError):
        Quantized.from_tensors(fmt, (2, 4), {"codes": stored["codes"]})
