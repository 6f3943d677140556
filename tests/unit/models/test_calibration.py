"""Calibration windows, and moments against the definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitlaw.errors import UserError
from bitlaw.models import calibration
from bitlaw.models.calibration import moments, sample_windows
from bitlaw.models.linears import quantizable
from tiny import tiny_model, tiny_tokenizer

# Linears that see the same tensor.
SHARED = {
    "gpt2": [["attn.c_attn"], ["attn.c_proj"], ["mlp.c_fc"], ["mlp.c_proj"]],
    "opt": [["self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj"], ["self_attn.out_proj"], ["fc1"], ["fc2"]],
    "bloom": [
        ["self_attention.query_key_value"],
        ["self_attention.dense"],
        ["mlp.dense_h_to_4h"],
        ["mlp.dense_4h_to_h"],
    ],
    "llama": [
        ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        ["self_attn.o_proj"],
        ["mlp.gate_proj", "mlp.up_proj"],
        ["mlp.down_proj"],
    ],
    "gpt_neox": [["attention.query_key_value"], ["attention.dense"], ["mlp.dense_h_to_4h"], ["mlp.dense_4h_to_h"]],
}


def windows(samples: int = 5, length: int = 24) -> torch.Tensor:
    return torch.randint(0, 320, (samples, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", sorted(SHARED))
def test_are_the_moments_of_each_input(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = tiny_model(family), windows()
    linears = quantizable(model)
    inputs: dict[str, list[torch.Tensor]] = {linear.name: [] for linear in linears}
    for linear in linears:
        linear.module.register_forward_pre_hook(lambda _, args, kept=inputs[linear.name]: kept.append(args[0].detach()))
    with torch.no_grad():
        for one in ids:
            model(one[None])
    seen = {name: torch.cat([x.reshape(-1, x.shape[-1]) for x in kept]).double() for name, kept in inputs.items()}
    monkeypatch.setattr(calibration, "BATCH_TOKENS", 48)  # two windows at a time, and a rest
    of, found = moments(model, linears, ids)
    for linear in linears:
        x = seen[linear.name]
        assert x.shape == (5 * 24, linear.shape[1])
        hessian, absmean = found[of[linear.name]].hessian, found[of[linear.name]].absmean
        assert hessian.dtype == absmean.dtype == torch.float32
        torch.testing.assert_close(absmean.double(), x.abs().mean(0), rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(hessian.double(), 2 / len(x) * x.T @ x, rtol=1e-4, atol=1e-5)
        assert torch.equal(hessian, hessian.T)
    assert sorted(set(of.values())) == list(range(len(found)))


@pytest.mark.parametrize("family", sorted(SHARED))
def test_linears_with_one_input_share_a_matrix(family: str) -> None:
    model = tiny_model(family)
    of, found = moments(model, quantizable(model), windows())
    assert len(found) == 2 * len(SHARED[family])
    groups: dict[int, list[str]] = {}
    for name, index in of.items():
        groups.setdefault(index, []).append(name)
    assert sorted(map(len, groups.values())) == sorted(len(group) for group in SHARED[family] for _ in range(2))
    for group in SHARED[family]:
        for layer in (0, 1):
            assert len({of[name] for name in of if any(name.endswith(f".{layer}.{end}") for end in group)}) == 1


def test_leaves_no_hook_and_names_what_no_token_reaches() -> None:
    model = tiny_model("llama")
    linears = quantizable(model)
    moments(model, linears, windows(1, 8))
    assert not any(linear.module._forward_pre_hooks for linear in linears)
    model.model.layers[1].mlp.forward = lambda x: x
    with pytest.raises(UserError, match="no calibration token reaches model.layers.1.mlp.gate_proj"):
        moments(model, linears, windows(1, 8))
    assert not any(linear.module._forward_pre_hooks for linear in linears)


TEXT = " ".join(f"word{i} of the text" for i in range(2000))


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 99))
def test_windows_are_runs_of_the_text_that_begin_at_words(length: int, samples: int, seed: int) -> None:
    tokenizer = tiny_tokenizer()
    found = sample_windows(tokenizer, TEXT, samples, length, seed)
    assert found.shape == (samples, length)
    for row in found:
        assert f" {tokenizer.decode(row).strip()}" in f" {TEXT}"
    assert torch.equal(found, sample_windows(tokenizer, TEXT, samples, length, seed))


def test_another_seed_gives_other_windows_and_all_stretches_are_seen() -> None:
    tokenizer = tiny_tokenizer()
    one, two = (sample_windows(tokenizer, TEXT, 8, 16, seed) for seed in (0, 1))
    assert not torch.equal(one, two)
    places = [TEXT.index(tokenizer.decode(row).strip()) for row in one]
    assert places == sorted(places)
    assert all(place // (len(TEXT) // 8) in (i - 1, i) for i, place in enumerate(places))


def test_short_texts() -> None:
    tokenizer = tiny_tokenizer()
    text = "the text"
    n = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert sample_windows(tokenizer, text, 50, n, seed=0).shape == (50, n)
    with pytest.raises(UserError, match=f"has {n} tokens; it takes {n + 1}"):
        sample_windows(tokenizer, text, 1, n + 1, seed=0)
