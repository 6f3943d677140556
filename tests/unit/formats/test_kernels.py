"""Compiled kernels against the plain torch code, bit for bit."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bitlaw.formats import kernels
from bitlaw.formats.elements import CodebookElement, IntElement
from bitlaw.formats.grammar import parse
from bitlaw.formats.kernels import cpu
from bitlaw.formats.scales import Absmax

torch.set_num_threads(1)

NAMES = [
    *(f"{element}_{block}{dtype}" for element in ("int4", "int8", "int2") for block in ("b64", "row", "none")
      for dtype in ("", "_sf32", "_sbf16")),
    *(f"int{bits}_g32_{word}{dtype}" for bits in (2, 4, 8) for word in ("sym", "asym", "awq", "awqsym")
      for dtype in ("", "_sf32", "_sbf16")),
    *("int4_row_asym", "int4_none_asym", "int3_none_awq"),
    *(f"{element}_{block}{rule}" for element in ("mxint2", "mxint4", "mxint8") for block in ("b32", "row")
      for rule in ("", "_even", "_rceil", "_ceil")),
    *(f"{element}_b32{rule}" for element in ("mxfp4_e2m1", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp8_e4m3", "mxfp8_e5m2")
      for rule in ("", "_even", "_rceil", "_ceil")),
    *("mxfp4_e2m1_none", "mxfp4_e2m1_b16", "nvfp4_b16"),
    *("nf4_b64", "nf4_b64_sf16", "nf4_none", "bnbfp4_b64", "bnbfp4_row_sbf16"),
    *(f"{element}_b64{dtype}" for element in ("fp2", "fp3", "fp4", "fp5", "fp8", "fp8_e2m5", "fp8_e7m0", "fp4_e3m0")
      if element != "fp2" for dtype in ("", "_sf32")),
    *(f"dyn{bits}_b64" for bits in range(2, 9)),
    *(f"quantile{bits}_b64" for bits in (2, 3, 4, 6, 8)),
    *("dyn8_row", "quantile8_none", "quantile5_row_sf32"),
]  # fmt: skip


def rows(*values: float, columns: int = 200) -> Tensor:
    return torch.tensor(values).repeat(3, columns)[:, :columns]


def weights(kind: str) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    normal = torch.randn(7, 200, generator=generator)
    match kind:
        case "gaussian":
            return 0.02 * normal
        case "heavy":
            return normal * torch.randn(7, 200, generator=generator).mul(3).exp()
        case "ties":  # half steps of the grids of 4 bits, when the largest is 7 or 8
            return torch.randint(-16, 17, (7, 200), generator=generator) / 2.0
        case "powers":
            return torch.exp2(torch.randint(-9, 9, (7, 200), generator=generator).float()).copysign(normal)
        case "bounds":  # numbers at and next to the bounds of a codebook
            bounds = torch.linspace(-1, 1, 201)[:-1]
            return torch.stack([bounds, bounds.nextafter(torch.tensor(2.0)), bounds.nextafter(torch.tensor(-2.0))])
        case "tiny":
            return normal * torch.exp2(torch.randint(-149, -120, (7, 200), generator=generator).float())
        case "huge":
            return (normal.clamp(-3, 3) / 3) * torch.finfo(torch.float32).max
        case "any":  # all exponents in a row, so some steps overflow, some vanish
            return normal.copysign(normal) * torch.exp2(torch.arange(-140, 60).float())
        case "bits":  # every pattern, so NaN and infinities too
            patterns = torch.randint(-(2**31), 2**31, (40, 200), generator=generator).int().view(torch.float32)
            return patterns.where(patterns.abs() < 2.0 ** torch.linspace(-140, 129, 40).unsqueeze(1), 0.1)
        case "one-sided":
            return normal.abs() + 1
        case "constant":
            return torch.full((3, 200), -0.3)
        case "zeros":
            return rows(0.0, -0.0)
        case _:
            bad = 0.02 * normal
            for i, value in enumerate((math.nan, math.inf, -math.inf, -math.nan)):
                bad[i, 10 + 40 * i] = value
            bad[5] = bad[4, 0] = math.nan
            bad[6, :64] = 0.0
            return bad


KINDS = (
    *("gaussian", "heavy", "ties", "powers", "bounds", "tiny", "huge", "any", "bits", "one-sided", "constant", "zeros"),
    "bad",
)


def assert_same(a: Tensor, b: Tensor) -> None:
    """Check that two tensors are equal bit for bit, but for which NaN a NaN is."""
    assert a.dtype == b.dtype
    integers = torch.int32 if a.dtype == torch.float32 else torch.int16
    nan = a.isnan()
    assert torch.equal(nan, b.isnan())
    a, b = (x.where(~nan, 0.0).contiguous().view(integers) for x in (a, b))
    assert torch.equal(a, b), f"{int((a != b).sum())} of {a.numel()} differ"


def plain(name: str, w: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    fmt = parse(name)
    out = torch.empty(w.shape, dtype=dtype)
    fmt._fake_quantize(w, fmt.shared(w), out)
    return out


def compiled(name: str, w: Tensor, out: Tensor | None = None) -> Tensor:
    fmt = parse(name)
    out = torch.full(w.shape, 77.0) if out is None else out
    assert kernels.fake_quantize(fmt, w, fmt.shared(w), out)
    return out


@pytest.fixture(params=["native", "generic"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compile for this machine, and for the least of its kind without code for one instruction set."""
    if cpu.shared_library() is None:
        pytest.skip("no compiler")
    if request.param == "generic":
        options = [option for option in cpu._OPTIONS if option not in ("-march=native", "-O3")]
        generic = cpu.build((*options, "-O1", "-DBITLAW_GENERIC"))
        monkeypatch.setattr(cpu, "shared_library", lambda: generic)
    yield


both = pytest.mark.usefixtures("library")
ALL = torch.cat([weights(kind) for kind in KINDS])
MATRICES = [name for name in NAMES if "none" in name or name.startswith(("quantile", "nvfp4"))]


@both
@pytest.mark.parametrize("name", [name for name in NAMES if name not in MATRICES])
def test_equals_plain_torch(name: str) -> None:
    assert_same(compiled(name, ALL), plain(name, ALL))


@both
@pytest.mark.parametrize("kind", KINDS)
def test_equals_plain_torch_where_rows_share_something(kind: str) -> None:
    w = weights(kind)
    for name in MATRICES:
        assert_same(compiled(name, w), plain(name, w))


@both
@pytest.mark.parametrize("kind", ["gaussian", "heavy", "any", "bad"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types_of_weights_and_results(dtype: torch.dtype, kind: str) -> None:
    w = weights(kind).to(dtype)
    for name in ("mxint4_b32", "int4_g32_asym", "nf4_b64", "nvfp4_b16", "quantile8_b64"):
        assert_same(compiled(name, w), plain(name, w))
        for other in (torch.float16, torch.bfloat16):
            if dtype != torch.float64:
                out = torch.empty(w.shape, dtype=other)
                assert_same(compiled(name, w, out), plain(name, w, other))
            wide = w.float()
            assert_same(compiled(name, wide, torch.empty(w.shape, dtype=other)), plain(name, wide, other))


@both
@pytest.mark.parametrize("columns", [1, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 129])
def test_ragged_rows(columns: int) -> None:
    w = weights("heavy")[:, :columns]
    for name in ("mxint4_b32", "mxint4_row", "int4_g32_asym", "int4_none_awq", "nf4_b64", "dyn8_b64", "nvfp4_b16"):
        out = torch.full((9, columns + 3), 77.0)
        assert_same(compiled(name, w, out[1:8, 1 : columns + 1]), plain(name, w))
        out[1:8, 1 : columns + 1] = 77.0
        assert (out == 77.0).all(), "written outside"


@both
def test_strides_and_places() -> None:
    w = weights("gaussian")
    for name in ("mxint4_b32", "int4_none_asym", "quantile8_b64"):
        expected = plain(name, w)
        assert_same(compiled(name, w.T.contiguous().T), expected)
        assert_same(compiled(name, w.repeat_interleave(2, 0)[::2]), expected)
        assert_same(compiled(name, torch.zeros(7, 400).copy_(w.repeat(1, 2))[:, :200]), expected)
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            same = w.to(dtype)
            expected_same = plain(name, same, dtype)
            assert_same(compiled(name, same, same), expected_same)


def test_what_overlaps_is_left_to_plain_torch() -> None:
    memory = weights("gaussian").flatten()
    fmt = parse("mxint4_b32")
    a, b = memory[:320].view(2, 160), memory[160:480].view(2, 160)
    assert not kernels.fake_quantize(fmt, a, {}, b)
    assert kernels.fake_quantize(fmt, a, {}, memory[320:640].view(2, 160))


@dataclass(frozen=True)
class _OtherInt(IntElement):
    def decode(self, codes: Tensor, shared: Any) -> Tensor:
        return codes.float() / 2


@dataclass(frozen=True)
class _NewCode(CodebookElement):
    def values(self) -> Tensor:
        return torch.tensor([-1.0, 0.1, 0.7])


class _OtherAbsmax(Absmax):
    def step(self, scales: Any) -> Tensor:
        return 2 * super().step(scales)


def test_a_new_codebook_needs_no_kernel_of_its_own() -> None:
    fmt = replace(parse("nf4_b64"), element=_NewCode("new2", 2))
    w = weights("gaussian")
    out, expected = torch.empty(w.shape), torch.empty(w.shape)
    assert kernels.fake_quantize(fmt, w, {}, out)
    fmt._fake_quantize(w, {}, expected)
    assert_same(out, expected)


def test_what_is_not_known_is_left_to_plain_torch() -> None:
    fmt = parse("int4_b64")
    w, out = weights("gaussian"), torch.empty(7, 200)
    others = [
        replace(fmt, element=_OtherInt("int4", 4, -7, 7)),
        replace(fmt, rule=_OtherAbsmax("float16", 7.0, 7.0)),
        parse("int4_b64_centered"),
        parse("ternary_b64"),
    ]
    for other in others:
        assert not kernels.fake_quantize(other, w, other.shared(w), out)
        assert_same(
            other.fake_quantize(w),
            plain(other.name, w) if other.name != "int4_b64" else other.dequantize(other.quantize(w)),
        )


def test_a_codebook_that_is_not_rising_is_left_to_plain_torch() -> None:
    fmt, w = parse("quantile3_b64"), weights("huge")
    assert not kernels.fake_quantize(fmt, w, {"codebook": torch.tensor([0.0, math.nan])}, torch.empty(w.shape))
    assert not kernels.fake_quantize(fmt, w, {"codebook": torch.tensor([0.5, 0.0])}, torch.empty(w.shape))


@both
def test_entries_that_lie_close_together() -> None:
    """Where a table of first bits has many bounds in one place, a search finds the right one."""
    fmt = parse("quantile8_row_sf32")
    close = torch.tensor([0.5]).view(torch.int32) + 3 * torch.arange(200)
    book = torch.cat([torch.linspace(-1, 0, 55), close.int().view(torch.float32), torch.ones(1)])
    x = torch.cat(
        [close.int().view(torch.float32), (close + 1).int().view(torch.float32), -torch.rand(200), torch.ones(1)]
    )
    w = x.repeat(2, 1)
    out, expected = torch.empty(w.shape), torch.empty(w.shape)
    assert kernels.fake_quantize(fmt, w, {"codebook": book}, out)
    fmt._fake_quantize(w, {"codebook": book}, expected)
    assert_same(out, expected)


@both
@pytest.mark.parametrize("kind", ["gaussian", "any", "bad"])
def test_decoding_equals_plain_torch(kind: str) -> None:
    w = weights(kind)[:, :171]
    for name in (*NAMES[::3], "int4_b64_centered", "ternary_b64", "int4_none_asym", "nvfp4_b16", "fp4_b32_centered"):
        q = parse(name).quantize(w)
        for dtype in (torch.float32, torch.float16):
            out, expected = torch.empty(7, 200, dtype=dtype)[:, 20:191], torch.empty(7, 171, dtype=dtype)
            assert kernels.dequantize(q.fmt, q.codes, q.scales, out)
            assert_same(out, expected.copy_(q.fmt._decode(q.codes, q.scales)))


# ---- GPTQ


GPTQ_NAMES = ["int4_b32", "int4_b32_centered", "int8_g32_asym", "int3_g32_awq", "mxint4_b32", "mxfp8_e4m3_b32",
              "mxfp6_e3m2_b32", "nvfp4_b16", "nf4_b64", "fp4_b64", "dyn8_b64", "quantile3_b64"]  # fmt: skip


def gptq_input(name: str, kind: str) -> dict[str, Any]:
    fmt, w = parse(name), weights(kind)
    scales = fmt.fit(w)
    generator = torch.Generator().manual_seed(5)
    n = w.shape[1]
    upper = (torch.randn(n, n, generator=generator) / 8).triu() + 2 * torch.eye(n)
    values = tuple(
        None if v is None else v.T.contiguous() for v in (fmt.steps(scales), fmt.zeros(scales), fmt.means(scales))
    )
    group = torch.arange(n) // fmt.width(n)
    codes = torch.empty(n, len(w), dtype=torch.int8 if fmt.element.signed else torch.uint8)
    return {"fmt": fmt, "shared": scales.shared, "w_t": w.T.contiguous(), "upper": upper, "scales": values,
            "group": group, "codes": codes, "errors": torch.empty(n, len(w))}  # fmt: skip


def plain_gptq(
    fmt: Any, shared: Any, w_t: Tensor, upper: Tensor, scales: Any, group: Tensor, codes: Tensor, errors: Tensor
) -> None:
    """One column after the other, with plain torch for the element."""
    steps, zeros, means = scales
    for j in range(len(w_t)):
        g = group[j]
        x = (w_t[j] if means is None else w_t[j] - means[g]) / steps[g]
        x = x if zeros is None else x.round() + zeros[g]
        codes[j] = fmt.element.encode(x, shared)
        q = fmt.element.decode(codes[j], shared)
        q = (q if zeros is None else q - zeros[g]) * steps[g]
        q = q if means is None else q + means[g]
        errors[j] = ((w_t[j] - q) / upper[j, j]).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        for k in range(j + 1, len(w_t)):
            w_t[k] = w_t[k] - errors[j] * upper[j, k]


@both
@pytest.mark.parametrize("kind", ["gaussian", "ties", "bad", "any", "zeros"])
@pytest.mark.parametrize("name", GPTQ_NAMES)
def test_gptq_equals_plain_torch(name: str, kind: str) -> None:
    given, expected = gptq_input(name, kind), gptq_input(name, kind)
    assert kernels.gptq_block(**given)
    plain_gptq(**expected)
    assert torch.equal(given["codes"], expected["codes"])
    assert_same(given["errors"], expected["errors"])


def test_gptq_leaves_the_unknown_to_plain_torch() -> None:
    given = gptq_input("int4_b32", "gaussian")
    assert not kernels.gptq_block(**{**given, "fmt": replace(given["fmt"], element=_OtherInt("int4", 4, -7, 7))})


# ---- the library


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], object]:
    """Return what loads the library anew, with an empty cache folder."""
    monkeypatch.setenv("BITLAW_CACHE", str(tmp_path / "cache"))
    cpu.shared_library.cache_clear()
    yield cpu.shared_library
    cpu.shared_library.cache_clear()


def test_without_a_compiler_there_is_one_warning(fresh: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    w = weights("gaussian")
    with pytest.warns(RuntimeWarning, match=r"no compiled kernels, so rounding is slower: there is no C\+\+ compiler"):
        first = parse("mxint4_b32").fake_quantize(w)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(parse("mxint4_b32").fake_quantize(w), first)
    assert_same(first, plain("mxint4_b32", w))


def test_a_compiler_that_fails_is_quoted(
    fresh: Callable[[], object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failing = tmp_path / "cxx"
    failing.write_text('#!/bin/sh\n[ "$1" = --version ] || { echo "no such option" >&2; exit 1; }\n')
    failing.chmod(0o755)
    monkeypatch.setenv("CXX", str(failing))
    with pytest.warns(RuntimeWarning, match="slower: no such option"):
        assert fresh() is None


def test_the_library_is_compiled_once(fresh: Callable[[], object], tmp_path: Path) -> None:
    assert fresh() is not None
    (made,) = (tmp_path / "cache").iterdir()
    before = made.stat().st_mtime_ns
    cpu.shared_library.cache_clear()
    assert fresh() is not None
    assert [path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()] == [before]


MEMORY = """
import resource, sys, torch
from bitlaw.formats.grammar import parse
torch.set_num_threads(1)
w, out = torch.randn(4096, 4096), torch.zeros(4096, 4096)
if sys.argv[1] == "turned":
    w = w.T
for name in ("mxint4_b32", "int4_g128_asym", "nf4_b64", "quantile8_b64"):
    parse(name).fake_quantize(w[:64], out=out[:64])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    parse(name).fake_quantize(w, out=out)
    print(name, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.parametrize("order", ["rows", "turned"])
def test_no_second_matrix_is_made(order: str) -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY, order], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        name, grown = line.split()
        # 64 MiB of weights; a quantile code's sample is taken from a copy where rows are not contiguous.
        assert float(grown) < (72 if order == "turned" and name.startswith("quantile") else 8), line
