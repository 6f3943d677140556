"""What formats do to weights: obvious references, properties, and the edges that the docstrings promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

import slow_formats
from bitlaw.formats import base
from bitlaw.formats.base import Format, Quantized
from bitlaw.formats.elements import CodebookElement, FloatElement, IntElement
from bitlaw.formats.grammar import known_names, parse
from bitlaw.formats.scales import E8M0

torch.set_num_threads(1)

INT = ["int2_b16", "int3_row", "int4_b32", "int5_none", "int8_b16", "int6_b64_sbf16"]
GROUP = ["int4_g16_sym", "int3_row_sym_sf32", "int4_g32_asym", "int2_none_asym_sbf16", "int8_g16_asym_sf32"]
AWQ = ["int4_g16_awq_sf32", "int3_row_awq", "int4_g32_awqsym"]
MX = ["mxint2_b16", "mxint3_row", "mxint4_b32", "mxint5_none", "mxint8_b16"]
MX_RULES = [
    f"mxint{bits}_b16_{rule}" for bits, rule in [(2, "even"), (4, "even"), (4, "rceil"), (3, "ceil"), (8, "even")]
]
MXFP = ["mxfp4_e2m1_b32", "mxfp6_e2m3_b16", "mxfp6_e3m2_row", "mxfp8_e4m3_b16", "mxfp8_e5m2_none"]
MXFP += [f"{name}_{rule}" for name, rule in zip(MXFP, ("even", "rceil", "ceil", "even", "rceil"), strict=True)]
FLOAT = ["nvfp4_b16", *MXFP]
CODEBOOKS = ["fp3_e2m0_b16", "fp4_e2m1_row", "fp8_e4m3_b32_sf32", "fp2_e1m0_b16", "dyn4_b16", "dyn2_row", "dyn8_none"]
CODEBOOKS += ["quantile2_b16", "quantile4_b32", "quantile8_row_sf32", "nf4_b16", "bnbfp4_b64_sf16"]
CENTERED = ["int4_b16_centered", "fp4_e2m1_b32_sf32_centered", "quantile4_b16_sbf16_centered", "nf4_row_centered"]
ODD = [*INT, "int7_b16_sf32", *MX, *MX_RULES, *FLOAT]
NAMES = [*ODD, *GROUP, *AWQ, *CODEBOOKS, *CENTERED, "ternary_b16", "ternary_none_sf32"]


def same(a: Tensor, b: Tensor) -> bool:
    """Equal bit for bit, NaN included; its payload and the sign of zero in ``b`` do not matter."""
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def identical(a: Tensor, b: Tensor) -> bool:
    """Equal bit for bit, signs of zeros too; which NaN a NaN is does not matter."""
    number = ~a.isnan()
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a[number].view(torch.int32), b[number].view(torch.int32))


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
    assert same(fmt.fake_quantize(w), slow_formats.fake_quantize(fmt, w))


@pytest.mark.parametrize("name", known_names()[::29])
def test_a_sample_of_all_formats_equals_the_slow_reference(name: str) -> None:
    fmt, w = parse(name), gaussian(2, 150)
    assert same(fmt.fake_quantize(w), slow_formats.fake_quantize(fmt, w))


# Properties.

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
moderate = st.floats(min_value=-4.0, max_value=4.0, width=32).map(lambda v: v if abs(v) > 2.0**-10 else 0.0)
shapes = st.tuples(st.integers(1, 3), st.integers(1, 40))


def matrices(elements: st.SearchStrategy[float]) -> st.SearchStrategy[Tensor]:
    return shapes.flatmap(lambda shape: arrays(np.float32, shape, elements=elements)).map(torch.from_numpy)


formats = st.sampled_from(NAMES).map(parse)
odd = st.sampled_from(ODD).map(parse)
quick = settings(max_examples=100, deadline=None)


@quick
@given(formats, matrices(st.floats(width=32)))
def test_fake_quantize_is_dequantize_of_quantize_packed_or_not(fmt: Format, w: Tensor) -> None:
    q = fmt.quantize(w)
    fake = fmt.fake_quantize(w)
    assert identical(fmt.dequantize(q), fake)
    stored = q.tensors()
    back = Quantized.from_tensors(fmt, q.shape, stored)
    assert torch.equal(back.codes, q.codes)
    assert identical(fmt.dequantize(back), fake)
    assert sum(part.nbytes for part in stored.values()) == fmt.stored_bytes(q.shape)
    # Only the last byte of each part that is packed is padded.
    spare = 8 * fmt.stored_bytes(q.shape) - fmt.effective_bits(q.shape) * w.numel()
    assert -1e-6 < spare < 8 * 2


@quick
@given(formats, matrices(finite))
def test_codes_are_among_those_of_the_element(fmt: Format, w: Tensor) -> None:
    codes = fmt.quantize(w).codes.int()
    assert int(codes.max()) < (1 << fmt.bits - 1 if fmt.element.signed else 1 << fmt.bits)
    assert int(codes.min()) >= (-(1 << fmt.bits - 1) if fmt.element.signed else 0)


IDEMPOTENT = [name for name in [*INT, *MX, *FLOAT, "fp4_e2m1_row", "nf4_b16", "bnbfp4_b64_sf16"] if "ceil" not in name]


@quick
@given(st.sampled_from(IDEMPOTENT).map(parse), matrices(moderate))
def test_idempotent(fmt: Format, w: Tensor) -> None:
    once = fmt.fake_quantize(w)
    again = fmt.fake_quantize(once)
    if isinstance(fmt.rule, E8M0):
        # A block whose largest magnitude was clipped, or rounded up to the next power of two, has another scale.
        kept = parse_scale(fmt, w) == parse_scale(fmt, once)
        once, again = once[kept], again[kept]
    if fmt.name == "nvfp4_b16":
        assert torch.allclose(again, once, rtol=1e-5)  # the matrix's scale is a float32 quotient
    else:
        assert torch.equal(again, once)


def parse_scale(fmt: Format, w: Tensor) -> Tensor:
    """Return the stored scale of each weight's block."""
    scale = fmt.fit(w).block["scale"].int()
    rows, columns = w.shape
    return scale.repeat_interleave(fmt.width(columns), 1)[:, :columns].expand(rows, columns)


@quick
@given(odd, matrices(finite))
def test_odd(fmt: Format, w: Tensor) -> None:
    assert same(fmt.fake_quantize(-w), -fmt.fake_quantize(w))


@quick
@given(st.sampled_from([*MX, *MX_RULES, *FLOAT[1:]]).map(parse), matrices(moderate), st.integers(-100, 100))
def test_mx_commutes_with_powers_of_two(fmt: Format, w: Tensor, n: int) -> None:
    factor = 2.0**n
    assert torch.equal(fmt.fake_quantize(w * factor), fmt.fake_quantize(w) * factor)


@quick
@given(formats, st.lists(finite, min_size=1, max_size=16))
def test_monotone_inside_a_block(fmt: Format, values: list[float]) -> None:
    w = torch.tensor([sorted(values)])
    q = fmt.fake_quantize(w)
    assume(not q.isnan().any())
    assert bool((q.diff() >= 0).all())
    if not isinstance(fmt.element, FloatElement):  # whose codes are sign and magnitude
        assert bool((fmt.quantize(w).codes.int().diff() >= 0).all())


@quick
@given(st.sampled_from([*NAMES[: len(NAMES) - 2]]).map(parse), matrices(finite))
@example(parse("int8_b16"), gaussian() * 1e-6)
def test_no_code_is_nearer_unless_by_rounding(fmt: Format, w: Tensor) -> None:
    """Every code of the block, decoded: none is nearer to the weight than the one chosen, but for float32's slack."""
    assume(not fmt.fake_quantize(w).isnan().any())
    q = fmt.quantize(w)
    chosen = (fmt.dequantize(q).double() - w.double()).abs()
    dtype = torch.int8 if fmt.element.signed else torch.uint8
    low, high = (-(1 << fmt.bits - 1), 1 << fmt.bits - 1) if fmt.element.signed else (0, 1 << fmt.bits)
    if isinstance(fmt.element, IntElement):
        low, high = fmt.element.low, fmt.element.high + 1
    best = torch.full_like(chosen, math.inf)
    for code in range(low, high):
        if isinstance(fmt.element, FloatElement) and not representable(fmt.element, code):
            continue
        if isinstance(fmt.element, CodebookElement) and code >= len(fmt.element.table(q.scales.shared, w)):
            continue
        every = Quantized(fmt, torch.full(w.shape, code, dtype=dtype), q.scales)
        best = torch.minimum(best, (fmt.dequantize(every).double() - w.double()).abs())
    step = fmt.dequantize(Quantized(fmt, q.codes, q.scales)).double().abs()
    slack = (w.double().abs() + step + chosen) * 2.0**-20 + 2.0**-148
    assert bool((chosen <= best + slack).all())


def representable(element: FloatElement, code: int) -> bool:
    value = abs(float(element.decode(torch.tensor([code], dtype=torch.uint8), {})))
    return value <= element.top


@quick
@given(
    st.sampled_from(
        ["int4_b16", "mxint4_b16", "int4_g16_asym", "mxfp4_e2m1_b16", "fp4_e2m1_b16", "int4_b16_centered"]
    ).map(parse),
    st.integers(0, 2),
    st.integers(0, 2),
    finite,
)
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
