"""Where another package means something else, or is wrong: each difference on the smallest input that has it.

If one of these fails after an update, the package has changed, and the input can be compared in
``test_parity_formats`` (or bitlaw's convention thought over).
"""

from __future__ import annotations

import math

import oracles
import pytest
import torch
from torch import Tensor

from bitlaw.formats.grammar import parse

torch.set_num_threads(1)

INF, NAN = math.inf, math.nan


def block(*values: float, size: int = 32, fill: float = 0.0) -> Tensor:
    """Return one block: ``values``, and ``fill``."""
    return torch.tensor([[*values, *[fill] * (size - len(values))]])


def below(value: float) -> float:
    return math.nextafter(value, 0.0) if value == 0 else torch.nextafter(torch.tensor(value), torch.tensor(0.0)).item()


def ours(name: str, w: Tensor) -> list[float]:
    return _short(parse(name).fake_quantize(w))


def _short(q: Tensor) -> list[float]:
    """Return the one row of ``q`` without the zeros at its end, and NaN as a string, since NaN equals nothing."""
    values = ["nan" if math.isnan(v) else v for v in q[0].tolist()]
    while len(values) > 1 and values[-1] == 0:
        values.pop()
    return values


class TestScalesOfBlocks:
    """How the power of two of a Microscaling block is found."""

    def test_auto_round_and_gguf_take_log2_in_float32(self) -> None:
        w = block(below(8.0))
        assert ours("mxint4_b32", w) == [7.0]  # 2^3 is not reached, so the step is 1 and 7 the largest code
        assert _short(oracles.auto_round_mx(w.clone(), "mxint4", 32)) == [8.0]
        w = block(below(8.0), 0.5)
        assert ours("mxfp4_e2m1_b32", w) == [6.0, 0.5]
        assert _short(oracles.gguf_mxfp4(w)) == [8.0]

    def test_compressed_tensors_rounds_the_largest_of_8_bit_blocks_as_if_it_were_e2m1(self) -> None:
        w = block(1.9)
        assert ours("mxfp8_e4m3_b32_even", w) == [1.75]
        assert _short(oracles.compressed_mx(w, 8)) == [1.875]

    def test_compressed_tensors_has_no_blocks_but_of_32(self) -> None:
        """With others it silently stores the wrong scale: all weights become zero."""
        w = block(0.1, size=64, fill=0.1)
        assert parse("mxfp4_e2m1_b64_even").fake_quantize(w).unique().tolist() == [pytest.approx(0.09375)]
        assert oracles.compressed_mx(w, 4, 64).unique().tolist() == [0.0]

    def test_torchao_divides_by_a_normal_number_and_multiplies_by_less(self) -> None:
        """A block below 2^-126 comes back at half its size."""
        w = block(2.0**-130)
        assert ours("mxfp8_e4m3_b32", w) == [2.0**-130]
        assert _short(oracles.torchao_mx(w, "mxfp8_e4m3", 32)) == [2.0**-131]


class TestRounding:
    """Which way a weight between two codes goes."""

    def test_gguf_rounds_ties_toward_zero(self) -> None:
        w = block(4.0, 0.75, -0.75)
        assert ours("mxfp4_e2m1_b32", w) == [4.0, 1.0, -1.0]
        assert _short(oracles.gguf_mxfp4(w)) == [4.0, 0.5, -0.5]

    def test_torchao_multiplies_by_the_reciprocal_of_an_integers_step(self) -> None:
        """Division, as in GPTQ's own code, gives -23 / (46/7) = -3.5, a tie, the even neighbor of which is -4."""
        step = 46 / 7
        w = block(46.0, -23.0)
        assert ours("int4_b32_sf32", w) == pytest.approx([46.0, -4 * step])
        assert _short(oracles.torchao_sym(w, 4, 32)) == pytest.approx([46.0, -3 * step])

    def test_torchao_multiplies_by_the_reciprocal_of_an_nvfp4_step(self) -> None:
        w = block(12.0, -7.0, size=16)
        assert ours("nvfp4_b16", w) == [12.0, -8.0]
        assert _short(oracles.torchao_nvfp4(w)) == [12.0, -6.0]

    def test_bitsandbytes_multiplies_by_the_reciprocal_of_the_largest(self) -> None:
        """-5/6 is the midpoint of -1 and -2/3 but for the last bit: that of 5 / 6 and of 5 * (1 / 6) differ."""
        w = block(6.0, -5.0)
        assert ours("bnbfp4_b32", w) == [6.0, -4.0]
        assert _short(oracles.bitsandbytes_4bit(w, "fp4", 32)) == [6.0, -6.0]

    def test_compressed_tensors_adds_the_zero_point_before_rounding(self) -> None:
        """The number just below 1.5 less 8 is -6.5 in float32, which is rounded to -6."""
        w = block(15.0, below(1.5))
        assert ours("int4_g32_asym_sf32", w) == [15.0, 1.0]
        assert _short(oracles.compressed_int(w, 4, 32, symmetric=False)) == [15.0, 2.0]

    def test_bitsandbytes_kernel_is_approximate(self) -> None:
        """For float32 on a CPU: zero does not stay zero in the 8-bit dynamic code."""
        w = block(1.0, size=64)
        values = oracles.bitsandbytes_values("dyn8")
        assert 0.0 in values.tolist()
        assert ours("dyn8_b64_sf32", w) == [1.0]
        assert oracles.bitsandbytes_blockwise_kernel(w, values, 64)[0, 1] == pytest.approx(2.125e-5)


class TestOneSidedBlocks:
    """Blocks whose weights have one sign."""

    def test_gptqs_own_code_uses_half_the_codes_of_blocks_without_negative_weights(self) -> None:
        """So does auto-round, which follows it: the step is amax / 15, and the largest code 7."""
        w = block(fill=1.0)
        assert ours("int4_g32_sym_sf32", w) == pytest.approx([14 / 15] * 32)
        assert _short(oracles.auto_round_sym(w.clone(), 4, 32)) == pytest.approx([7 / 15] * 32)
        negative = block(fill=-1.0)
        assert _short(oracles.auto_round_sym(negative.clone(), 4, 32)) == ours("int4_g32_sym_sf32", negative)

    def test_awq_loses_blocks_far_from_zero(self) -> None:
        """bitlaw has both conventions: that of AutoAWQ, and the one whose range includes zero."""
        w = block(fill=0.25)
        assert ours("int4_g32_awq_sf32", w) == pytest.approx([1e-5] * 32)
        assert ours("int4_g32_asym_sf32", w) == [0.25] * 32
        w = block(*[1.0] * 16, *[4.0] * 16)
        assert ours("int4_g32_awq_sf32", w) == pytest.approx([1.0] * 16 + [3.0] * 16)
        assert ours("int4_g32_asym_sf32", w) == pytest.approx([16 / 15] * 16 + [4.0] * 16)


class TestBadWeights:
    """In bitlaw a NaN or an infinity makes its block NaN, and no other."""

    @pytest.mark.parametrize("bad", [NAN, INF])
    def test_ours(self, bad: float) -> None:
        for name in ("mxfp4_e2m1_b32", "nf4_b32", "int4_g32_asym", "int4_g32_sym", "dyn8_b32"):
            assert ours(name, torch.cat([block(bad), block(fill=1.0)], 1))[:33].count("nan") == 32

    def test_torchao_and_bitsandbytes_keep_an_infinity(self) -> None:
        w = block(INF, 1.0)
        assert _short(oracles.torchao_mx(w, "mxfp4_e2m1", 32)) == [INF]
        assert _short(oracles.bitsandbytes_4bit(w, "nf4", 32)) == [INF, *["nan"] * 31]
        assert _short(oracles.torchao_asym(-w, 4, 32)) == [INF] * 32

    @pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
    @pytest.mark.parametrize("bad", [NAN, INF])
    def test_gguf_makes_the_block_zero(self, bad: float) -> None:
        assert not oracles.gguf_mxfp4(block(bad, 1.0)).any()

    def test_bitsandbytes_kernel_makes_a_number_of_a_nan(self) -> None:
        w = block(1.0, NAN, size=64)
        q = oracles.bitsandbytes_blockwise_kernel(w, oracles.bitsandbytes_values("dyn8"), 64)
        assert q[0, :2].tolist() == pytest.approx([1.0, -0.99296874])

    def test_torchao_nvfp4_spoils_the_matrix(self) -> None:
        w = torch.cat([block(NAN, size=16), block(1.0, size=16)], 1)
        assert oracles.torchao_nvfp4(w).isnan().all()
        assert parse("nvfp4_b16").fake_quantize(w)[0, 16:].tolist() == [1.0] + [0.0] * 15


class TestNvfp4Scales:
    def test_torchao_makes_nan_of_zeros(self) -> None:
        w = block(0.0, size=16)
        assert oracles.torchao_nvfp4(w).isnan().all()
        assert ours("nvfp4_b16", w) == [0.0]

    def test_torchao_uses_no_subnormal_scales(self) -> None:
        """Its least scale of a block is 2^-6, ours 2^-9, E4M3's smallest: small blocks keep three more bits."""
        w = torch.cat([block(1.0, size=16), block(2.0**-16 * 1.3, size=16)], 1)
        step = 1 / (448 * 6)
        assert parse("nvfp4_b16").fake_quantize(w)[0, 16].item() == pytest.approx(6 * 5 * 2.0**-9 * step)
        assert oracles.torchao_nvfp4(w)[0, 16].item() == pytest.approx(2.0**-6 * 3 * step)


class TestCodes:
    def test_bitsandbytes_fp4_is_not_the_float_map_of_its_documentation(self) -> None:
        fp4, mapped = oracles.bitsandbytes_4bit_values("fp4"), oracles.bitsandbytes_values("fp4_e2m1")
        assert fp4[fp4 > 0][0].item() == pytest.approx(1 / 192)
        assert mapped[mapped > 0][0].item() == pytest.approx(1 / 48)
        assert parse("bnbfp4_b64").element.values()[8].item() == pytest.approx(1 / 192)
        assert parse("fp4_e2m1_b64").element.values()[8].item() == pytest.approx(1 / 48)

    def test_the_dynamic_code_has_one_but_not_minus_one(self) -> None:
        for bits in range(2, 9):
            values = oracles.bitsandbytes_values(f"dyn{bits}")
            assert values.max() == 1.0
            assert values.min() > -1.0

    def test_bitsandbytes_blocks_run_over_the_ends_of_rows(self) -> None:
        """So two rows of 48 have three blocks of 32. (Its 0.50.2 for CPUs with AVX-512 decodes them row by row.)"""
        functional = oracles.package("bitsandbytes.functional")
        w = torch.arange(1.0, 97.0).view(2, 48)
        _, state = functional.quantize_4bit(w, blocksize=32, quant_type="nf4")
        assert state.absmax.tolist() == [32.0, 64.0, 96.0]
        assert parse("nf4_b32").fit(w).block["scale"].tolist() == [[32.0, 48.0], [80.0, 96.0]]
