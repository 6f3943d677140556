"""Bit packing against an obvious reference: one big integer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitlaw.formats.packing import pack, packed_size, unpack


def slow_pack(codes: list[int], bits: int) -> bytes:
    stream = sum((code % (1 << bits)) << (i * bits) for i, code in enumerate(codes))
    return stream.to_bytes(-(-len(codes) * bits // 8), "little")


@st.composite
def signed_codes(draw: st.DrawFn) -> tuple[int, bool, list[int]]:
    bits, signed = draw(st.integers(1, 8)), draw(st.booleans())
    low = -(1 << bits - 1) if signed else 0
    return bits, signed, draw(st.lists(st.integers(low, low + (1 << bits) - 1), max_size=40))


@given(signed_codes())
def test_packs_as_one_big_integer_and_back(case: tuple[int, bool, list[int]]) -> None:
    bits, signed, values = case
    codes = torch.tensor(values, dtype=torch.int8 if signed else torch.uint8)
    packed = pack(codes, bits)
    assert bytes(packed.tolist()) == slow_pack(values, bits)
    assert len(packed) == packed_size(len(values), bits)
    assert torch.equal(unpack(packed, bits, len(values), signed=signed), codes)


def test_packs_matrices_row_by_row_whatever_their_strides() -> None:
    codes = torch.randint(-4, 4, (5, 7), dtype=torch.int8).T
    assert torch.equal(pack(codes, 3), pack(codes.contiguous().view(-1), 3))


def test_what_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 to 8 bits"):
        pack(torch.zeros(3, dtype=torch.int8), 9)
    with pytest.raises(TypeError, match="int64"):
        pack(torch.zeros(3, dtype=torch.int64), 4)
    with pytest.raises(ValueError, match="10 codes of 3 bits take 4 bytes"):
        unpack(torch.zeros(5, dtype=torch.uint8), 3, 10, signed=True)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("signed", [True, False])
def test_a_gpu_packs_the_same_bytes(bits: int, signed: bool) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    least, dtype = (-(1 << bits - 1), torch.int8) if signed else (0, torch.uint8)
    codes = torch.randint(least, least + (1 << bits), (37, 29), generator=torch.Generator().manual_seed(bits)).to(dtype)
    packed = pack(codes.cuda(), bits)
    assert torch.equal(packed.cpu(), pack(codes, bits))
    assert torch.equal(unpack(packed, bits, codes.numel(), signed=signed).cpu(), codes.flatten())
