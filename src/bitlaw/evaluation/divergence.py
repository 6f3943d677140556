"""How far the token distribution of changed weights is from that of the model's own.

The Kullback-Leibler divergence ``sum_v P(v) log(P(v) / Q(v))`` from the model's own distribution P to that of the
changed weights, Q, and whether both put the same token first: they see damage that a mean loss hides, for a loss looks
at one token of the vocabulary and lets gains and losses cancel.

Only linears of the blocks change, never the head. So all that is needed of the unchanged model are its last hidden
states at the scored tokens; they are kept from cell to cell, as far as they fit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from bitlaw.evaluation.nll import WindowLoss, window_sums
from bitlaw.evaluation.scorer import Scorer
from bitlaw.evaluation.spans import Span, batches, spans

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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

    def targets(self, group: list[Span]) -> torch.Tensor:
        """Return the scored tokens of ``group``, (scored,) int64."""
        return torch.cat([self.ids[span.first : span.end] for span in group])


@dataclass
class Comparison:
    """The loss of changed weights, and their distance from the unchanged ones.

    Attributes:
        spans: the windows.
        sums: as in ``WindowLoss``.
        kl_sum: summed divergence over all scored tokens, nats.
        agreed: number of scored tokens at which both rate the same token highest.
    """

    spans: list[Span] = field(default_factory=list)
    sums: list[float] = field(default_factory=list)
    kl_sum: float = 0.0
    agreed: int = 0

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
def own_loss(model: PreTrainedModel, text: Text, key: Hashable) -> WindowLoss:
    """Return the loss of the unchanged model, as ``nll`` does, and keep what ``compare`` needs.

    Args:
        model: a causal language model in evaluation mode, with its own weights.
        text: what to score.
        key: stands for model, precision, device and text.
    """
    scorer, sums, kept = Scorer(model), list[float](), list[_Own]()
    groups, size = text.groups(), 0
    for group in groups:
        own, losses = _own(scorer, text, group)
        sums += losses
        size += own.nbytes
        kept = [*kept, own] if size <= KEPT_BYTES else []
    if size <= KEPT_BYTES:
        _keep(key, kept)
    return WindowLoss([span for group in groups for span in group], sums)


@torch.inference_mode()
def compare(
    model: PreTrainedModel, changed: Callable[[], AbstractContextManager[None]], text: Text, key: Hashable
) -> Comparison:
    """Return the loss of changed weights and their distance from the model's own.

    The unchanged model runs on the text only if what is needed of it has not been kept. The result does not depend on
    whether it has: it is made in the same batches.

    Args:
        model: a causal language model in evaluation mode, with its own weights.
        changed: lets the model compute with the changed weights inside a ``with`` block.
        text: what to score.
        key: stands for model, precision, device and text.
    """
    scorer, result = Scorer(model), Comparison()
    if key in _kept:
        _kept.move_to_end(key)
        with changed():
            for group, own in zip(text.groups(), _kept[key], strict=True):
                _add(result, scorer, text, group, own)
        return result
    waiting: list[tuple[list[Span], _Own]] = []
    size, whole = 0, True
    groups = text.groups()
    for group in groups:
        waiting.append((group, _own(scorer, text, group)[0]))
        size += waiting[-1][1].nbytes
        if size > KEPT_BYTES or group is groups[-1]:
            with changed():
                for each, own in waiting:
                    _add(result, scorer, text, each, own)
            whole = whole and size <= KEPT_BYTES
            if whole:
                _keep(key, [own for _, own in waiting])
            waiting, size, whole = [], 0, False
    return result


def forget() -> None:
    """Drop all that is kept of unchanged models."""
    _kept.clear()


def _own(scorer: Scorer, text: Text, group: list[Span]) -> tuple[_Own, list[float]]:
    """Return what is kept of the unchanged model for ``group``, and its loss in each window."""
    states, told = torch.cat(scorer.states(text.ids, group)), scorer.fused(_told)
    found = [told(scorer.raw_logits(rows), target) for rows, target in scorer.chunks(states, text.targets(group))]
    losses, entropies, tops = zip(*found, strict=True)
    return _Own(states, torch.cat(entropies), torch.cat(tops)), window_sums(losses, group)


def _told(logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return loss, negative entropy and most likely token at each of the rows of ``logits``."""
    log_p = logits.float().log_softmax(-1)
    return -log_p.gather(1, target[:, None])[:, 0], torch.linalg.vecdot(log_p.exp(), log_p), log_p.argmax(-1)


def _add(result: Comparison, scorer: Scorer, text: Text, group: list[Span], own: _Own) -> None:
    """Add the windows of ``group``, scored with the weights that the model has now, to ``result``."""
    states, losses, compared = torch.cat(scorer.states(text.ids, group)), [], scorer.fused(_compared)
    pieces = (states, own.states, own.negentropy, own.top, text.targets(group))
    for rows, own_rows, negentropy, top, target in scorer.chunks(*pieces):
        logits, own_logits = scorer.raw_logits(rows), scorer.raw_logits(own_rows)
        loss, kl, agreed = compared(logits, own_logits, negentropy, top, target)
        losses.append(loss)
        result.kl_sum += float(kl)
        result.agreed += int(agreed)
    result.spans += group
    result.sums += window_sums(losses, group)


def _compared(
    logits: torch.Tensor, own_logits: torch.Tensor, negentropy: torch.Tensor, top: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the loss at each row, the sum of the divergences, and at how many rows the same token is first."""
    log_q = logits.float().log_softmax(-1)
    kl = negentropy - torch.linalg.vecdot(own_logits.float().softmax(-1), log_q)
    # A tie for the highest counts as agreement.
    agreed = log_q.gather(1, top[:, None])[:, 0] == log_q.amax(-1)
    return -log_q.gather(1, target[:, None])[:, 0], kl.double().sum(), agreed.sum()


def _keep(key: Hashable, parts: list[_Own]) -> None:
    size = sum(own.nbytes for own in parts)
    while _kept and size + sum(own.nbytes for kept in _kept.values() for own in kept) > KEPT_BYTES:
        _kept.popitem(last=False)
    _kept[key] = parts
