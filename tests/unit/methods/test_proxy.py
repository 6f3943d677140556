"""Proxy quantization: which columns stay in 16 bits, and what they cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from bitlaw.errors import UserError
from bitlaw.formats.grammar import parse
from bitlaw.methods import METHODS
from bitlaw.methods.proxy import keep, outliers
from bitlaw.methods.stored import StoredLinear
from bitlaw.methods.work import Work
from bitlaw.models.linears import quantizable
from bitlaw.models.producers import Producer
from tiny import tiny_model

torch.set_num_threads(1)

PROXY = METHODS["proxy"]


def producer(deviations: list[float], units: list[int] | None = None) -> Producer:
    """Units whose weights have these standard deviations, around means that do not matter."""
    weight = torch.tensor([[7.0 * i - d, 7.0 * i + d] for i, d in enumerate(deviations)])
    return Producer("p", weight, torch.tensor(units if units else list(range(len(deviations)))))


def test_the_inputs_of_the_units_that_deviate_most() -> None:
    assert outliers(producer([1, 9, 3, 8]), 0.5).tolist() == [1, 3]
    assert outliers(producer([1, 9, 3, 8]), 0.25).tolist() == [1]
    assert outliers(producer([1, 9, 3, 8]), 0.0).tolist() == []
    assert outliers(producer([1, 9, 3, 8]), 0.99).tolist() == [1, 2, 3]
    assert outliers(producer([2, 2, 2, 2]), 0.5).tolist() == [0, 1]
    # Values that serve two heads each: both inputs of a unit are outliers.
    assert outliers(producer([1, 9, 3, 8], [0, 1, 0, 1, 2, 3, 2, 3]), 0.5).tolist() == [1, 3, 5, 7]


@pytest.mark.parametrize("name", ["int4_b16", "mxint3_row", "int4_none"])
def test_kept_columns_are_in_half_precision_and_the_others_rounded(name: str) -> None:
    fmt, w = parse(name), torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    columns = torch.tensor([3, 17, 39])
    stored = keep(w, fmt, columns)
    rest = [j for j in range(40) if j not in (3, 17, 39)]
    found = stored.weight()
    assert torch.equal(found[:, columns], w[:, columns].half().float())
    assert torch.equal(found[:, rest], fmt.fake_quantize(w[:, rest]))
    assert stored.storage_bits() == fmt.storage_bits((6, 37)) + 3 * (16 * 6 + 32)
    again = StoredLinear.from_tensors(fmt, (6, 40), stored.tensors())
    assert torch.equal(again.weight(), found)
    assert stored.shape == again.shape == (6, 40)
    none = keep(w, fmt, torch.tensor([], dtype=torch.int64))
    assert torch.equal(none.weight(), fmt.fake_quantize(w)) and none.kept is None


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_model_keeps_its_share_and_says_which_module_decided(family: str) -> None:
    model = tiny_model(family)
    linears = quantizable(model)
    settings = PROXY.Settings(p=0.1)
    assert PROXY.needs(settings) == "nothing"
    found = {linear.name: (stored, info) for linear, stored, info in
             PROXY.quantize_model(Work(model, linears), parse("int4_b16"), settings)}  # fmt: skip
    assert list(found) == [linear.name for linear in linears]
    for linear in linears:
        stored, info = found[linear.name]
        assert stored.kept is not None
        assert tuple(stored.kept.shape) == (linear.shape[0], round(0.1 * linear.shape[1]))
        assert info["producer"] in dict(model.named_modules())


def test_a_wider_producer_is_kept() -> None:
    model = tiny_model("opt")
    with torch.no_grad():
        model.model.decoder.layers[1].fc1.weight[11] *= 50
    work = Work(model, quantizable(model))
    kept = {
        linear.name: stored.kept_columns
        for linear, stored, _ in PROXY.quantize_model(work, parse("int4_b16"), PROXY.Settings())
    }
    assert kept["model.decoder.layers.1.fc2"].tolist() == [11]  # type: ignore[union-attr]


def test_a_model_without_a_rule_is_refused() -> None:
    model = tiny_model("mpt")
    with pytest.raises(UserError, match=r"^transformer\.blocks\.0\.\S+: it is not known which units produce"):
        list(PROXY.quantize_model(Work(model, quantizable(model)), parse("int4_b16"), PROXY.Settings()))


@pytest.mark.parametrize("wrong", [{"p": -0.1}, {"p": 1.0}, {"q": 0.1}])
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    assert PROXY.Settings().model_dump() == {"p": 0.02}
    with pytest.raises(ValidationError):
        PROXY.Settings.model_validate(wrong)
