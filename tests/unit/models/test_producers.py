"""Which units produce which inputs: one unit is changed, and only its inputs may change."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bitlaw.errors import UserError
from bitlaw.models.linears import Linear, blocks, quantizable
from bitlaw.models.producers import producers
from tiny import tiny_config, tiny_model

torch.set_num_threads(1)

FAMILIES = ("gpt2", "opt", "bloom", "llama", "gpt_neox", "qwen2", "gemma2")
# Linears fed by units without anything in between: the attention's output and the second linear of the MLP.
DIRECT = {
    "gpt2": {"attn.c_proj": "attn.c_attn", "mlp.c_proj": "mlp.c_fc"},
    "opt": {"self_attn.out_proj": "self_attn.v_proj", "fc2": "fc1"},
    "bloom": {"self_attention.dense": "self_attention.query_key_value", "mlp.dense_4h_to_h": "mlp.dense_h_to_4h"},
    "llama": {"self_attn.o_proj": "self_attn.v_proj", "mlp.down_proj": "mlp.up_proj"},
    "gpt_neox": {"attention.dense": "attention.query_key_value", "mlp.dense_4h_to_h": "mlp.dense_h_to_4h"},
}
DIRECT |= dict.fromkeys(("qwen2", "gemma2"), DIRECT["llama"])
EMBEDDING = {
    "gpt2": "transformer.wte",
    "opt": "model.decoder.embed_tokens",
    "bloom": "transformer.word_embeddings",
    "gpt_neox": "gpt_neox.embed_in",
}


def inputs_of(model: Any, linear: Linear) -> Tensor:
    seen: list[Tensor] = []
    handle = linear.module.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    with torch.no_grad():
        model(torch.arange(12)[None] * 7)
    handle.remove()
    return seen[0].reshape(-1, linear.shape[1])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_unit_changes_the_inputs_that_it_produces_and_no_others(family: str) -> None:
    model = tiny_model(family)
    linears = {linear.name: linear for linear in quantizable(model)}
    found = producers(model, list(linears.values()))
    prefix, _ = blocks(model)
    for consumer, source in DIRECT[family].items():
        linear, producer = linears[f"{prefix}.1.{consumer}"], found[f"{prefix}.1.{consumer}"]
        assert producer.name == f"{prefix}.1.{source}"
        assert torch.equal(producer.weight, linears[producer.name].weight())
        before = inputs_of(model, linear)
        for unit in producer.units.unique().tolist():
            changed = linears[producer.name].weight().clone()
            changed[unit] += 0.5
            with linears[producer.name].swap(changed):
                differs = (inputs_of(model, linear) != before).any(0)
            # A unit of a rectified layer may be off for every token, so it may change nothing.
            if bool(differs.any()) or family != "opt":
                assert torch.equal(differs, producer.units == unit), (consumer, unit)
        assert len(producer.units) == linear.shape[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_from_the_residual_stream_was_written_last_by(family: str) -> None:
    model = tiny_model(family)
    linears = quantizable(model)
    names = {name: producer.name for name, producer in producers(model, linears).items()}
    assert list(names) and names.keys() == {linear.name for linear in linears}
    prefix, _ = blocks(model)
    (attention, _), (mlp, second) = DIRECT[family].items()
    reading = {
        "gpt2": ["attn.c_attn"],
        "bloom": ["self_attention.query_key_value"],
        "gpt_neox": ["attention.query_key_value"],
    }
    first = ["mlp.gate_proj", "mlp.up_proj"] if second == "mlp.up_proj" else [second]
    for name in reading.get(family, [f"self_attn.{part}_proj" for part in "qkv"]):
        assert names[f"{prefix}.0.{name}"] == EMBEDDING.get(family, "model.embed_tokens")
        assert names[f"{prefix}.1.{name}"] == f"{prefix}.0.{mlp}"
    for name in first:
        # GPT-NeoX's attention and MLP read the same residual stream.
        written = f"{prefix}.0.{mlp}" if family == "gpt_neox" else f"{prefix}.1.{attention}"
        assert names[f"{prefix}.1.{name}"] == written


def test_the_writer_is_what_the_mlp_reads(family: str = "gpt_neox") -> None:
    from transformers import AutoModelForCausalLM

    config = tiny_config(family)
    config.use_parallel_residual = False
    model = AutoModelForCausalLM.from_config(config)
    found = producers(model, quantizable(model))
    assert found["gpt_neox.layers.1.mlp.dense_h_to_4h"].name == "gpt_neox.layers.1.attention.dense"


def test_an_embedding_has_a_unit_for_each_of_its_columns() -> None:
    model = tiny_model("gpt2")
    producer = producers(model, quantizable(model))["transformer.h.0.attn.c_attn"]
    assert torch.equal(producer.weight, model.transformer.wte.weight.detach().T)
    assert producer.units.tolist() == list(range(32))


def test_an_embedding_of_another_width_is_projected() -> None:
    from transformers import AutoModelForCausalLM

    config = tiny_config("opt")
    config.word_embed_proj_dim = 16
    model = AutoModelForCausalLM.from_config(config)
    producer = producers(model, quantizable(model))["model.decoder.layers.0.self_attn.q_proj"]
    assert (producer.name, tuple(producer.weight.shape)) == ("model.decoder.project_in", (32, 16))


def test_a_linear_without_a_rule_is_named() -> None:
    model = tiny_model("mpt")
    with pytest.raises(UserError, match=r"^transformer\.blocks\.0\.\S+: it is not known which units produce"):
        producers(model, quantizable(model))
    model = tiny_model("llama")
    model.model.layers[1].mlp.extra = torch.nn.Linear(32, 32)
    with pytest.raises(UserError, match=r"^model\.layers\.1\.mlp\.extra: "):
        producers(model, quantizable(model))
    model = tiny_model("bloom")
    model.config.n_head = 5
    with pytest.raises(UserError, match=r"^transformer\.h\.0\.self_attention\.dense: "):
        producers(model, quantizable(model))
