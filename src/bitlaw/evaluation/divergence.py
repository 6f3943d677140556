"""How far the token distribution of changed weights is from that of the model's own.

The Kullback-Leibler divergence ``sum_v P(v) log(P(v) / Q(v))`` from the model's own distribution P to that of the
changed weights, Q, and whether both put the same token first: they see damage that a mean loss hides, for a loss looks
at one token of the vocabulary and lets gains and losses cancel.

Only linears of the blocks change, never the head. So all that is needed of the unchanged model are its last hidden
states at the scored tokens; they are kept from cell to cell, as far as they fit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bitlaw.evaluation.logits import compared, described
from bitlaw.evaluation.nll import WindowLoss, on_host, window_sums
from bitlaw.evaluation.scorer import Scorer
from bitlaw.evaluation.spans import Span, batches, spans
from bitlaw.models.variants import variants

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from bitlaw.models.linears import Swap

KEPT_BYTES = 2**30
"""Memory that the states of unchanged models may take, of all together and of one text while it is scored."""


@dataclass(frozen=True)
class Text:
    """Tokens and how they are scored.

    Attributes:
        ids: (n,) int64, on the model's device.
        window: tokens a window reads.
        stride: tokens between the beginnings of windows.
        batch: windows at a time.
    """

    ids: torch.Tensor
    window: int
    stride: int
    batch: int

    def groups(self) -> list[list[Span]]:
        """Return the windows, in batches."""
        return list(batches(spans(self.ids.shape[0], self.window, self.stride), self.batch))


@dataclass(frozen=True)
class Comparison:
    """The loss of changed weights, and their distance from the unchanged ones.

    Attributes:
        spans: the windows.
        sums: as in ``WindowLoss``.
        kl_sum: summed divergence over all scored tokens, nats.
        agreed: number of scored tokens at which both rate the same token highest.
    """

    spans: list[Span]
    sums: list[float]
    kl_sum: float
    agreed: int

    @property
    def loss(self) -> WindowLoss:
        """The loss of the changed weights."""
        return WindowLoss(self.spans, self.sums)

    @property
    def kl(self) -> float:
        """Mean Kullback-Leibler divergence KL(unchanged || changed), nats per token; NaN if a distribution is none."""
        return self.kl_sum / sum(self.loss.counts)

    @property
    def top1_agreement(self) -> float:
        """Share of scored tokens at which the most likely token is the same."""
        return self.agreed / sum(self.loss.counts)


@dataclass(frozen=True)
class _Own:
    """What is kept of the unchanged model for the scored tokens of one batch of windows.

    Attributes:
        states: (tokens, width), what its logits follow from; see ``Scorer``.
        negentropy: (tokens,) float32, ``sum_v P(v) log P(v)``.
        top: (tokens,) int64, the most likely token.
    """

    states: torch.Tensor
    negentropy: torch.Tensor
    top: torch.Tensor

    @property
    def nbytes(self) -> int:
        return self.states.nbytes + self.negentropy.nbytes + self.top.nbytes


_kept: OrderedDict[Hashable, list[_Own]] = OrderedDict()


@torch.inference_mode()
def own_loss(model: PreTrainedModel, text: Text, key: Hashable, count: int = 1) -> WindowLoss:
    """Return the loss of the unchanged model, as ``nll`` does, and keep what ``compare`` needs.

    Args:
        model: a causal language model in evaluation mode, with its own weights.
        text: what to score.
        key: stands for model, precision, device, text and ``count``.
        count: as for ``compare_all``; the loss is made as those that it will be compared with.
    """
    both, sums, kept = _Both(model, count), list[torch.Tensor](), list[_Own]()
    groups, size = text.groups(), 0
    for group in groups:
        own, losses = both.own(text, group)
        sums.append(losses)
        size += own.nbytes
        kept = [*kept, own] if size <= KEPT_BYTES else []
    if size <= KEPT_BYTES:
        _keep(key, kept)
    return WindowLoss([span for group in groups for span in group], on_host(sums))


def compare(model: PreTrainedModel, changed: Swap, text: Text, key: Hashable) -> Comparison:
    """Return the loss of changed weights and their distance from the model's own; see ``compare_all``."""
    return compare_all(model, [changed], text, key)[0]


@torch.inference_mode()
def compare_all(
    model: PreTrainedModel, changes: Sequence[Swap], text: Text, key: Hashable, count: int = 1
) -> list[Comparison]:
    """Return for each of ``changes`` the loss of changed weights and their distance from the model's own.

    The unchanged model runs on the text only if what is needed of it has not been kept. The result does not depend on
    whether it has: it is made in the same batches. Nor does it depend on what else is among ``changes``.

    Args:
        model: a causal language model in evaluation mode, with its own weights.
        changes: each lets the model compute with changed weights inside a ``with`` block.
        text: what to score.
        key: stands for model, precision, device, text and ``count``.
        count: how many changes go through the model in one pass; it changes the last digits.

    Raises:
        UserError: the model cannot compute several together; see ``models.variants``.
    """
    both, found = _Both(model, count), list[Comparison]()
    for start in range(0, len(changes), count):
        found += _compare(both, changes[start : start + count], text, key)
    return found


def _compare(both: _Both, changes: Sequence[Swap], text: Text, key: Hashable) -> list[Comparison]:
    """Return what ``compare_all`` does, of ``changes`` that go through the model in one pass."""
    sums = [_Sums() for _ in changes]
    if key in _kept:
        _kept.move_to_end(key)
        with both.variants.holding(changes):
            for group, own in zip(text.groups(), _kept[key], strict=True):
                both.add(sums, text, group, own)
        return [one.comparison() for one in sums]
    waiting: list[tuple[list[Span], _Own]] = []
    size, whole = 0, True
    groups = text.groups()
    for group in groups:
        waiting.append((group, both.own(text, group)[0]))
        size += waiting[-1][1].nbytes
        if size > KEPT_BYTES or group is groups[-1]:
            with both.variants.holding(changes):
                for each, own in waiting:
                    both.add(sums, text, each, own)
            whole = whole and size <= KEPT_BYTES
            if whole:
                _keep(key, [own for _, own in waiting])
            waiting, size, whole = [], 0, False
    return [one.comparison() for one in sums]


def forget() -> None:
    """Drop all that is kept of unchanged models."""
    _kept.clear()


class _Both:
    """A model with its own weights, and with others.

    Args:
        model: a causal language model in evaluation mode.
        count: sets of other weights that it computes with in one pass.
    """

    def __init__(self, model: PreTrainedModel, count: int) -> None:
        self.variants = variants(model, count)
        self._scorer = Scorer(self.variants.model, count)

    def own(self, text: Text, group: list[Span]) -> tuple[_Own, torch.Tensor]:
        """Return what is kept of the unchanged model for ``group``, and its loss in each window."""
        with self.variants.holding([nullcontext]):
            (states, *_), targets = self._scorer.states_of_each(text.ids, group)
        pieces = self._scorer.chunks(states, targets)
        found = [described(self._scorer.raw_logits(rows), target) for rows, target in pieces]
        losses, entropies, tops = zip(*found, strict=True)
        return _Own(states, torch.cat(entropies), torch.cat(tops)), window_sums(losses, group)

    def add(self, sums: Sequence[_Sums], text: Text, group: list[Span], own: _Own) -> None:
        """Add to each of ``sums`` the windows of ``group``, scored with one of the sets of weights there are now."""
        scorer = self._scorer
        states, targets = scorer.states_of_each(text.ids, group)
        found: list[list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]] = [[] for _ in sums]
        pieces = scorer.chunks(own.states, own.negentropy, own.top, targets, *states[: len(sums)])
        for own_rows, negentropy, top, target, *each in pieces:
            own_logits = scorer.raw_logits(own_rows)  # once for all
            for parts, rows in zip(found, each, strict=True):
                parts.append(compared(scorer.raw_logits(rows), own_logits, negentropy, top, target))
        for one, parts in zip(sums, found, strict=True):
            one.add(group, parts)


class _Sums:
    """What a comparison is made of, one entry for each batch, on the device until the end."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.losses: list[torch.Tensor] = []
        self.distances: list[torch.Tensor] = []

    def add(self, group: list[Span], parts: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> None:
        """Add what ``compared`` says of the scored tokens of ``group``, piece by piece."""
        losses, divergences, agreed = zip(*parts, strict=True)
        self.spans += group
        self.losses.append(window_sums(losses, group))
        self.distances.append(torch.stack([torch.cat(parts).double().sum() for parts in (divergences, agreed)]))

    def comparison(self) -> Comparison:
        """Return the sums over all batches."""
        kl, agreed = torch.stack(self.distances).sum(0).tolist()
        return Comparison(self.spans, on_host(self.losses), kl, int(agreed))


def _keep(key: Hashable, parts: list[_Own]) -> None:
    size = sum(own.nbytes for own in parts)
    while _kept and size + sum(own.nbytes for kept in _kept.values() for own in kept) > KEPT_BYTES:
        _kept.popitem(last=False)
    _kept[key] = parts
