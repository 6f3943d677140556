"""AWQ against a slow search written out, and against rounding to nearest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from bitlaw.errors import UserError
from bitlaw.formats.base import Format
from bitlaw.formats.grammar import parse
from bitlaw.methods import METHODS
from bitlaw.methods.awq_search import Search, clamped, input_scales, reduce_blocks
from bitlaw.methods.stored import StoredLinear
from bitlaw.methods.work import Work, groups_of
from bitlaw.models.calibration import moments
from bitlaw.models.linears import quantizable
from tiny import tiny_model

torch.set_num_threads(1)

AWQ = METHODS["awq"]
NAMES = ("int4_b16", "int3_b32", "int4_g128_asym", "mxint4_b16", "int4_row", "int4_none", "nf4_b64")


def layer(rows: int = 10, columns: int = 40, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, and Hessian and mean size of inputs of which some are much larger."""
    generator = torch.Generator().manual_seed(seed)
    w = 0.02 * torch.randn(rows, columns, generator=generator)
    mix = torch.eye(columns) + torch.randn(columns, columns, generator=generator) / columns
    x = torch.randn(300, columns, generator=generator) @ mix * (2 * torch.randn(columns, generator=generator)).exp()
    return w, 2 * x.T @ x / len(x), x.abs().mean(0)


def form(error: Tensor, h: Tensor) -> float:
    return float(torch.trace(error.double() @ h.double() @ error.double().T))


def search(name: str, h: Tensor, m: Tensor, n_grid: int = 10, max_shrink: float = 0.5) -> Search:
    return Search(h, m, parse(name), n_grid, max_shrink)


def slow_scale(m: Tensor, exponent: float) -> Tensor:
    power = [max(float(size) ** exponent, 1e-4) for size in m]
    return torch.tensor([p / math.sqrt(max(power) * min(power)) for p in power]).half().float()


def slow_blocks(fmt: Format, shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Rows and columns of each block."""
    if fmt.block == "none":
        return [(slice(None), slice(None))]
    width = shape[1] if fmt.block == "row" else int(fmt.block)
    return [(slice(i, i + 1), slice(j, j + width)) for i in range(shape[0]) for j in range(0, shape[1], width)]


def slow_awq(weights: list[Tensor], h: Tensor, m: Tensor, fmt: Format, n_grid: int, clip: bool) -> list[Tensor]:
    """The rounded weights: all exponents, then all ranges of each block, one after the other."""
    scales = [slow_scale(m, k / n_grid) for k in range(n_grid)]
    totals = [sum(form(fmt.fake_quantize(w * s) / s - w, h) for w in weights) for s in scales]
    s = scales[totals.index(min(totals))]
    results = []
    for w in weights:
        scaled, plain = w * s, fmt.fake_quantize(w * s) / s
        shrunk = scaled.clone()
        for rows, columns in slow_blocks(fmt, tuple(w.shape)):
            part, least = scaled[rows, columns], math.inf
            for step in range(int(0.5 * n_grid)):
                limit = float(part.abs().max() * (1 - step / n_grid))
                tried = scaled.clone()
                tried[rows, columns] = part.clamp(-limit, limit)
                error = (fmt.fake_quantize(tried) / s - w)[rows, columns]
                if (found := form(error, h[columns, columns])) < least * (1 - 1e-6):
                    least, shrunk[rows, columns] = found, tried[rows, columns]
        clipped = fmt.fake_quantize(shrunk) / s
        results.append(clipped if clip and form(clipped - w, h) < form(plain - w, h) else plain)
    return results


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_slow_search(name: str, clip: bool) -> None:
    (w, h, m), other = layer(), layer(rows=6, seed=1)[0]
    found = list(search(name, h, m).run([w, other], clip=clip))
    expected = slow_awq([w, other], h, m, parse(name), 10, clip)
    for (stored, _), slow in zip(found, expected, strict=True):
        torch.testing.assert_close(stored.weight(), slow, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NAMES)
def test_is_never_worse_than_rounding_to_nearest(name: str, seed: int, clip: bool) -> None:
    w, h, m = layer(seed=seed)
    ((stored, info),) = search(name, h, m).run([w], clip=clip)
    error, nearest = (form(q - w, h) for q in (stored.weight(), parse(name).fake_quantize(w)))
    assert error <= nearest * (1 + 1e-6)
    assert info["output_error"] == pytest.approx(error / form(w, h), rel=1e-4)
    assert info["rtn_error"] == pytest.approx(nearest / form(w, h), rel=1e-4)
    assert 0 <= info["exponent"] < 1 and 0 <= info["clipped"] <= 1


def test_large_inputs_get_large_scales() -> None:
    w, h, m = layer()
    ((stored, info),) = search("int3_b16", h, m).run([w], clip=False)
    assert info["exponent"] > 0 and info["clipped"] == 0.0
    assert stored.input_scale is not None and stored.input_scale.dtype == torch.float16
    assert torch.equal(stored.input_scale.argsort(stable=True)[-1:], m.argsort(stable=True)[-1:])


def test_one_exponent_is_rounding_to_nearest() -> None:
    w, h, m = layer()
    ((stored, info),) = search("int3_b16", h, m, n_grid=1, max_shrink=0).run([w], clip=True)
    assert (info["exponent"], info["clipped"]) == (0.0, 0.0)
    assert torch.equal(stored.weight(), parse("int3_b16").fake_quantize(w))


def test_the_scale_is_normalized_and_stays_in_range() -> None:
    m = torch.tensor([0.0, 1e-9, 1.0, 1e9])
    assert torch.equal(input_scales(m, [0.0])[0], torch.ones(4).half())
    scale = input_scales(m[1:], [0.25])[0].double()
    assert float(scale.max() * scale.min()) == pytest.approx(1.0, rel=1e-2)
    assert bool((input_scales(m, [0.95])[0] > 0).all()) and bool(input_scales(m, [0.95])[0].isfinite().all())


@pytest.mark.parametrize("exponent", [0.05, 0.5, 0.65, 0.95])
def test_the_scale_is_the_exact_one_rounded_once(exponent: float) -> None:
    """So that every device has the same: powers in float32 differ, and in some of so many the rounding with them."""
    m = torch.rand(200_000, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.1
    exact = m.numpy().astype(np.longdouble) ** np.longdouble(exponent)
    exact = exact / np.sqrt(exact.max() * exact.min())
    assert torch.equal(input_scales(m, [exponent])[0], torch.from_numpy(exact.astype(np.float16)))


def test_ranges_belong_to_blocks() -> None:
    w = torch.arange(1.0, 13.0).view(2, 6)
    for name, shape in (("int4_row", (2, 1)), ("int4_none", (1, 1)), ("int4_b16", (2, 1))):
        ranges = reduce_blocks(parse(name), w, torch.amax)
        assert tuple(ranges.shape) == shape == parse(name).grid((2, 6))
        assert torch.equal(clamped(parse(name), w, ranges), w)
    wide = torch.arange(40.0).expand(3, 40)
    ranges = reduce_blocks(parse("int4_b16"), wide, torch.amax)
    assert ranges[0].tolist() == [15.0, 31.0, 39.0]
    assert clamped(parse("int4_b16"), -wide, ranges / 2).amin(0)[[15, 31, 39]].tolist() == [-7.5, -15.5, -19.5]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_weight_stays_bad_and_spoils_its_block_alone(bad: float) -> None:
    w, h, m = layer()
    w[2, 20] = bad
    ((stored, info),) = search("int4_b16", h, m).run([w], clip=True)
    spoilt = torch.zeros(w.shape, dtype=torch.bool)
    spoilt[2, 16:32] = True
    assert torch.equal(stored.weight().isnan(), spoilt)
    assert info["exponent"] == 0.0 and math.isnan(info["output_error"])


def test_dead_inputs_do_no_harm() -> None:
    w, h, m = layer()
    h[3], h[:, 3], m[3] = 0.0, 0.0, 0.0
    ((stored, info),) = search("int4_b16", h, m).run([w], clip=True)
    assert bool(stored.weight().isfinite().all())
    assert info["output_error"] <= info["rtn_error"]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_model_has_one_scale_for_each_input(family: str) -> None:
    model, fmt = tiny_model(family), parse("int3_b16")
    linears = quantizable(model)
    ids = torch.randint(0, 320, (4, 24), generator=torch.Generator().manual_seed(1))
    of, found = moments(model, linears, ids)
    tensors = {f"hessian.{i}": one.hessian for i, one in enumerate(found)}
    tensors |= {f"absmean.{i}": one.absmean for i, one in enumerate(found)}
    result = {"of": of}
    settings = AWQ.Settings(n_grid=5)
    work = Work(model, linears, AWQ.inputs(tensors, result), groups_of(result, linears))
    stored = {linear.name: one for linear, one, _ in AWQ.quantize_model(work, fmt, settings)}
    assert stored.keys() == {linear.name for linear in linears}
    scales = {name: one.input_scale for name, one in stored.items()}
    for a in linears:
        for b in linears:
            if of[a.name] == of[b.name]:
                assert torch.equal(scales[a.name], scales[b.name])  # type: ignore[arg-type]
    one = linears[0]
    assert stored[one.name].storage_bits() == fmt.storage_bits(one.shape) + 16 * one.shape[1]
    parts = stored[one.name].tensors()
    assert torch.equal(StoredLinear.from_tensors(fmt, one.shape, parts).weight(), stored[one.name].weight())


def test_what_cannot_be_used_is_named() -> None:
    model = tiny_model("llama")
    linears = quantizable(model)
    names = [linear.name for linear in linears]
    of = dict.fromkeys(names, 0)
    bad = {"hessian.0": torch.full((32, 32), math.nan), "absmean.0": torch.ones(32)}
    work = Work(model, linears, AWQ.inputs(bad, {"of": of}), groups_of({"of": of}, linears))
    with pytest.raises(UserError, match=rf"^{names[0]}, .*: the inputs are not finite"):
        list(AWQ.quantize_model(work, parse("int4_b16"), AWQ.Settings()))
    del of[names[2]]
    work = Work(model, linears, AWQ.inputs(bad, {"of": of}), groups_of({"of": of}, linears))
    with pytest.raises(UserError, match=rf"^{names[2]}: no calibration sample reached this linear"):
        list(AWQ.quantize_model(work, parse("int4_b16"), AWQ.Settings()))


@pytest.mark.parametrize("wrong", [{"n_grid": 0}, {"max_shrink": 1.0}, {"max_shrink": -0.1}, {"duo_scaling": True}])
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    assert AWQ.needs(AWQ.Settings()) == "calibration"
    assert AWQ.Settings().model_dump() == {"n_grid": 20, "clip": True, "max_shrink": 0.5}
    with pytest.raises(ValidationError):
        AWQ.Settings.model_validate(wrong)
