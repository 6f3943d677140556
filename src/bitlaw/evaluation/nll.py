"""Negative log-likelihood of a text under a causal language model, window by window; see ``spans``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bitlaw.evaluation.logits import token_losses
from bitlaw.evaluation.scorer import Scorer
from bitlaw.evaluation.spans import Span, batches, spans

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
    scorer = Scorer(model)
    sums: list[torch.Tensor] = []
    for group in batches(windows, batch):
        losses = [
            token_losses(scorer.raw_logits(rows), target) for rows, target in scorer.chunks(*scorer.states(ids, group))
        ]
        sums.append(window_sums(losses, group))
    return WindowLoss(list(windows), on_host(sums))


def window_sums(losses: Sequence[torch.Tensor], group: Sequence[Span]) -> torch.Tensor:
    """Return the sum in nats for each window of ``group``, (windows,) float64, on the device of ``losses``.

    Args:
        losses: pieces (k,) of the losses of the scored tokens.
        group: the windows.
    """
    whole, counts = torch.cat(list(losses)).double(), [span.end - span.first for span in group]
    if len(set(counts)) == 1:
        return whole.view(len(group), -1).sum(1)
    return torch.stack([part.sum() for part in whole.split(counts)])


def on_host(sums: Sequence[torch.Tensor]) -> list[float]:
    """Return the numbers in ``sums``, each (k,) float64, in one list: a GPU is waited for once, not at each batch."""
    found: list[float] = torch.cat(list(sums)).tolist()
    return found
