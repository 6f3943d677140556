"""The floating-point elements against two packages that round one number at a time: ml_dtypes and gfloat.

Compared are bit patterns, on all bfloat16 numbers, on the midpoints between neighbors, and on the float32 numbers just
beside both.
"""

from __future__ import annotations

import gfloat.formats
import ml_dtypes
import numpy as np
import pytest
import torch

from bitlaw.formats.elements import FloatElement
from bitlaw.formats.grammar import parse

ELEMENTS = {
    "mxfp4_e2m1": (ml_dtypes.float4_e2m1fn, gfloat.formats.format_info_ocp_e2m1),
    "mxfp6_e2m3": (ml_dtypes.float6_e2m3fn, gfloat.formats.format_info_ocp_e2m3),
    "mxfp6_e3m2": (ml_dtypes.float6_e3m2fn, gfloat.formats.format_info_ocp_e3m2),
    "mxfp8_e4m3": (ml_dtypes.float8_e4m3fn, gfloat.formats.format_info_ocp_e4m3),
    "mxfp8_e5m2": (ml_dtypes.float8_e5m2, gfloat.formats.format_info_ocp_e5m2),
}


def element(name: str) -> FloatElement:
    found = parse(f"{name}_b32").element
    assert isinstance(found, FloatElement)
    return found


def finite_codes(name: str) -> torch.Tensor:
    """Return the codes of the finite numbers; E4M3 and E5M2 have others too."""
    kind, _ = ELEMENTS[name]
    codes = np.arange(2 ** element(name).bits, dtype=np.uint8)
    return torch.from_numpy(codes[np.isfinite(codes.view(kind).astype(np.float32))])


def numbers(name: str) -> torch.Tensor:
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).float()
    values = element(name).decode(finite_codes(name), {}).unique()
    points = torch.cat([values, (values[1:] + values[:-1]) / 2])
    beside = [torch.nextafter(points, torch.full_like(points, end)) for end in (-torch.inf, torch.inf)]
    x = torch.cat([every[every.isfinite()], points, *beside])
    return torch.cat([x, -x])


@pytest.mark.parametrize("name", ELEMENTS)
def test_codes_mean_what_others_say(name: str) -> None:
    kind, info = ELEMENTS[name]
    codes = finite_codes(name)
    values = element(name).decode(codes, {})
    assert np.array_equal(values.numpy(), codes.numpy().view(kind).astype(np.float32))
    assert values.tolist() == [gfloat.decode_float(info, code).fval for code in codes.tolist()]
    assert values.abs().max() == element(name).top == info.max


@pytest.mark.parametrize("name", ELEMENTS)
def test_rounds_as_ml_dtypes(name: str) -> None:
    kind, _ = ELEMENTS[name]
    x = numbers(name)
    # Beyond the largest number its E4M3 gives NaN and its E5M2 infinity; ours saturates.
    top = element(name).top
    theirs = x.clamp(-top, top).numpy().astype(kind).view(np.uint8)
    assert np.array_equal(element(name).encode(x, {}).numpy(), without_negative_zero(name, theirs))


@pytest.mark.parametrize("name", ELEMENTS)
def test_rounds_as_gfloat(name: str) -> None:
    _, info = ELEMENTS[name]
    x = numbers(name)
    rounded = gfloat.round_ndarray(info, x.double().numpy(), gfloat.RoundMode.TiesToEven, sat=True)
    theirs = gfloat.encode_ndarray(info, rounded).astype(np.uint8)
    assert np.array_equal(element(name).encode(x, {}).numpy(), without_negative_zero(name, theirs))


def without_negative_zero(name: str, codes: np.ndarray) -> np.ndarray:
    return np.where(codes == 1 << element(name).bits - 1, 0, codes)
