"""Distance of token distributions, against the definition."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch

from bitlaw.evaluation import divergence as module
from bitlaw.evaluation import scorer
from bitlaw.evaluation.divergence import Text, compare, forget, own_loss
from bitlaw.evaluation.nll import nll
from bitlaw.evaluation.spans import spans
from bitlaw.models.linears import quantizable, swapped
from tiny import tiny_model

Change = Callable[[], AbstractContextManager[None]]


def text(n: int, window: int = 24, stride: int = 20, batch: int = 3) -> Text:
    return Text(torch.randint(0, 320, (n,), generator=torch.Generator().manual_seed(n)), window, stride, batch)


def changed(model: Any, size: float) -> Change:
    generator = torch.Generator().manual_seed(1)
    linears = quantizable(model)
    weights = {each.name: each.weight() + size * torch.randn(each.shape, generator=generator) for each in linears}
    return lambda: swapped(linears, weights)


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    forget()


@torch.no_grad()
def slow(model: Any, change: Change, on: Text) -> tuple[float, float]:
    """Return divergence and agreement, with all logits in float64."""
    divergence, agreed, count = 0.0, 0, 0
    for span in spans(len(on.ids), on.window, on.stride):
        ids = on.ids[None, span.begin : span.end]
        own = model(ids).logits[0].double().log_softmax(-1)
        with change():
            other = model(ids).logits[0].double().log_softmax(-1)
        for token in range(span.first, span.end):
            p, q = own[token - span.begin - 1], other[token - span.begin - 1]
            divergence += float((p.exp() * (p - q)).sum())
            agreed += int(p.argmax() == q.argmax())
            count += 1
    return divergence / count, agreed / count


@pytest.mark.parametrize("family", ["gpt2", "opt", "bloom", "llama", "gpt_neox", "gemma2", "mpt"])
@pytest.mark.parametrize("size", [0.2, 0.003])
def test_equals_the_definition(family: str, size: float) -> None:
    model, on = tiny_model(family), text(130)
    change = changed(model, size)
    kl, agreement = slow(model, change, on)
    result = compare(model, change, on, "key")
    assert result.kl == pytest.approx(kl, rel=1e-3, abs=1e-6)
    assert result.top1_agreement == agreement
    with change():
        expected = nll(model, on.ids, on.window, on.stride, on.batch)
    assert (result.loss.sums, result.loss.spans) == (expected.sums, expected.spans)


def test_a_model_without_a_head_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model, on = tiny_model("llama"), text(130)
    change = changed(model, 0.2)
    expected = compare(model, change, on, "key")
    monkeypatch.setattr(scorer.Scorer, "_hidden", lambda *_: None)
    result = compare(model, change, on, "other")
    assert result.kl == pytest.approx(expected.kl, rel=1e-5)
    assert result.top1_agreement == expected.top1_agreement
    assert result.loss.nll == pytest.approx(expected.loss.nll, abs=1e-6)


def test_unchanged_weights_are_at_no_distance() -> None:
    model, on = tiny_model("llama"), text(130)
    result = compare(model, changed(model, 0.0), on, "key")
    assert abs(result.kl) < 1e-6 and result.top1_agreement == 1.0
    assert result.loss.sums == nll(model, on.ids, on.window, on.stride, on.batch).sums


def test_what_is_kept_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, on = tiny_model("gpt2"), text(300)
    change = changed(model, 0.1)
    runs: list[int] = []
    model.register_forward_hook(lambda *_: runs.append(1))
    first = compare(model, change, on, "key")
    both, _ = len(runs), runs.clear()
    assert compare(model, change, on, "key") == first
    assert len(runs) * 2 == both
    forget()
    assert own_loss(model, on, "key") == nll(model, on.ids, on.window, on.stride, on.batch)
    runs.clear()
    assert compare(model, change, on, "key") == first
    assert len(runs) * 2 == both
    for limit in (1, 20_000):  # nothing fits; some windows do
        forget()
        monkeypatch.setattr(module, "KEPT_BYTES", limit)
        assert compare(model, change, on, "key") == first
        assert own_loss(model, on, "key").sums == nll(model, on.ids, on.window, on.stride, on.batch).sums
        assert not module._kept


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model, on = tiny_model("gpt2"), text(300)
    own_loss(model, on, 0)
    one = sum(own.nbytes for own in module._kept[0])
    monkeypatch.setattr(module, "KEPT_BYTES", int(2.5 * one))
    for key in (1, 0, 2, 3):
        compare(model, changed(model, 0.1), on, key)
        assert sum(own.nbytes for kept in module._kept.values() for own in kept) <= module.KEPT_BYTES
    assert list(module._kept) == [2, 3]
    # Held is what belongs to the scored tokens, and not the memory of all hidden states behind a view.
    held = {own.states.untyped_storage().nbytes() == own.states.nbytes for own in module._kept[3]}
    assert held == {True}


def test_does_not_depend_on_the_batch() -> None:
    model = tiny_model("llama")
    change = changed(model, 0.05)
    one = compare(model, change, text(170, batch=1), 1)
    for batch in (2, 3, 8, 100):
        other = compare(model, change, text(170, batch=batch), batch)
        assert other.kl == pytest.approx(one.kl, abs=1e-5)
        assert other.top1_agreement == one.top1_agreement
        assert other.loss.nll == pytest.approx(one.loss.nll, abs=1e-5)


def test_no_array_of_tokens_by_vocabulary_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    for family in ("llama", "gemma2"):
        model, on, rows = tiny_model(family), text(130), []
        monkeypatch.setattr(scorer, "CHUNK", 320 * 10)
        monkeypatch.setattr(scorer, "ROWS", 10)
        model.lm_head.register_forward_hook(lambda _, args, out, rows=rows: rows.append(out.numel() // 320))
        compare(model, changed(model, 0.1), on, family)
        assert max(rows) <= 10


def test_broken_weights_are_seen() -> None:
    model, on = tiny_model("llama"), text(60)
    linears = quantizable(model)
    weights = {each.name: torch.full(each.shape, torch.nan) for each in linears[:1]}
    result = compare(model, lambda: swapped(linears, weights), on, "key")
    assert not result.loss.finite
    assert result.kl != result.kl and result.top1_agreement == 0.0
