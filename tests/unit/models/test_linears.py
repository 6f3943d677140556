"""Which weights are quantized, in every architecture, and that exchanging them leaves no trace."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from bitlaw.errors import UserError
from bitlaw.models.linears import blocks, count_params, quantizable, swapped
from tiny import tiny_config, tiny_model

D, FF, KV = 32, 48, 16
SQUARE = (D, D)
LLAMA = {
    "self_attn.q_proj": SQUARE,
    "self_attn.k_proj": (KV, D),
    "self_attn.v_proj": (KV, D),
    "self_attn.o_proj": SQUARE,
    "mlp.gate_proj": (FF, D),
    "mlp.up_proj": (FF, D),
    "mlp.down_proj": (D, FF),
}
EXPECTED = {
    "gpt2": (
        "transformer.h",
        {"attn.c_attn": (3 * D, D), "attn.c_proj": SQUARE, "mlp.c_fc": (FF, D), "mlp.c_proj": (D, FF)},
    ),
    "opt": (
        "model.decoder.layers",
        {
            "self_attn.k_proj": SQUARE,
            "self_attn.v_proj": SQUARE,
            "self_attn.q_proj": SQUARE,
            "self_attn.out_proj": SQUARE,
            "fc1": (FF, D),
            "fc2": (D, FF),
        },
    ),
    "bloom": (
        "transformer.h",
        {
            "self_attention.query_key_value": (3 * D, D),
            "self_attention.dense": SQUARE,
            "mlp.dense_h_to_4h": (4 * D, D),
            "mlp.dense_4h_to_h": (D, 4 * D),
        },
    ),
    "llama": ("model.layers", LLAMA),
    "qwen2": ("model.layers", LLAMA),
    "gemma2": ("model.layers", LLAMA),
    "gpt_neox": (
        "gpt_neox.layers",
        {
            "attention.query_key_value": (3 * D, D),
            "attention.dense": SQUARE,
            "mlp.dense_h_to_4h": (FF, D),
            "mlp.dense_4h_to_h": (D, FF),
        },
    ),
    "mpt": (
        "transformer.blocks",
        {"attn.Wqkv": (3 * D, D), "attn.out_proj": SQUARE, "ffn.up_proj": (4 * D, D), "ffn.down_proj": (D, 4 * D)},
    ),
}
# vocabulary 320, context 64 (OPT keeps two positions more); an untied head is a second matrix.
EMBEDDING = {
    "gpt2": (320 + 64) * D,
    "opt": (320 + 66) * D,
    "bloom": 320 * D,
    "llama": 2 * 320 * D,
    "qwen2": 2 * 320 * D,
    "gemma2": 320 * D,
    "gpt_neox": 2 * 320 * D,
    "mpt": 320 * D,
}
FAMILIES = sorted(EXPECTED)


@pytest.mark.parametrize("family", FAMILIES)
def test_names_and_shapes(family: str) -> None:
    prefix, shapes = EXPECTED[family]
    found = {linear.name: linear.shape for linear in quantizable(tiny_model(family))}
    assert found == {f"{prefix}.{i}.{name}": shape for i in range(2) for name, shape in shapes.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_weight_is_out_by_in(family: str) -> None:
    model = tiny_model(family)
    for linear in quantizable(model):
        out_features, in_features = linear.shape
        assert linear.transposed == (family == "gpt2")
        x = torch.randn(3, in_features)
        bias = linear.module.bias if linear.module.bias is not None else torch.zeros(out_features)
        torch.testing.assert_close(linear.module(x), x @ linear.weight().T + bias)


@pytest.mark.parametrize("family", FAMILIES)
def test_parameter_counts(family: str) -> None:
    model = tiny_model(family)
    counts = count_params(model)
    assert counts["n_embedding"] == EMBEDDING[family]
    assert counts["n_total"] == sum(p.numel() for p in model.parameters())
    # What is left beside the linears are biases and norms: vectors only.
    linears = {id(linear.parameter) for linear in quantizable(model)}
    embeddings = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    embeddings += [m.weight for m in model.modules() if isinstance(m, nn.Embedding)]
    other = {id(e) for e in embeddings}
    rest = [p for p in model.parameters() if id(p) not in linears | other]
    assert all(p.ndim == 1 for p in rest)
    matrices = sum(linear.parameter.numel() for linear in quantizable(model))
    assert counts["n_params"] == matrices + sum(p.numel() for p in rest)


@pytest.mark.parametrize("family", FAMILIES)
def test_counts_are_the_same_without_weights(family: str) -> None:
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(tiny_config(family))
    assert count_params(empty) == count_params(tiny_model(family))


def _parameters(model: nn.Module) -> list[tuple[str, int, int, bytes]]:
    named = model.named_parameters(remove_duplicate=False)
    return [(name, id(p), p._version, p.detach().numpy().tobytes()) for name, p in named]


@pytest.mark.parametrize("family", FAMILIES)
def test_swap_computes_with_the_new_weights_and_leaves_no_trace(family: str) -> None:
    model, ids = tiny_model(family), torch.arange(20)[None]
    before, state = model(ids).logits, _parameters(model)
    linears = quantizable(model)
    same = {linear.name: linear.weight().clone() for linear in linears}
    with swapped(linears, same):
        assert torch.equal(model(ids).logits, before)
    with swapped(linears, {name: weight * 0.5 for name, weight in same.items()}):
        other = model(ids).logits
        for linear in linears:
            assert torch.equal(linear.weight(), same[linear.name] * 0.5)
    assert not torch.allclose(other, before)
    assert _parameters(model) == state
    assert torch.equal(model(ids).logits, before)


def test_swap_survives_an_exception_and_a_wrong_weight() -> None:
    model = tiny_model("gpt2")
    linears, state = quantizable(model), _parameters(model)
    zeros = {linear.name: torch.zeros(linear.shape) for linear in linears}
    with pytest.raises(RuntimeError, match="in between"), swapped(linears, zeros):
        raise RuntimeError("in between")
    assert _parameters(model) == state
    last = linears[-1].name
    for wrong in ({**zeros, last: torch.zeros(3, 3)}, {**zeros, "lm_head": torch.zeros(320, D)}):
        with pytest.raises(ValueError, match=r"shape \(3, 3\)|no linear 'lm_head'"), swapped(linears, wrong):
            pytest.fail("entered with a wrong weight")
        assert _parameters(model) == state


def test_swap_converts_to_the_dtype_of_the_model() -> None:
    model = tiny_model("llama").bfloat16()
    linear = quantizable(model)[0]
    with linear.swap(torch.full(linear.shape, 1.001)):
        assert linear.parameter.dtype == torch.bfloat16
        assert torch.equal(linear.weight(), torch.ones(linear.shape, dtype=torch.bfloat16))


def test_blocks_are_the_longest_outer_list() -> None:
    inner = nn.Module()
    inner.experts = nn.ModuleList(nn.Linear(2, 2) for _ in range(9))
    model = nn.Module()
    model.heads = nn.ModuleList([nn.Linear(2, 2)])
    model.layers = nn.ModuleList([inner, nn.Linear(2, 2)])
    assert blocks(model)[0] == "layers"
    assert len(quantizable(model)) == 10


def test_models_that_cannot_be_quantized() -> None:
    with pytest.raises(UserError, match="no list of transformer blocks"):
        quantizable(nn.Linear(2, 2))
    model = nn.Module()
    model.layers = nn.ModuleList([nn.LayerNorm(4)])
    with pytest.raises(UserError, match="no linear layers"):
        quantizable(model)
    with pytest.raises(UserError, match=r"experts.* mixtures of experts are not supported"):
        quantizable(tiny_model("mixtral"))
