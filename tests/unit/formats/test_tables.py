"""The numbers that codes stand for, scales of single blocks, and bits: facts of the formats' sources."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

import slow_formats
from bitlaw.formats.elements import CodebookElement, TernaryElement
from bitlaw.formats.grammar import known_names, parse
from bitlaw.formats.quantile import CHUNK, SAMPLE, sample_step


def values(name: str) -> list[float]:
    element = parse(name).element
    assert isinstance(element, CodebookElement)
    return [float(v) for v in element.values()]


def decoded(name: str) -> list[float]:
    """All magnitudes of a small float, by code."""
    element = parse(name).element
    count = 1 << element.bits - 1
    return [float(v) for v in element.decode(torch.arange(count, dtype=torch.uint8), {})]


def test_float_codes_are_those_of_bitsandbytes() -> None:
    half = [0, 0.125, 1, 1.5, 2, 3, 4, 6]
    assert values("fp4_e2m1_b64") == pytest.approx([-v / 6 for v in half[:0:-1]] + [v / 6 for v in half])
    assert values("fp3_e2m0_b64") == [-1, -0.5, -0.25, 0, 0.25, 0.5, 1]
    assert values("fp2_e1m0_b64") == [-1, 0, 1]


def test_dynamic_codes_have_no_minus_one() -> None:
    assert values("dyn2_b64") == pytest.approx([-0.55, 0, 0.55, 1])
    assert values("dyn3_b64") == pytest.approx([-0.775, -0.325, -0.055, 0, 0.055, 0.325, 0.775, 1])
    assert len(values("dyn8_b64")) == 256 and values("dyn8_b64")[0] == pytest.approx(-0.99297, abs=1e-5)


def test_fp4_of_bitsandbytes_is_not_e2m1() -> None:
    assert values("bnbfp4_b64")[7:] == pytest.approx([0, 1 / 192, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1])


@pytest.mark.parametrize("name", [n for n in known_names() if n.endswith("_b64") and parse(n).kind != "quantile"])
def test_codes_rise_and_fit_into_their_bits(name: str) -> None:
    element = parse(name).element
    if isinstance(element, CodebookElement):
        found = values(name)
        assert all(a < b for a, b in pairwise(found))
        assert len(found) <= 1 << element.bits and 0.0 in found and found[-1] == 1.0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mxfp4_e2m1_b32", [0, 0.5, 1, 1.5, 2, 3, 4, 6]),
        ("mxfp6_e3m2_b32", [0, 0.0625, 0.125, 0.1875, 0.25, 0.3125]),
        ("mxfp6_e2m3_b32", [0, 0.125, 0.25, 0.375, 0.5, 0.625]),
    ],
)
def test_small_floats_are_those_of_ocp(name: str, expected: list[float]) -> None:
    assert decoded(name)[: len(expected)] == expected


def test_largest_and_smallest_numbers_are_those_of_ocp() -> None:
    """OCP MX v1.0, tables 2 to 5."""
    assert (max(decoded("mxfp6_e2m3_b32")), max(decoded("mxfp6_e3m2_b32"))) == (7.5, 28.0)
    e4m3, e5m2 = decoded("mxfp8_e4m3_b32"), decoded("mxfp8_e5m2_b32")
    assert (e4m3[1], e4m3[8], e4m3[126]) == (2.0**-9, 2.0**-6, 448.0)
    assert (e5m2[1], e5m2[4], e5m2[123]) == (2.0**-16, 2.0**-14, 57344.0)


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_quantile_code_is_made_of_quantiles(bits: int) -> None:
    w = torch.randn(20, 101, generator=torch.Generator().manual_seed(bits)) ** 3
    assert w.numel() <= CHUNK
    codebook = parse(f"quantile{bits}_b64").shared(w)["codebook"]
    count = 2**bits - 1
    levels = torch.linspace(1 / (2 * count), 1 - 1 / (2 * count), count, dtype=torch.float64)
    quantiles = torch.quantile(w.double().flatten(), levels)
    expected = torch.cat([quantiles, torch.zeros(1, dtype=torch.float64)]).sort().values
    assert torch.allclose(codebook.double(), expected / expected.abs().max(), atol=1e-6)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("shape", [(1, 2049), (50, 101), (300, 1000), (4, 32768)])
def test_the_quantile_code_of_a_large_matrix_is_the_slow_one(shape: tuple[int, int], bits: int) -> None:
    w = torch.randn(shape, generator=torch.Generator().manual_seed(bits)) ** 3
    w[0, ::50], w[0, 1::50] = torch.nan, -torch.inf
    for each in (w, w * 1e-40, w.clamp(-3, 3) * 1e38, w.T.contiguous().T, w.bfloat16()):
        codebook = parse(f"quantile{bits}_b64").shared(each)["codebook"]
        assert codebook.tolist() == slow_formats.quantile_codebook(bits, each)


def test_chunks_without_a_finite_weight_do_not_count() -> None:
    w = torch.randn(2, CHUNK, generator=torch.Generator().manual_seed(0))
    w.view(-1)[1::2] = torch.nan  # the second of two chunks
    codebook = parse("quantile4_b64").shared(w)["codebook"]
    assert torch.equal(codebook, parse("quantile4_b64").shared(w.view(-1)[::2].view(1, -1))["codebook"])


def test_quantiles_of_a_sample_in_chunks_are_near_those_of_all_weights() -> None:
    w = torch.randn(512, 4096, generator=torch.Generator().manual_seed(0))
    codebook = parse("quantile4_b64").shared(w)["codebook"].double()
    levels = torch.linspace(1 / 30, 29 / 30, 15, dtype=torch.float64)
    exact = torch.distributions.Normal(0.0, 1.0).icdf(levels)
    expected = torch.cat([exact, torch.zeros(1)]).sort().values / exact.abs().max()
    assert torch.allclose(codebook, expected, atol=0.01)


@pytest.mark.parametrize("shape", [(8192, 16384), (4096, 4096), (300, 1000), (1 << 20, 1), (7, 3 * 5 * 7 * 11 * 999)])
def test_the_sample_takes_all_columns_alike(shape: tuple[int, int]) -> None:
    step = sample_step(shape)
    places = torch.arange(0, shape[0] * shape[1], step)
    assert SAMPLE / 2 < len(places) <= SAMPLE
    columns = min(shape[1], len(places))
    assert len((places[:columns] % shape[1]).unique()) == columns
    assert sample_step((16, 4096)) == 1


def test_bad_weights_do_not_count_and_zeros_make_zeros() -> None:
    assert parse("quantile3_b64").shared(torch.zeros(3, 4))["codebook"].tolist() == [0.0] * 8
    assert parse("quantile3_b64").shared(torch.full((3, 4), torch.nan))["codebook"].tolist() == [0.0] * 8


def test_scale_rules_on_single_blocks() -> None:
    """E2M1: largest 6, largest power of two 4. Exponents by rule for a block whose largest magnitude is ``amax``."""
    rules = ("", "_even", "_rceil", "_ceil")
    expected = {4.0: (0, 0, 0, 0), 5.9: (0, 0, 0, 1), 6.0: (0, 0, 0, 1), 6.5: (0, 0, 1, 1), 7.0: (0, 1, 1, 1)}
    for amax, exponents in expected.items():
        w = torch.tensor([[amax, 0.1]])
        found = [int(parse(f"mxfp4_e2m1_b32{rule}").fit(w).block["scale"]) - 127 for rule in rules]
        assert tuple(found) == exponents, amax
    assert parse("mxfp4_e2m1_b32").fake_quantize(torch.tensor([[7.9, 1.0]])).tolist() == [[6.0, 1.0]]
    assert parse("mxfp4_e2m1_b32_even").fake_quantize(torch.tensor([[7.9, 1.0]])).tolist() == [[8.0, 1.0]]


def test_conventions_of_group_integers_differ_where_they_say() -> None:
    one_sided = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    gptq, awq = (parse(f"int4_row_{word}_sf32") for word in ("asym", "awq"))
    assert torch.allclose(gptq.fake_quantize(one_sided), one_sided, atol=0.14)
    assert awq.fake_quantize(one_sided).amax() < 3.01  # the range 1..4 has no zero, and the zero point is clipped
    assert parse("int4_row_awqsym_sf32").fake_quantize(one_sided).amax() == 4.0
    # The largest magnitude of a symmetric group is a tie: -7.5 steps round to -8, +7.5 are clipped to 7.
    tie = torch.tensor([[3.75, 0.0], [-3.75, 0.0]])
    assert parse("int4_row_sym_sf32").fake_quantize(tie)[:, 0].tolist() == [3.5, -4.0]
    wide = torch.tensor([[-0.5, 1.0, 0.25, 0.0]])
    assert torch.equal(gptq.fake_quantize(wide), awq.fake_quantize(wide))
    assert gptq.fake_quantize(wide)[0, 3] == 0.0


def test_a_bad_block_does_not_touch_the_others_of_an_nvfp4_matrix() -> None:
    w = 0.02 * torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    clean = parse("nvfp4_b16").fake_quantize(w)
    for bad in (torch.inf, -torch.inf, torch.nan):
        spoiled = w.clone()
        spoiled[1, 20] = bad
        q = parse("nvfp4_b16").fake_quantize(spoiled)
        assert int(q.isnan().sum()) == 16 and bool(q[1, 16:32].isnan().all())
        assert torch.equal(q[~q.isnan()], clean[~q.isnan()])


def test_ternary_codes_take_a_fifth_of_a_byte() -> None:
    element = parse("ternary_row").element
    assert isinstance(element, TernaryElement)
    for count in (1, 4, 5, 6, 243, 1000):
        codes = torch.randint(-1, 2, (count,), dtype=torch.int8)
        packed = element.pack(codes)
        assert 8 * len(packed) == element.stored_bits(count) and len(packed) == -(-count // 5)
        assert torch.equal(element.unpack(packed, count), codes)
    with pytest.raises(ValueError, match="7 ternary codes take 2 bytes"):
        element.unpack(torch.zeros(3, dtype=torch.uint8), 7)
    assert parse("ternary_none").effective_bits((1000, 1000)) == 1.6 + 16e-6


def test_bits_count_zero_points_means_and_codebooks() -> None:
    assert parse("int4_g128_asym").effective_bits((32, 256)) == 4 + (16 + 4) / 128
    assert parse("int4_g128_sym").effective_bits((32, 256)) == 4 + 16 / 128
    assert parse("int4_b64_centered").effective_bits((32, 128)) == 4 + 32 / 64
    assert parse("quantile4_b64").effective_bits((32, 128)) == 4 + 16 / 64 + 16 * 32 / (32 * 128)
    assert parse("nf4_b64").effective_bits((32, 128)) == 4.5
    assert parse("nvfp4_b16").effective_bits((32, 128)) == 4.5 + 32 / (32 * 128)
    assert parse("mxfp6_e2m3_b32").effective_bits((32, 128)) == 6.25
