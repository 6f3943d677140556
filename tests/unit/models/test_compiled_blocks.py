"""What is compiled of a model: one graph serves all blocks, attention in it is causal without a mask."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bitlaw.models.compiled import compile_blocks, is_compiled
from tiny import tiny_config, tiny_model

Graph = list[tuple[Any, Any]]


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Record mask and ``is_causal`` of each attention in each graph, and run graphs as they are."""
    found: list[Graph] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        calls = [node for node in graph.graph.nodes if "scaled_dot_product" in str(node.target)]
        found.append([(node.kwargs.get("attn_mask"), node.kwargs.get("is_causal")) for node in calls])
        return graph.forward

    compile_module = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda *args, **how: compile_module(*args, **how, backend=backend))
    torch._dynamo.reset()
    return found


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=torch.arange(32).view(2, 16), use_cache=False).logits
    return found


@pytest.mark.parametrize("family", ["gpt2", "opt", "llama", "gpt_neox", "qwen2"])
def test_attention_is_causal_without_a_mask(family: str, graphs: list[Graph]) -> None:
    model = tiny_model(family)
    plain = logits(model)
    assert not is_compiled(model)
    compile_blocks(model)
    assert is_compiled(model)
    assert torch.allclose(logits(model), plain, atol=1e-5)
    # One for both blocks, and one for the norm behind them where it is not torch's own.
    assert sorted(graphs) == [[]] * (family in {"llama", "qwen2"}) + [[(None, True)]]


@pytest.mark.parametrize(("family", "count"), [("bloom", 1), ("gemma2", 2), ("mpt", 1)])
def test_models_with_attention_of_their_own(family: str, count: int, graphs: list[Graph]) -> None:
    model = tiny_model(family)
    plain = logits(model)
    compile_blocks(model)
    assert torch.allclose(logits(model), plain, atol=1e-5)
    assert len(graphs) == count  # Gemma 2 has a norm of its own


def test_many_models_of_a_family(graphs: list[Graph]) -> None:
    from transformers import LlamaForCausalLM

    for width in range(4, 44, 4):
        config = tiny_config("llama")
        config.hidden_size, config.head_dim = width, 16
        model = LlamaForCausalLM(config).eval()
        compile_blocks(model)
        logits(model)
    assert len(graphs) == 2 * 10
