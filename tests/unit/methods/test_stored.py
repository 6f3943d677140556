"""What methods store: codes and scales, kept columns, an input scale."""

from __future__ import annotations

import pytest
import torch

from bitlaw.formats.grammar import parse
from bitlaw.methods.stored import StoredLinear, stored_linears

torch.set_num_threads(1)

NAMES = ("int4_b16", "int3_none", "mxint4_row", "nvfp4_b16", "int4_g128_asym", "quantile4_b64", "ternary_b64")


def stored(name: str, kept: tuple[int, ...], scaled: bool, rows: int = 5, columns: int = 40) -> StoredLinear:
    w = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    rest = [j for j in range(columns) if j not in kept]
    scale = torch.linspace(0.5, 2.0, len(rest)).half() if scaled else None
    quantized = parse(name).quantize(w[:, rest] if scale is None else w[:, rest] * scale)
    if not kept:
        return StoredLinear(quantized, input_scale=scale)
    return StoredLinear(quantized, torch.tensor(kept, dtype=torch.int32), w[:, list(kept)].half(), scale)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("kept", [(), (0, 7, 39)])
@pytest.mark.parametrize("name", NAMES)
def test_the_storage_form_gives_the_weights_back(name: str, kept: tuple[int, ...], scaled: bool) -> None:
    one = stored(name, kept, scaled)
    tensors = one.tensors()
    again = StoredLinear.from_tensors(parse(name), (5, 40), tensors)
    assert again.shape == one.shape == (5, 40)
    assert torch.equal(again.weight(), one.weight()) and one.weight().dtype == torch.float32
    assert again.storage_bits() == one.storage_bits()
    # Parts below a byte are padded to whole bytes.
    assert 0 <= 8 * sum(part.nbytes for part in tensors.values()) - one.storage_bits() < 8 * len(tensors)


def test_the_weights_are_the_decoded_ones_without_scale_and_with_kept_columns() -> None:
    one = stored("int8_row", (0, 7, 39), scaled=True)
    rest = [j for j in range(40) if j not in (0, 7, 39)]
    assert one.kept is not None and one.input_scale is not None
    decoded = parse("int8_row").dequantize(one.quantized) / one.input_scale.float()
    assert torch.equal(one.weight()[:, rest], decoded)
    assert torch.equal(one.weight()[:, [0, 7, 39]], one.kept.float())
    assert one.storage_bits() == parse("int8_row").storage_bits((5, 37)) + 3 * 32 + 15 * 16 + 37 * 16


def test_linears_are_told_apart_by_name() -> None:
    fmt, ones = parse("int4_b16"), {"a.b": stored("int4_b16", (), False), "a.c": stored("int4_b16", (3,), True, 7)}
    tensors = {f"{name}/{part}": tensor for name, one in ones.items() for part, tensor in one.tensors().items()}
    found = stored_linears(tensors, fmt, {"a.b": (5, 40), "a.c": (7, 40), "a.d": (2, 2)})
    assert found.keys() == ones.keys()
    assert all(torch.equal(found[name].weight(), one.weight()) for name, one in ones.items())
    with pytest.raises(KeyError, match="a.c"):
        stored_linears(tensors, fmt, {"a.b": (5, 40)})
    with pytest.raises(ValueError, match="205 codes of 4 bits"):
        stored_linears({f"x/{part}": tensor for part, tensor in ones["a.b"].tensors().items()}, fmt, {"x": (5, 41)})
    with pytest.raises(KeyError, match="codes"):
        StoredLinear.from_tensors(fmt, (5, 40), {})
