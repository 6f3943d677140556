"""Formats against other packages, bit for bit, on inputs from Gaussian to degenerate.

An input on which a package is wrong, or means something else, is left out for it here, with the reason;
``test_parity_conventions`` shows each of these differences on the smallest input that has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import oracles
import pytest
import torch
from inputs import INPUTS, difference, gaussian
from torch import Tensor

from bitlaw.formats.grammar import parse

torch.set_num_threads(1)

Oracle = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Pair:
    """A format and what should equal it.

    Attributes:
        name: of the format.
        oracle: the other package's.
        theirs: weights to dequantized weights.
        without: inputs that are not compared, with the reason.
    """

    name: str
    oracle: str
    theirs: Oracle
    without: Mapping[str, str] = field(default_factory=dict)


def because(reason: str, *inputs: str) -> dict[str, str]:
    return dict.fromkeys(inputs, reason)


LOG2 = because("log2 in float32 is wrong just below powers of two", "below powers of two")
KEEPS_INFINITY = because("keeps the infinity", "infinity")
INFINITE_RECIPROCAL = because("the reciprocal of a subnormal step is infinite", "subnormal")
RECIPROCAL = INFINITE_RECIPROCAL | because(
    "multiplies by the reciprocal of the step, which decides ties another way", "ties", "below powers of two", "1e38"
)
ADDS_ZERO_FIRST = because("adds the zero point before rounding, which rounds twice", "below powers of two", "1e38")
ONE_SIDED = because("takes half the step for blocks without negative weights", "one-sided positive", "constant")
ONE_MATRIX_SCALE = (
    because("has no scale of a block below 2^-6 of the matrix's", "ties", "powers of two", "below powers of two")
    | because("divides zero by zero", "zeros")
    | because("all of the matrix becomes NaN", "nan", "infinity")
    | INFINITE_RECIPROCAL
)


def mx_pairs() -> Iterator[Pair]:
    for element in oracles.AUTO_ROUND_MX:
        for rule, suffix in (("floor", ""), ("rceil", "_rceil")):
            theirs = partial(oracles.auto_round_mx, element=element, block=32, rule=rule)
            yield Pair(f"{element}_b32{suffix}", "auto-round", theirs, LOG2)
    for element in oracles.TORCHAO_MX:
        subnormal = {} if element == "mxfp4_e2m1" else because("divides by at least 2^-126", "subnormal")
        for rule, suffix in (("floor", ""), ("ceil", "_ceil"), ("even", "_even"), ("rceil", "_rceil")):
            theirs = partial(oracles.torchao_mx, element=element, block=32, rule=rule)
            yield Pair(f"{element}_b32{suffix}", "torchao", theirs, KEEPS_INFINITY | subnormal)
    undefined = because("turns the NaN of a scale into a byte, which is undefined", "nan")
    for bits, element in ((4, "mxfp4_e2m1"), (6, "mxfp6_e2m3")):
        yield Pair(f"{element}_b32_even", "compressed-tensors", partial(oracles.compressed_mx, bits=bits), undefined)
    gguf = LOG2 | because("rounds ties toward zero", "ties") | because("zeros the block", "nan", "infinity")
    yield Pair("mxfp4_e2m1_b32", "gguf", oracles.gguf_mxfp4, gguf)
    yield Pair("nvfp4_b16", "torchao", oracles.torchao_nvfp4, ONE_MATRIX_SCALE)


def integer_pairs() -> Iterator[Pair]:
    for bits in range(2, 9):
        asym = f"int{bits}_g128_asym_sf32"
        yield Pair(asym, "auto-round", partial(oracles.auto_round_asym, bits=bits, block=128))
        torchao = partial(oracles.torchao_asym, bits=bits, block=128)
        yield Pair(asym, "torchao", torchao, RECIPROCAL | because("spreads the infinity", "infinity"))
        compressed = partial(oracles.compressed_int, bits=bits, block=128)
        yield Pair(asym, "compressed-tensors", partial(compressed, symmetric=False), ADDS_ZERO_FIRST)
        sym = f"int{bits}_g128_sym_sf32"
        yield Pair(sym, "compressed-tensors", partial(compressed, symmetric=True))
        yield Pair(sym, "auto-round", partial(oracles.auto_round_sym, bits=bits, block=128), ONE_SIDED)
        awq = partial(oracles.awq_pseudo_quantize, bits=bits, block=128)
        yield Pair(f"int{bits}_g128_awq_sf32", "AutoAWQ", partial(awq, zero_point=True))
        yield Pair(f"int{bits}_g128_awqsym_sf32", "AutoAWQ", partial(awq, zero_point=False))
        narrow = partial(oracles.torchao_sym, bits=bits, block=64)
        yield Pair(f"int{bits}_b64_sf32", "torchao", narrow, RECIPROCAL | KEEPS_INFINITY)


def codebook_pairs() -> Iterator[Pair]:
    edges = INFINITE_RECIPROCAL | KEEPS_INFINITY
    for block in (32, 64, 128):
        yield Pair(f"nf4_b{block}", "bitsandbytes", partial(oracles.bitsandbytes_4bit, kind="nf4", block=block), edges)
    fp4 = partial(oracles.bitsandbytes_4bit, kind="fp4", block=64)
    yield Pair("bnbfp4_b64", "bitsandbytes", fp4, edges | because(RECIPROCAL["ties"], "ties"))
    last_bits = "the last bits of a reciprocal and of two distances decide ties"
    near = because(last_bits, "ties", "powers of two", "below powers of two")
    for element in (*(f"dyn{bits}" for bits in range(2, 9)), *PAPER_FLOATS):
        values = partial(oracles.bitsandbytes_values, element)
        theirs = partial(_blockwise, values=values, block=64)
        yield Pair(f"{element}_b64_sf32", "bitsandbytes", theirs, edges | near)


PAPER_FLOATS = ("fp3_e2m0", "fp4_e2m1", "fp5_e3m1", "fp6_e3m2", "fp7_e4m2", "fp8_e4m3")
"""Dettmers and Zettlemoyer's choice of exponent bits."""


def _blockwise(w: Tensor, values: Callable[[], Tensor], block: int) -> Tensor:
    return oracles.bitsandbytes_blockwise(w, values(), block)


PAIRS = [*mx_pairs(), *integer_pairs(), *codebook_pairs()]
CASES = [
    pytest.param(pair, given, id=f"{pair.oracle}-{pair.name}-{given}")
    for pair in PAIRS
    for given in INPUTS
    if given not in pair.without
]


@pytest.mark.parametrize(("pair", "given"), CASES)
def test_equal(pair: Pair, given: str) -> None:
    w = INPUTS[given].clone()
    theirs = _theirs(pair, w)
    ours = parse(pair.name).fake_quantize(INPUTS[given])
    assert difference(ours, theirs) == ""


def _theirs(pair: Pair, w: Tensor) -> Tensor:
    if pair.oracle == "AutoAWQ" and not bool(w.isfinite().all()):
        return _awq_with_bad_blocks(pair, w)
    return pair.theirs(w)


def _awq_with_bad_blocks(pair: Pair, w: Tensor) -> Tensor:
    # It asserts that nothing is NaN. What it makes of the other blocks is compared.
    bad = ~w.view(len(w), -1, 128).isfinite().all(-1, keepdim=True)
    bad = bad.expand(-1, -1, 128).reshape(w.shape)
    return pair.theirs(w.where(~bad, 1.0)).where(~bad, torch.nan)


@pytest.mark.parametrize("rule", ["floor", "rceil"])
@pytest.mark.parametrize("element", oracles.AUTO_ROUND_MX)
@pytest.mark.parametrize(("block", "columns"), [(16, 77), (32, 77), (32, 20), (64, 256), (128, 256), (256, 256)])
def test_other_blocks_and_ragged_ones(element: str, block: int, columns: int, rule: str) -> None:
    w = gaussian()[:, :columns].contiguous()
    theirs = oracles.auto_round_mx(w.clone(), element, block, rule)
    fmt = parse(f"{element}_b{block}" + ("" if rule == "floor" else f"_{rule}"))
    assert difference(fmt.fake_quantize(w), theirs) == ""


@pytest.mark.parametrize("given", ["powers of two", "below powers of two", "outliers"])
def test_nvfp4_of_a_row_at_a_time(given: str) -> None:
    """So that no block's scale is far below the matrix's."""
    fmt = parse("nvfp4_b16")
    for row in INPUTS[given].split(1):
        ours, theirs = fmt.fake_quantize(row), oracles.torchao_nvfp4(row.contiguous())
        assert difference(ours, theirs) == ""


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_the_values_of_4_bit_codes(kind: str) -> None:
    name = {"nf4": "nf4_b64", "fp4": "bnbfp4_b64"}[kind]
    assert torch.equal(parse(name).element.values(), oracles.bitsandbytes_4bit_values(kind))


@pytest.mark.parametrize(
    "element",
    [
        *(f"dyn{bits}" for bits in range(2, 9)),
        *(f"fp{bits}_e{exponent}m{bits - 1 - exponent}" for bits in range(2, 9) for exponent in range(1, bits)),
    ],
)
def test_the_values_of_dynamic_and_float_codes(element: str) -> None:
    assert torch.equal(parse(f"{element}_b64").element.values(), oracles.bitsandbytes_values(element))
