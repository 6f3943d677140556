"""The loss of a text against slow and obvious references."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitlaw.errors import UserError
from bitlaw.evaluation import scorer as module
from bitlaw.evaluation.nll import nll
from bitlaw.evaluation.scorer import Scorer
from bitlaw.evaluation.spans import Span, spans
from tiny import tiny_model

FAMILIES = ("gpt2", "opt", "bloom", "llama", "gpt_neox", "gemma2", "mpt")


def text(n: int) -> torch.Tensor:
    return torch.randint(0, 320, (n,), generator=torch.Generator().manual_seed(n))


@torch.no_grad()
def slow(model: Any, ids: torch.Tensor, window: int, stride: int) -> dict[int, float]:
    """Return nats by scored token, each from a run of its own over just the tokens before it in its window."""
    losses: dict[int, float] = {}
    for begin in range(0, len(ids), stride):
        for token in range(begin + 1, min(begin + window, len(ids))):
            if token not in losses:
                logits = model(ids[None, begin:token]).logits[0, -1].double()
                losses[token] = float(-torch.log_softmax(logits, 0)[ids[token]])
        if begin + window >= len(ids):
            break
    return losses


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("window, stride", [(16, 16), (16, 15), (16, 5), (7, 1)])
def test_equals_one_token_at_a_time(family: str, window: int, stride: int) -> None:
    model, ids = tiny_model(family), text(37)
    expected = slow(model, ids, window, stride)
    loss = nll(model, ids, window, stride, batch=3)
    assert sum(loss.counts) == len(expected)
    assert loss.nll == pytest.approx(sum(expected.values()) / len(expected), abs=2e-5)
    for span, total in zip(loss.spans, loss.sums, strict=True):
        assert total == pytest.approx(sum(expected[t] for t in range(span.first, span.end)), abs=2e-4)
    assert loss.finite


@pytest.mark.parametrize("family", FAMILIES)
def test_one_window_equals_the_loss_of_transformers(family: str) -> None:
    model, ids = tiny_model(family), text(50)
    with torch.no_grad():
        expected = float(model(ids[None], labels=ids[None]).loss)
    assert nll(model, ids, 50, 50, 1).nll == pytest.approx(expected, abs=1e-5)
    assert nll(model, ids, 64, 1, 1).nll == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_does_not_depend_on_the_batch(family: str) -> None:
    model, ids = tiny_model(family), text(170)
    one = nll(model, ids, 24, 20, 1)
    for batch in (2, 3, 8, 100):
        other = nll(model, ids, 24, 20, batch)
        assert other.nll == pytest.approx(one.nll, abs=1e-5)
        assert other.sums == pytest.approx(one.sums, abs=1e-4)
        assert other.counts == one.counts


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_does_not_depend_on_the_chunk(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = tiny_model(family), text(100)
    monkeypatch.setattr(module, "ROWS", 1)
    whole = nll(model, ids, 32, 32, 4).nll
    for chunk in (1, 320 * 3, 320 * 1000):
        monkeypatch.setattr(module, "CHUNK", chunk)
        assert nll(model, ids, 32, 32, 4).nll == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("family", ["llama", "gemma2"])  # a bare head, and one with a soft cap behind it
def test_logits_are_never_made_for_the_whole_batch(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids, rows = tiny_model(family), text(128), []
    monkeypatch.setattr(module, "CHUNK", 320 * 10)
    monkeypatch.setattr(module, "ROWS", 10)
    model.lm_head.register_forward_hook(lambda _, args, out: rows.append(out.numel() // 320))
    nll(model, ids, 32, 32, 4)
    assert max(rows) <= 10


@pytest.mark.parametrize(("family", "end"), [("gpt2", "head"), ("mpt", "head"), ("gemma2", "tail")])
def test_how_a_model_ends_is_found_out(family: str, end: str) -> None:
    scorer, ids = Scorer(tiny_model(family)), text(16)
    with torch.no_grad():
        states, targets = scorer.states(ids, [Span(0, 1, 16)])
        assert torch.equal(targets, ids[1:])
        expected = scorer.model(ids[None]).logits[0, :-1]
        assert scorer.ends_with == end
        assert torch.allclose(scorer.logits(states), expected, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_how_a_model_ends_is_looked_at_once(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And again as long as all that it gave was NaN, which every end equals."""
    model, ids, looks = tiny_model(family), text(100), []
    equal = torch.allclose
    monkeypatch.setattr(torch, "allclose", lambda *args, **how: looks.append(1) or equal(*args, **how))
    plain = nll(model, ids, 16, 16, 2)
    assert len(looks) == (1 if family == "llama" else 2)
    nll(model, ids, 16, 16, 1)
    assert len(looks) == (1 if family == "llama" else 2)
    looks.clear()
    model = tiny_model(family)
    with torch.no_grad():
        embedding = model.model.embed_tokens.weight = torch.nn.Parameter(model.model.embed_tokens.weight.clone())
        embedding[ids[:20]] = math.nan  # the first window, and tokens of others
    loss = nll(model, ids, 16, 16, 1)
    assert len(looks) > 1
    finite = [i for i, total in enumerate(loss.sums) if math.isfinite(total)]
    assert finite and [loss.sums[i] for i in finite] == pytest.approx([plain.sums[i] for i in finite], abs=1e-3)


def test_a_model_that_ends_otherwise_is_asked_for_all_its_logits() -> None:
    model, ids = tiny_model("llama"), text(40)
    plain = nll(model, ids, 16, 16, 2).nll

    def look_back(module: Any, args: Any, given: dict[str, torch.Tensor], out: Any) -> None:
        seen = model.get_input_embeddings()(given["input_ids"]).mean(-1, keepdim=True)
        out.logits = out.logits + 3 * seen[:, : out.logits.shape[1]] * torch.linspace(-1, 1, 320)

    handle = model.register_forward_hook(look_back, with_kwargs=True)
    odd = nll(model, ids, 16, 16, 2)
    with torch.no_grad():
        windows = [ids[start : start + 16] for start in (0, 16, 32)]
        rows = [(model(input_ids=w[None]).logits[0, :-1], w[1:]) for w in windows]
    handle.remove()
    losses = [torch.nn.functional.cross_entropy(logits, target, reduction="sum") for logits, target in rows]
    assert odd.nll == pytest.approx(float(sum(losses)) / sum(odd.counts), abs=1e-5)
    assert abs(odd.nll - plain) > 1e-3


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_bfloat16_is_near_float32(family: str) -> None:
    model, ids = tiny_model(family, spread=0.05), text(170)
    exact = nll(model, ids, 24, 20, 4).nll
    for batch in (1, 3, 8):
        assert nll(model.to(torch.bfloat16), ids, 24, 20, batch).nll == pytest.approx(exact, abs=0.02)


def test_leaves_no_hook_behind() -> None:
    model = tiny_model("llama")
    nll(model, text(20), 16, 16, 2)
    assert not model.lm_head._forward_pre_hooks
    model.model.layers[0].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        nll(model, text(20), 16, 16, 2)
    assert not model.lm_head._forward_pre_hooks


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_broken_model_has_a_broken_loss(value: float) -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = value
    loss = nll(model, text(40), 16, 16, 2)
    assert not loss.finite
    assert not math.isfinite(loss.nll)


def test_one_broken_window_is_seen() -> None:
    model, ids = tiny_model("gpt2"), text(48) % 300
    ids[20] = 310
    with torch.no_grad():
        model.transformer.wte.weight = torch.nn.Parameter(model.transformer.wte.weight.clone())  # untied from the head
        model.transformer.wte.weight[310] = math.nan
    loss = nll(model, ids, 16, 16, 3)
    assert [math.isfinite(total) for total in loss.sums] == [True, False, True]
    assert not loss.finite and math.isnan(loss.nll)


@given(st.integers(2, 300), st.integers(2, 60), st.data())
def test_every_token_is_scored_once(n: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, window))
    found = spans(n, window, stride)
    scored = [token for span in found for token in range(span.first, span.end)]
    assert scored == sorted(set(scored))
    for span in found:
        assert span.begin % stride == 0
        assert span.begin < span.first < span.end <= min(span.begin + window, n)
    missed = set(range(n)) - set(scored)
    assert missed == ({0} if stride < window else set(range(0, n, window)))


def test_impossible_windows() -> None:
    for n, window, stride in ((10, 1, 1), (10, 4, 0), (10, 4, 5), (1, 4, 4), (0, 4, 4)):
        with pytest.raises(UserError):
            spans(n, window, stride)


def test_no_batch_is_searched_for_packed_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would cost a wait for the GPU; that the losses are the same is in all other tests."""
    from transformers import masking_utils

    asked: list[int] = []
    own = masking_utils.find_packed_sequence_indices
    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", lambda ids: asked.append(1) or own(ids))
    counted = masking_utils.find_packed_sequence_indices
    model, ids = tiny_model("llama"), text(40)
    nll(model, ids, 16, 16, 2)
    assert not asked
    assert masking_utils.find_packed_sequence_indices is counted
    model(input_ids=ids[None, :16], use_cache=False)
    assert asked
