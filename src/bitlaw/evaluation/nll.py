"""Negative log-likelihood of a text under a causal language model, window by window.

Windows of ``window`` tokens begin at 0, ``stride``, 2 ``stride``, ...; each scores the tokens that no window before
it scored and that have at least one token of context in it. With ``stride < window`` every token but the first is
scored exactly once; with ``stride = window`` (disjoint windows, the protocol of GPTQ's and most papers' perplexities)
the first token of each window is not scored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn import functional

from bitlaw.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Logits are made for this many numbers at a time: they stay in the cache, and a vocabulary of 256k needs no memory.
CHUNK = 2**18


@dataclass(frozen=True)
class Span:
    """One window: it reads the tokens ``begin`` to ``end`` and scores those from ``first`` to ``end``."""

    begin: int
    first: int
    end: int


@dataclass(frozen=True)
class WindowLoss:
    """The loss of each window.

    Attributes:
        spans: the windows.
        sums: summed negative log-likelihood of each window's scored tokens, in nats; may be NaN or infinite.
    """

    spans: list[Span]
    sums: list[float]

    @property
    def counts(self) -> list[int]:
        """Number of scored tokens of each window."""
        return [span.end - span.first for span in self.spans]

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood of all scored tokens, nats per token; NaN or infinite if any sum is."""
        return sum(self.sums) / sum(self.counts)

    @property
    def finite(self) -> bool:
        """Whether the loss of every window is a finite number."""
        return all(math.isfinite(value) for value in self.sums)


def spans(n: int, window: int, stride: int) -> list[Span]:
    """Return the windows over ``n`` tokens that score at least one token.

    Raises:
        UserError: ``window`` under 2, ``stride`` not in 1..``window``, or a text of fewer than 2 tokens.
    """
    if window < 2 or not 1 <= stride <= window:
        raise UserError(
            f"a window of {window} tokens with stride {stride}: it takes window >= 2 and 1 <= stride <= window"
        )
    if n < 2:
        raise UserError(f"the text has {n} tokens; it takes 2 to score one")
    found, scored = [], 0
    for begin in range(0, n, stride):
        end = min(begin + window, n)
        first = max(scored, begin + 1)
        if first < end:
            found.append(Span(begin, first, end))
        scored = end
        if end == n:
            break
    return found


@torch.inference_mode()
def nll(model: PreTrainedModel, token_ids: torch.Tensor, window: int, stride: int, batch: int) -> WindowLoss:
    """Return the loss of ``model`` on a text.

    Args:
        model: a causal language model in evaluation mode.
        token_ids: (n,) int64.
        window: tokens a window reads, at most the model's context.
        stride: tokens between the beginnings of windows; each window scores ``stride`` tokens or one fewer.
        batch: windows at a time; changes the loss in the last digits of float32 at most.

    Raises:
        UserError: as ``spans``.
    """
    windows = spans(token_ids.shape[0], window, stride)
    ids = token_ids.to(model.device)
    scorer = _Scorer(model)
    sums: list[float] = []
    for group in _batches(windows, batch):
        inputs = torch.stack([ids[span.begin : span.end] for span in group])
        for span, losses in zip(group, scorer.losses(inputs, group), strict=True):
            assert losses.shape[0] == span.end - span.first
            sums.append(float(losses.double().sum()))
    return WindowLoss(windows, sums)


def _batches(windows: Sequence[Span], batch: int) -> Iterator[list[Span]]:
    # Only windows of equal length share a batch: no padding, so no mask and no difference.
    group: list[Span] = []
    for span in windows:
        if group and (len(group) == batch or span.end - span.begin != group[0].end - group[0].begin):
            yield group
            group = []
        group.append(span)
    yield group


class _Scorer:
    """Computes token losses, making logits only for scored tokens and a chunk at a time where the model allows it.

    Nearly every model ends with ``logits = head(hidden)``. That is checked on one token of each window; a model that
    does more after its head (soft caps, scaling) is asked for all its logits instead, one window at a time.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.head = cast("nn.Module | None", model.get_output_embeddings())

    def losses(self, inputs: torch.Tensor, group: Sequence[Span]) -> list[torch.Tensor]:
        hidden = self._hidden(inputs) if self.head is not None else None
        if hidden is None:
            self.head = None
            rows = [self.model(input_ids=one[None], use_cache=False).logits[0] for one in inputs]
            return [self._of_rows(*self._scored(r, i, s)) for r, i, s in zip(rows, inputs, group, strict=True)]
        scored = [self._scored(h, i, s) for h, i, s in zip(hidden, inputs, group, strict=True)]
        losses = self._of_rows(torch.cat([row for row, _ in scored]), torch.cat([target for _, target in scored]))
        return list(losses.split([target.shape[0] for _, target in scored]))

    def _hidden(self, inputs: torch.Tensor) -> torch.Tensor | None:
        """Return what the head sees, (batch, length, width), or None if logits are more than the head's output."""
        assert self.head is not None
        seen: list[torch.Tensor] = []

        def catch(module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            seen.append(args[0])
            return (args[0][:, :1],)

        handle = self.head.register_forward_pre_hook(catch)
        try:
            logits = self.model(input_ids=inputs, use_cache=False).logits
        finally:
            handle.remove()
        if len(seen) != 1 or seen[0].shape[:2] != inputs.shape:
            return None
        same = torch.allclose(logits, self.head(seen[0][:, :1]), rtol=0, atol=0, equal_nan=True)
        return seen[0] if same else None

    @staticmethod
    def _scored(rows: torch.Tensor, ids: torch.Tensor, span: Span) -> tuple[torch.Tensor, torch.Tensor]:
        # The row before a token predicts it.
        first, end = span.first - span.begin, span.end - span.begin
        return rows[first - 1 : end - 1], ids[first:end]

    def _of_rows(self, rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        step = max(1, CHUNK // int(self.model.config.get_text_config().vocab_size))
        losses = []
        for row, target in zip(rows.split(step), targets.split(step), strict=True):
            logits = row if self.head is None else self.head(row)
            losses.append(functional.cross_entropy(logits.float(), target, reduction="none"))
        return torch.cat(losses)
