"""GPTQ against an obvious reference: optimal brain quantization, column by column, with a fresh inverse each time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from bitlaw.formats.base import Quantized, Scales
from bitlaw.formats.grammar import parse
from bitlaw.methods import METHODS
from bitlaw.methods.gptq_solver import HessianError, factorize, proxy_loss

torch.set_num_threads(1)

GPTQ = METHODS["gptq"]
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


def gptq(w: Tensor, h: Tensor, name: str, **settings: Any) -> tuple[Quantized, dict[str, Any]]:
    return GPTQ.quantize(w, parse(name), GPTQ.Settings.model_validate(settings), h)


def slow_gptq(
    w: Tensor, h: Tensor, name: str, act_order: bool, static_groups: bool, damping: float = 0.01
) -> Quantized:
    """Each step inverts the Hessian of the columns left and updates all of them at once, in float64."""
    fmt = parse(name)
    rows, columns = w.shape
    width = fmt.width(columns)
    h, w = h.double(), w.double()
    for j in range(columns):
        if h[j, j] == 0:
            h[j, j], w[:, j] = 1.0, 0.0
    order = sorted(range(columns), key=lambda j: -float(h[j, j])) if act_order else list(range(columns))
    h += damping * h.diagonal().mean() * torch.eye(columns, dtype=torch.float64)
    scales = fmt.fit(w.float())
    reached: set[int] = set()
    codes = torch.zeros(rows, columns, dtype=torch.int8)
    for step, j in enumerate(order):
        block = slice(j // width * width, min((j // width + 1) * width, columns))
        if not static_groups and block.start not in reached and fmt.block != "none":
            reached.add(block.start)
            fresh = fmt.scales(w[:, block].float(), {}).block["scale"]
            scales.block["scale"][:, j // width] = fresh
        scale = Scales({"scale": scales.block["scale"][:, j // width]})
        codes[:, j] = fmt.round_block(w[:, j : j + 1].float(), scale)[:, 0]
        error = w[:, j] - fmt.decode(codes[:, j : j + 1], scale)[:, 0].double()
        left = order[step:]
        inverse = torch.linalg.inv(h[left][:, left])
        w[:, left] -= torch.outer(error, inverse[0] / inverse[0, 0])
    return Quantized(fmt, codes, scales)


@pytest.mark.parametrize("block_columns", [1, 7, 16, 128])
@pytest.mark.parametrize(("act_order", "static"), ORDERS)
@pytest.mark.parametrize("name", ["int4_b16", "int3_row", "int8_none", "mxint4_b16", "mxint3_b32", "mxint2_none"])
def test_equals_the_slow_reference(name: str, act_order: bool, static: bool, block_columns: int) -> None:
    w, h = weights(), correlated()
    q, _ = gptq(w, h, name, act_order=act_order, static_groups=static, block_columns=block_columns)
    expected = slow_gptq(w, h, name, act_order, static)
    assert torch.equal(q.codes, expected.codes)
    assert torch.equal(q.scales.block["scale"], expected.scales.block["scale"])


@pytest.mark.parametrize(("act_order", "static"), ORDERS)
@pytest.mark.parametrize("name", ["int4_b16", "int3_row", "int4_none", "mxint4_b16", "mxint3_b32"])
def test_loses_less_than_rounding_to_nearest(name: str, act_order: bool, static: bool) -> None:
    w, h = weights(32, 96), correlated(96)
    q, info = gptq(w, h, name, act_order=act_order, static_groups=static)
    nearest = proxy_loss(w, parse(name).fake_quantize(w), h)
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


def test_the_factor_is_that_of_the_inverse() -> None:
    h = correlated()
    upper, tries = factorize(h, 0.01)
    assert tries == 1
    assert torch.equal(upper, upper.triu())
    inverse = torch.linalg.inv(h.double() + 0.01 * h.diagonal().mean().double() * torch.eye(40))
    assert torch.allclose(upper.T.double() @ upper.double(), inverse, rtol=1e-3, atol=1e-4 * float(inverse.abs().max()))


def test_proxy_loss_without_any_output() -> None:
    w, nothing = weights(), torch.zeros(40, 40)
    assert proxy_loss(w, w + 1, nothing) == 0.0
    assert proxy_loss(torch.zeros(12, 40), w, correlated()) == math.inf


def test_a_missing_or_misshapen_hessian_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs the Hessian"):
        GPTQ.quantize(weights(), parse("int4_b16"), GPTQ.Settings())
    with pytest.raises(ValueError, match="need a 40 x 40 Hessian"):
        gptq(weights(), correlated(41), "int4_b16")


@pytest.mark.parametrize("wrong", [{"damping": 0}, {"damping": math.inf}, {"block_columns": 0}, {"dampening": 0.1}])
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GPTQ.Settings.model_validate(wrong)
