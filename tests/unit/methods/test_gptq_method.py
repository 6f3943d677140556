"""GPTQ as a method: its settings, what it needs, and the factors that all formats share."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from bitlaw.errors import UserError
from bitlaw.formats.base import Quantized
from bitlaw.formats.grammar import parse
from bitlaw.methods import METHODS
from bitlaw.methods.base import MatrixMethod, Method
from bitlaw.methods.factors import energy, factor_from, inputs, inputs_of, record_of, tensors_of
from bitlaw.methods.gptq_factor import HessianError, factorize
from bitlaw.methods.work import Inputs
from bitlaw.models.linears import Linear

torch.set_num_threads(1)

GPTQ = METHODS["gptq"]


def settings(**values: Any) -> Any:
    return GPTQ.Settings.model_validate(values)


def hessian(columns: int = 24, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(200, columns, generator=generator) @ torch.randn(columns, columns, generator=generator)
    return 2 * x.T @ x / len(x)


def linear(name: str, rows: int = 6, columns: int = 24) -> Linear:
    torch.manual_seed(len(name))
    return Linear(name, nn.Linear(columns, rows), transposed=False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"damping": 0},
        {"damping": math.inf},
        {"block_columns": 0},
        {"dampening": 0.1},
        {"whole_block": True, "act_order": True},
    ],
)
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**wrong)


def test_needs_factors_of_its_damping_and_order_or_the_text() -> None:
    assert GPTQ.needs(settings()) == "factors"
    assert GPTQ.needs(settings(sequential=True)) == "windows"
    chosen = settings(damping=0.05, act_order=True, static_groups=True, block_columns=64)
    assert GPTQ.factor_settings(chosen) == {"damping": 0.05, "act_order": True}


@pytest.mark.parametrize("name", ["int4_row", "int4_none"])
def test_whole_blocks_need_blocks(name: str) -> None:
    GPTQ.check(parse("mxint4_b32"), settings(whole_block=True))
    GPTQ.check(parse(name), settings())
    with pytest.raises(UserError, match=f"^whole_block needs a format with blocks of a number of weights; {name}"):
        GPTQ.check(parse(name), settings(whole_block=True))
    with pytest.raises(UserError, match="^whole_block needs"):
        GPTQ.quantize(torch.zeros(2, 24), parse(name), settings(whole_block=True), Inputs())


def test_a_missing_factor_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs the factor"):
        GPTQ.quantize(torch.zeros(2, 24), parse("int4_b16"), settings())


@pytest.mark.parametrize(("base", "missing"), [(Method, "quantize_model"), (MatrixMethod, "quantize")])
def test_a_method_that_does_not_round_cannot_be_made(base: type[Method], missing: str) -> None:
    with pytest.raises(TypeError, match=f"abstract method.*{missing}"):
        type("Forgets", (base,), {})()


def test_a_method_that_needs_no_factors_has_no_settings_for_them() -> None:
    for name in METHODS:
        chosen = METHODS[name].Settings()
        assert bool(METHODS[name].factor_settings(chosen)) == (METHODS[name].needs(chosen) == "factors")


@pytest.mark.parametrize("act_order", [False, True])
def test_a_stored_factor_is_the_same_factor(act_order: bool) -> None:
    h = hessian()
    h[5] = h[:, 5] = 0
    factor = factorize(h, 0.02, act_order)
    tensors = tensors_of(factor)
    assert {name: tuple(part.shape) for name, part in tensors.items()} == {
        "upper": (24 * 25 // 2,),
        "order": (24,),
        "dead": (24,),
    }
    assert (tensors["upper"].dtype, tensors["order"].dtype) == (torch.float32, torch.int32)
    again = factor_from(tensors, record_of(factor))
    assert torch.equal(again.upper, factor.upper)
    assert torch.equal(again.order, factor.order) and again.order.dtype == torch.int64
    assert torch.equal(again.dead, factor.dead) and int(again.dead.sum()) == 1
    assert record_of(again) == record_of(factor)
    with pytest.raises(ValueError, match="the triangle of a factor of 24 columns has 300 numbers"):
        factor_from({**tensors, "upper": tensors["upper"][1:]}, record_of(factor))


def test_linears_with_one_input_share_its_factor_and_have_their_own_energy() -> None:
    h, sharing = hessian(), [linear("a"), linear("bb", rows=9)]
    found = inputs_of(h, sharing, damping=0.01, act_order=False)
    assert list(found) == ["a", "bb"]
    assert found["a"].factor is found["bb"].factor
    for one in sharing:
        w = one.weight().double()
        assert found[one.name].energy == pytest.approx(float(torch.trace(w @ h.double() @ w.T)), rel=1e-5)
    assert energy(torch.zeros(3, 24), h) == 0.0


def test_a_hessian_without_a_factor_names_its_linears() -> None:
    with pytest.raises(HessianError, match=r"^a, bb: the Hessian is not positive definite"):
        inputs_of(-hessian(), [linear("a"), linear("bb")], damping=0.01, act_order=False)


def test_factors_are_read_by_the_name_of_the_linear() -> None:
    of = {"a": 0, "b": 1, "c": 1}
    factors = [factorize(hessian(seed=i), 0.01, act_order=False) for i in (0, 1)]
    tensors = {f"{name}.{i}": part for i, factor in enumerate(factors) for name, part in tensors_of(factor).items()}
    result = {"of": of, "factors": [record_of(factor) for factor in factors], "energy": {"a": 1.0, "b": 2.0, "c": 3.0}}
    read = inputs(tensors, result)
    for name in "abcab":
        found = read(name)
        assert found.factor is not None
        assert torch.equal(found.factor.upper, factors[of[name]].upper)
        assert found.energy == result["energy"][name]
    assert read("b").factor is read("c").factor
    with pytest.raises(UserError, match="no calibration sample reached this linear"):
        read("d")


@pytest.mark.parametrize("act_order", [False, True])
def test_from_a_stored_factor_the_codes_are_the_same(act_order: bool) -> None:
    h, one, fmt = hessian(), linear("a"), parse("int3_b16")
    chosen = settings(act_order=act_order)
    known = inputs_of(h, [one], **GPTQ.factor_settings(chosen))["a"]
    assert known.factor is not None
    stored = factor_from(tensors_of(known.factor), record_of(known.factor))
    first, info = GPTQ.quantize(one.weight(), fmt, chosen, known)
    second, _ = GPTQ.quantize(one.weight(), fmt, chosen, Inputs(factor=stored, energy=known.energy))
    assert isinstance(first, Quantized) and isinstance(second, Quantized)
    assert torch.equal(first.codes, second.codes)
    lost = (one.weight() - fmt.dequantize(first)).double()
    whole = one.weight().double()
    expected = torch.trace(lost @ h.double() @ lost.T) / torch.trace(whole @ h.double() @ whole.T)
    assert info["proxy_loss"] == pytest.approx(float(expected), rel=1e-3)
