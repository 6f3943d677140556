"""The solver of GPTQ against an obvious reference: optimal brain quantization with a fresh inverse for each column."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from bitlaw.formats import kernels
from bitlaw.formats.base import Format, Quantized
from bitlaw.formats.grammar import parse
from bitlaw.formats.kernels import cpu
from bitlaw.formats.scales import Scales
from bitlaw.methods.gptq_factor import HessianError, factorize
from bitlaw.methods.gptq_solver import solve

torch.set_num_threads(1)

ORDERS = [(act_order, static) for act_order in (False, True) for static in (False, True)]


def weights(rows: int = 12, columns: int = 40, seed: int = 0) -> Tensor:
    return 0.02 * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def correlated(columns: int = 40, seed: int = 1, samples: int = 400) -> Tensor:
    """A Hessian of correlated inputs, some of them much larger than others."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=generator) / columns**0.5
    scale = torch.randn(columns, generator=generator).exp()
    x = torch.randn(samples, columns, generator=generator) @ (mix + torch.eye(columns)) * scale
    return 2 * x.T @ x / samples


def energy(w: Tensor, h: Tensor) -> float:
    return float((w.double() @ h.double() * w.double()).sum())


def gptq(
    w: Tensor, h: Tensor, name: str, damping: float = 0.01, act_order: bool = False, **settings: Any
) -> tuple[Quantized, dict[str, Any]]:
    settings = {"block_columns": 128, "static_groups": False, "energy": energy(w, h), **settings}
    return solve(w, factorize(h, damping, act_order), parse(name), **settings)


def loss(w: Tensor, q: Tensor, h: Tensor) -> float:
    """``tr((W - Q) H (W - Q)^T) / tr(W H W^T)``, as it is written."""
    return energy(w - q, h) / energy(w, h)


def take(scales: Scales, block: int) -> Scales:
    return Scales({name: part[:, block] for name, part in scales.block.items()}, scales.shared)


def slow_gptq(
    w: Tensor, h: Tensor, name: str, act_order: bool, static_groups: bool, damping: float = 0.01
) -> Quantized:
    """Each step inverts the Hessian of the columns left and updates all of them at once, in float64."""
    fmt = parse(name)
    columns = w.shape[1]
    width = fmt.width(columns)
    h, w = h.double(), w.double()
    for j in range(columns):
        if h[j, j] == 0:
            h[j, j], w[:, j] = 1.0, 0.0
    order = sorted(range(columns), key=lambda j: -float(h[j, j])) if act_order else list(range(columns))
    h += damping * h.diagonal().mean() * torch.eye(columns, dtype=torch.float64)
    scales = fmt.fit(w.float())
    reached: set[int] = set()
    codes = torch.zeros(w.shape, dtype=torch.int8 if fmt.element.signed else torch.uint8)
    for step, j in enumerate(order):
        block = slice(j // width * width, min((j // width + 1) * width, columns))
        if not static_groups and block.start not in reached and fmt.block != "none":
            reached.add(block.start)
            for part, fresh in fmt.scales(w[:, block].float(), scales.shared).block.items():
                scales.block[part][:, j // width] = fresh
        scale = take(scales, 0 if fmt.block == "none" else j // width)
        codes[:, j] = fmt.round_block(w[:, j : j + 1].float(), scale)[:, 0]
        error = w[:, j] - fmt.decode(codes[:, j : j + 1], scale)[:, 0].double()
        left = order[step:]
        inverse = torch.linalg.inv(h[left][:, left])
        w[:, left] -= torch.outer(error, inverse[0] / inverse[0, 0])
    return Quantized(fmt, codes, scales)


def slow_whole_blocks(w: Tensor, h: Tensor, name: str, static_groups: bool, damping: float = 0.01) -> Quantized:
    """Sharify et al. 2024, Algorithm 1, in float64, with the whole rest updated after each block."""
    fmt = parse(name)
    columns = w.shape[1]
    width = fmt.width(columns)
    h, w = h.double(), w.double()
    damped = h + damping * h.diagonal().mean() * torch.eye(columns, dtype=torch.float64)
    upper = torch.linalg.cholesky(torch.linalg.inv(damped), upper=True)
    scales = fmt.fit(w.float())
    codes = torch.zeros(w.shape, dtype=torch.int8 if fmt.element.signed else torch.uint8)
    for number, start in enumerate(range(0, columns, width)):
        block, later = slice(start, start + width), slice(start + width, columns)
        if not static_groups:
            for part, fresh in fmt.scales(w[:, block].float(), scales.shared).block.items():
                scales.block[part][:, number] = fresh
        codes[:, block] = fmt.round_block(w[:, block].float(), take(scales, number))
        error = w[:, block] - fmt.decode(codes[:, block], take(scales, number)).double()
        w[:, later] -= error @ torch.linalg.inv(upper[block, block]) @ upper[block, later]
    return Quantized(fmt, codes, scales)


@pytest.mark.parametrize("block_columns", [1, 7, 16, 128])
@pytest.mark.parametrize(("act_order", "static"), ORDERS)
@pytest.mark.parametrize("name", ["int4_b16", "int3_row", "int8_none", "mxint4_b16", "mxint3_b32", "mxint2_none"])
def test_equals_the_slow_reference(name: str, act_order: bool, static: bool, block_columns: int) -> None:
    w, h = weights(), correlated()
    q, _ = gptq(w, h, name, act_order=act_order, static_groups=static, block_columns=block_columns)
    expected = slow_gptq(w, h, name, act_order, static)
    assert torch.equal(q.codes, expected.codes)
    assert_equal_parts(q, expected)


def assert_equal_parts(a: Quantized, b: Quantized) -> None:
    for name, part in a.scales.block.items():
        assert torch.equal(part, b.scales.block[name]), name


@pytest.mark.parametrize(
    "name",
    ["nf4_b16", "mxfp4_e2m1_b16", "nvfp4_b16", "int3_g16_asym", "int4_b16_centered", "dyn8_b16", "fp3_b32"]
    + ["quantile4_b16", "ternary_b16"],
)
@pytest.mark.parametrize(("act_order", "static"), ORDERS)
def test_equals_the_slow_reference_for_all_kinds(name: str, act_order: bool, static: bool) -> None:
    w, h = weights(), correlated()
    q, _ = gptq(w, h, name, act_order=act_order, static_groups=static, block_columns=24)
    expected = slow_gptq(w, h, name, act_order, static)
    assert torch.equal(q.codes, expected.codes)
    # A zero point, a centered block's mean and a float16 scale may round the other way in float32.
    assert torch.allclose(q.fmt.dequantize(q), q.fmt.dequantize(expected), rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("block_columns", [1, 40, 100])
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("name", ["mxint4_b16", "mxint3_b32", "mxfp4_e2m1_b16", "mxfp6_e2m3_row"])
def test_whole_blocks_equal_their_slow_reference(name: str, static: bool, block_columns: int) -> None:
    w, h = weights(12, 100), correlated(100)
    q, info = gptq(w, h, name, static_groups=static, whole_block=True, block_columns=block_columns)
    expected = slow_whole_blocks(w, h, name, static)
    assert torch.equal(q.codes, expected.codes)
    assert_equal_parts(q, expected)
    assert info["proxy_loss"] == pytest.approx(loss(w, q.fmt.dequantize(q), h), rel=1e-4)


def test_whole_blocks_need_the_columns_in_order() -> None:
    with pytest.raises(ValueError, match="act_order must be false"):
        gptq(weights(), correlated(), "mxint4_b16", act_order=True, whole_block=True)


@pytest.mark.parametrize(
    "name", ["int4_b16", "int3_g16_asym", "mxfp4_e2m1_b16", "dyn8_b16", "int4_b16_centered", "nf4_none"]
)
@pytest.mark.parametrize(("act_order", "static"), ORDERS)
def test_kernel_and_plain_torch_agree_bit_for_bit(
    name: str, act_order: bool, static: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cpu.shared_library() is None:
        pytest.skip("no compiler")
    w, h = weights(20, 96), correlated(96)
    w[3, 50] = math.inf
    compiled, info = gptq(w, h, name, act_order=act_order, static_groups=static, block_columns=40)
    monkeypatch.setattr(kernels, "gptq_block", lambda *_: False)
    plain, plain_info = gptq(w, h, name, act_order=act_order, static_groups=static, block_columns=40)
    assert torch.equal(compiled.codes, plain.codes)
    for part, values in compiled.scales.block.items():
        assert torch.equal(values.nan_to_num(nan=-1.0), plain.scales.block[part].nan_to_num(nan=-1.0))
    assert math.isnan(info["proxy_loss"])
    assert math.isnan(plain_info["proxy_loss"])


@pytest.mark.parametrize("block_columns", [16, 32, 40, 128])
@pytest.mark.parametrize("name", ["mxint4_b16", "int3_g16_asym", "int4_b32"])
def test_a_kernel_for_all_groups_of_a_lazy_block_is_used(
    name: str, block_columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    w, h, fmt = weights(12, 104), correlated(104), parse(name)
    expected, _ = gptq(w, h, name, block_columns=block_columns)
    calls = []

    def groups(
        fmt: Format, shared: Any, w_t: Tensor, upper: Tensor, parts: Any, width: int, codes: Tensor, errors: Tensor
    ) -> bool:
        calls.append(len(w_t))
        for j in range(len(w_t)):
            if j % width == 0:
                for part, fresh in fmt.scales(w_t[j : j + width].T.contiguous(), shared).block.items():
                    parts[part][j // width] = fresh
            scale = Scales({part: values[j // width] for part, values in parts.items()}, shared)
            code = fmt.round_block(w_t[j].unsqueeze(1), scale)
            codes[j] = code[:, 0]
            errors[j] = (w_t[j] - fmt.decode(code, scale)[:, 0]) / upper[j, j]
            w_t[j + 1 :] -= upper[j, j + 1 :].unsqueeze(1) * errors[j]
        return True

    monkeypatch.setattr(kernels, "gptq_groups", groups)
    q, _ = gptq(w, h, name, block_columns=block_columns)
    # Not where a group goes on in the next lazy block.
    cuts = [*range(0, 104, block_columns), 104]
    ends = [(a, b) for a, b in pairwise(cuts) if a % fmt.width(104) == 0 and (b % fmt.width(104) == 0 or b == 104)]
    assert calls == [b - a for a, b in ends]
    assert torch.equal(q.codes, expected.codes)
    assert_equal_parts(q, expected)


@pytest.mark.parametrize("dead", [[], [0, 17, 39]])
@pytest.mark.parametrize("damping", [1e-4, 0.01, 1.0])
@pytest.mark.parametrize("name", ["int3_b16", "int8_b16", "fp4_e3m0_b16", "mxint2_b16"])
def test_the_loss_that_is_reported_is_that_of_the_result(name: str, damping: float, dead: list[int]) -> None:
    w, h = weights(), correlated()
    h[dead] = 0
    h[:, dead] = 0
    for act_order, static in ORDERS:
        q, info = gptq(w, h, name, damping, act_order, static_groups=static)
        assert info["proxy_loss"] == pytest.approx(loss(w, q.fmt.dequantize(q), h), rel=2e-3)


def test_without_the_energy_there_is_no_loss() -> None:
    assert gptq(weights(), correlated(), "int4_b16", energy=None)[1]["proxy_loss"] is None


def test_loss_without_any_output() -> None:
    w, nothing = weights(), torch.zeros(40, 40)
    assert gptq(w, nothing, "int4_b16")[1]["proxy_loss"] == 0.0
    assert gptq(w, correlated(), "int4_b16", energy=0.0)[1]["proxy_loss"] == math.inf


@pytest.mark.parametrize(("act_order", "static"), ORDERS)
@pytest.mark.parametrize("name", ["int4_b16", "int3_row", "int4_none", "mxint4_b16", "mxint3_b32"])
def test_loses_less_than_rounding_to_nearest(name: str, act_order: bool, static: bool) -> None:
    w, h = weights(32, 96), correlated(96)
    q, info = gptq(w, h, name, act_order=act_order, static_groups=static)
    nearest = loss(w, parse(name).fake_quantize(w), h)
    assert info["proxy_loss"] < nearest
    # On inputs themselves, not on the Hessian: |X (W - Q)^T|^2 with X^T X = H.
    x = torch.linalg.cholesky(h.double() + 1e-9 * torch.eye(96)).T
    outputs, lost = x @ w.T.double(), x @ (w - parse(name).dequantize(q)).T.double()
    assert info["proxy_loss"] == pytest.approx(float(lost.square().sum() / outputs.square().sum()), rel=1e-3)


def test_without_correlation_it_is_rounding_to_nearest() -> None:
    w = weights()
    for act_order, static in ORDERS:
        q, _ = gptq(w, torch.diag(torch.rand(40) + 0.1), "int4_b16", act_order=act_order, static_groups=static)
        assert torch.equal(q.codes, parse("int4_b16").quantize(w).codes)


def test_the_choices_make_a_difference() -> None:
    w, h = weights(), correlated()
    results = [gptq(w, h, "int4_b16", act_order=a, static_groups=s)[0].codes for a, s in ORDERS]
    for i, first in enumerate(results):
        assert not any(torch.equal(first, second) for second in results[i + 1 :])


def test_static_scales_are_those_of_the_weights_and_running_ones_are_not() -> None:
    w, h = weights(), correlated()
    scale = parse("int4_b16").fit(w).block["scale"]
    assert torch.equal(gptq(w, h, "int4_b16", static_groups=True)[0].scales.block["scale"], scale)
    running = gptq(w, h, "int4_b16", static_groups=False)[0].scales.block["scale"]
    assert torch.equal(running[:, 0], scale[:, 0])
    assert not torch.equal(running[:, 1:], scale[:, 1:])


def test_the_order_of_equal_columns_is_stable() -> None:
    w, h = weights(), correlated()
    h.fill_diagonal_(float(h.diagonal().max()) * 2)
    plain, ordered = (gptq(w, h, "int4_b16", act_order=act_order)[0].codes for act_order in (False, True))
    assert torch.equal(plain, ordered)


def test_the_hessians_scale_does_not_matter() -> None:
    w, h = weights(), correlated()
    assert torch.equal(gptq(w, h, "mxint4_b16")[0].codes, gptq(w, 1024 * h, "mxint4_b16")[0].codes)


def test_nothing_given_is_changed_and_the_result_is_stored_like_any_other() -> None:
    w, h = weights().bfloat16(), correlated()
    h[:, 3] = h[3] = 0
    w_before, h_before = w.clone(), h.clone()
    q, _ = gptq(w, h, "int3_b16", act_order=True)
    assert torch.equal(w, w_before)
    assert torch.equal(h, h_before)
    back = Quantized.from_tensors(q.fmt, q.shape, q.tensors())
    assert torch.equal(q.fmt.dequantize(back), q.fmt.dequantize(q))
    assert sum(part.nbytes for part in q.tensors().values()) * 8 == q.fmt.storage_bits(q.shape)


@pytest.mark.parametrize(("act_order", "static"), ORDERS)
def test_dead_columns_become_zero(act_order: bool, static: bool) -> None:
    w, h = weights(), correlated()
    dead = [0, 17, 39]
    h[dead] = 0
    h[:, dead] = 0
    q, info = gptq(w, h, "int4_b16", act_order=act_order, static_groups=static)
    assert info["dead_columns"] == 3
    assert not q.codes[:, dead].any()
    assert torch.equal(q.codes, slow_gptq(w, h, "int4_b16", act_order, static).codes)


def test_a_bad_weight_in_a_dead_column_stays_bad() -> None:
    w, h = weights(), correlated()
    h[17] = h[:, 17] = 0
    w[2, 17] = math.inf
    q, _ = gptq(w, h, "int4_b16")
    assert q.fmt.dequantize(q)[2, 16:32].isnan().all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(("act_order", "static"), ORDERS)
def test_a_bad_weight_spoils_its_block_and_nothing_else(act_order: bool, static: bool, bad: float) -> None:
    w, h = weights(), correlated()
    good = parse("int4_b16").dequantize(gptq(w, h, "int4_b16", act_order=act_order, static_groups=static)[0])
    w[2, 20] = bad
    q, info = gptq(w, h, "int4_b16", act_order=act_order, static_groups=static)
    decoded = q.fmt.dequantize(q)
    spoilt = torch.zeros(w.shape, dtype=torch.bool)
    spoilt[2, 16:32] = True
    assert torch.equal(decoded.isnan(), spoilt)
    others = [row for row in range(12) if row != 2]
    assert torch.equal(decoded[others], good[others])
    assert math.isnan(info["proxy_loss"])


def test_a_failed_factorization_raises_the_damping_and_says_so() -> None:
    w = weights()
    h = correlated()
    # One negative eigenvalue of -0.05 times the mean diagonal: a damping of 0.01 does not mend it, 0.1 does.
    values, vectors = torch.linalg.eigh(h)
    values[0] = -0.05 * h.diagonal().mean()
    h = vectors @ torch.diag(values) @ vectors.T
    q, info = gptq(w, h, "int4_b16", static_groups=True)
    assert (info["damping_tries"], info["damping_factor"]) == (2, 10.0)
    assert info["damping"] == pytest.approx(0.1)
    assert torch.equal(q.codes, gptq(w, h, "int4_b16", static_groups=True, damping=0.1)[0].codes)
    assert not torch.equal(q.codes, parse("int4_b16").quantize(w).codes)


def test_a_rank_one_hessian_needs_no_more_than_its_damping() -> None:
    x = torch.linspace(0.5, 2.0, 40)
    _, info = gptq(weights(), torch.outer(x, x), "int4_b16")
    assert (info["damping"], info["damping_tries"]) == (0.01, 1)


def test_a_hopeless_hessian_is_an_error() -> None:
    with pytest.raises(HessianError, match=r"not positive definite, even with a damping of 100 .* \(5 tries\)"):
        gptq(weights(), -correlated(), "int4_b16")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_hessian_that_is_not_finite_is_an_error(bad: float) -> None:
    h = correlated()
    h[3, 4] = bad
    with pytest.raises(HessianError, match="not finite"):
        gptq(weights(), h, "int4_b16")


@pytest.mark.parametrize("columns", [1, 40, 64, 65, 200, 333])
@pytest.mark.parametrize("act_order", [False, True])
def test_the_factor_is_that_of_the_inverse(columns: int, act_order: bool) -> None:
    h = correlated(columns, samples=1000)
    factor = factorize(h, 0.01, act_order)
    order = torch.argsort(h.diagonal(), descending=True, stable=True) if act_order else torch.arange(columns)
    assert torch.equal(factor.order, order)
    assert (factor.damping, factor.damping_tries) == (0.01, 1)
    assert factor.shift == pytest.approx(0.01 * float(h.diagonal().mean()), rel=1e-6)
    h = h[order][:, order].double()
    inverse = torch.linalg.inv(h + 0.01 * h.diagonal().mean() * torch.eye(columns))
    expected = torch.linalg.cholesky(inverse, upper=True)
    assert torch.equal(factor.upper, factor.upper.triu())
    assert torch.allclose(factor.upper.double(), expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


def test_the_factor_of_dead_columns() -> None:
    h = correlated()
    h[[3, 9]] = 0
    h[:, [3, 9]] = 0
    factor = factorize(h, 0.01, False)
    assert factor.dead.nonzero().flatten().tolist() == [3, 9]
    mended = h.clone()
    mended[3, 3] = mended[9, 9] = 1.0
    assert torch.equal(factor.upper, factorize(mended, 0.01, False).upper)
    assert not bool(h[3].any())


def test_a_factor_of_another_size_is_an_error() -> None:
    with pytest.raises(ValueError, match="need the factor of a 40 x 40 Hessian, not a 41 x 41 one"):
        solve(weights(), factorize(correlated(41), 0.01, False), parse("int4_b16"), block_columns=8, static_groups=True)
