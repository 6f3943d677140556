"""Packing and unpacking one matrix, over all formats that have a layout."""

from __future__ import annotations

import pytest
import torch

from bitlaw.export.schemes import NoPlaceError, pack, scheme_of
from bitlaw.formats.grammar import known_names, parse
from bitlaw.methods.stored import StoredLinear


def matrix(rows: int, columns: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows * columns)
    w = torch.randn(rows, columns, generator=generator) * 0.05
    w[0], w[1, : columns // 2] = 0, w[1, : columns // 2].abs()
    return w


def packable() -> list[str]:
    names = []
    for name in known_names():
        try:
            scheme_of(parse(name))
        except NoPlaceError:
            continue
        names.append(name)
    return names


def test_what_can_be_packed() -> None:
    names = set(packable())
    for name in ("int4_b64", "int2_row", "int8_g128_asym", "int4_g128_awq", "mxint8_b32_rceil", "ternary_none"):
        assert name in names
    for name in ("mxfp4_e2m1_b32_even", "mxfp6_e2m3_b32", "mxfp8_e4m3_b32_ceil", "nvfp4_b16"):
        assert name in names
    for name in ("nf4_b64", "int4_b64_centered", "mxfp4_e2m1_b64", "mxfp6_e3m2_b32", "mxfp8_e5m2_b32", "fp4_e2m1_b64"):
        assert name not in names


@pytest.mark.parametrize("columns", [64, 96, 80])
def test_unpacking_gives_back_the_weights(columns: int) -> None:
    pytest.importorskip("compressed_tensors")
    from bitlaw.export.packing import restore, rounded_once, with_wide_scales

    torch.set_num_threads(1)
    w, checked = matrix(40, columns), 0
    for name in packable():
        stored = StoredLinear(parse(name).quantize(w))
        wanted = stored.weight()
        for ragged in (False, True):
            try:
                packed = pack(stored, ragged=ragged)
            except NoPlaceError:
                continue
            if packed.dense:
                held = str(packed.tensors["weight_scale"].dtype).removeprefix("torch.")
                assert torch.equal(restore(packed, held, True), rounded_once(wanted, held)), (name, packed.args)
                packed = with_wide_scales(packed)
            dtype = "bfloat16" if name.startswith("nvfp4") else "float32"
            got = restore(packed, dtype, packed.dense or packed.scheme.restores is not None)
            assert torch.equal(got, rounded_once(wanted, dtype)), (name, packed.args)
            checked += 1
    assert checked > 300
