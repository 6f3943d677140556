"""Blocks quantized one after the other, against whole-model forwards with the earlier blocks exchanged."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bitlaw.errors import UserError
from bitlaw.formats.grammar import parse
from bitlaw.methods import METHODS
from bitlaw.methods.factors import inputs_of
from bitlaw.methods.sequential import quantize_blocks
from bitlaw.methods.work import Inputs, Work
from bitlaw.models import calibration
from bitlaw.models.calibration import moments
from bitlaw.models.linears import Linear, blocks, quantizable, swapped
from tiny import tiny_model

torch.set_num_threads(1)

FAMILIES = ("gpt2", "opt", "bloom", "llama", "gpt_neox", "gemma2", "qwen2", "mpt")
GPTQ = METHODS["gptq"]


def windows(samples: int = 5, length: int = 24) -> Tensor:
    return torch.randint(0, 320, (samples, length), generator=torch.Generator().manual_seed(1))


def work(model: Any, **more: Any) -> Work:
    return Work(model, quantizable(model), **{"windows": windows(), **more})


@pytest.mark.parametrize("family", FAMILIES)
def test_each_block_sees_what_the_quantized_ones_before_it_put_out(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "BATCH_TOKENS", 48)  # two windows at a time, and a rest
    model, fmt = tiny_model(family), parse("int3_b16")
    before = {name: p.clone() for name, p in model.named_parameters()}
    seen: dict[str, Tensor] = {}

    def known(hessian: Tensor, linears: list[Linear]) -> dict[str, Inputs]:
        seen.update(dict.fromkeys([linear.name for linear in linears], hessian))
        return {linear.name: Inputs(hessian) for linear in linears}

    def rounded(linear: Linear, inputs: Inputs) -> tuple[Any, dict[str, Any]]:
        return fmt.quantize(linear.weight()), {"width": len(inputs.hessian)}  # type: ignore[arg-type]

    found = list(quantize_blocks(work(model), known, rounded))
    linears = quantizable(model)
    assert sorted(linear.name for linear, _, _ in found) == sorted(linear.name for linear in linears)
    assert all(info == {"width": linear.shape[1]} for linear, _, info in found)
    prefix, chain = blocks(model)
    weights = {linear.name: stored.weight() for linear, stored, _ in found}
    for i in range(len(chain)):
        earlier = {name: w for name, w in weights.items() if int(name.removeprefix(f"{prefix}.").split(".")[0]) < i}
        with swapped(linears, earlier):
            of, expected = moments(model, linears, windows())
        for name in of:
            if name.startswith(f"{prefix}.{i}."):
                torch.testing.assert_close(seen[name], expected[of[name]].hessian, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_gptq_of_a_first_block_is_the_shared_one_and_of_later_ones_is_not() -> None:
    model, fmt = tiny_model("llama"), parse("int3_b16")
    settings = GPTQ.Settings(sequential=True)
    found = {linear.name: (stored, info) for linear, stored, info in GPTQ.quantize_model(work(model), fmt, settings)}
    linears = quantizable(model)
    of, plain = moments(model, linears, windows())
    same = {}
    for linear in linears:
        known = inputs_of(plain[of[linear.name]].hessian, [linear], **GPTQ.factor_settings(settings))
        q, info = GPTQ.quantize(linear.weight(), fmt, settings, known[linear.name])
        stored, reported = found[linear.name]
        same[linear.name] = torch.equal(stored.quantized.codes, q.codes)
        assert info.keys() == reported.keys()
    assert all(equal for name, equal in same.items() if ".layers.0." in name)
    assert not any(equal for name, equal in same.items() if ".layers.1." in name)


def test_equal_arguments_of_batches_are_kept_once() -> None:
    from bitlaw.methods.sequential import capture

    model = tiny_model("llama")
    _, chain = blocks(model)
    ids = windows(4, 2048 // 32)
    hidden, calls = capture(model, chain, ids.repeat(64, 1))
    assert len(hidden) == len(calls) > 1
    cosines = {id(call.kwargs["position_embeddings"][0]) for batch in calls for call in batch}
    assert len(cosines) <= len(chain)


def test_blocks_that_are_no_chain_are_refused() -> None:
    model = tiny_model("llama")
    model.model.layers[1].register_forward_pre_hook(lambda _, args: (args[0] + 1,))
    with pytest.raises(UserError, match="the blocks of LlamaForCausalLM are not a chain"):
        list(GPTQ.quantize_model(work(model), parse("int4_b16"), GPTQ.Settings(sequential=True)))


def test_the_text_is_needed() -> None:
    with pytest.raises(ValueError, match="needs the calibration windows"):
        model = tiny_model("llama")
        list(GPTQ.quantize_model(work(model, windows=None), parse("int4_b16"), GPTQ.Settings(sequential=True)))
