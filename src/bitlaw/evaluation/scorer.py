"""What a causal language model says of the tokens of a text, without an array of tokens x vocabulary.

Nearly every model ends with ``logits = head(hidden)``, some with a soft cap or a scale behind it. So the body of the
model is run for whole windows, its last hidden states are kept for the scored tokens alone, and logits are made from
these a few rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, cast
from weakref import WeakKeyDictionary

import torch
from torch import nn

from bitlaw.models.compiled import is_compiled, unpacked

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from bitlaw.evaluation.spans import Span

# Logits are made for this many numbers at a time, on a CPU so that they stay in its cache, on a GPU so that it has
# enough to do; but for this many rows at least, as a product with fewer is slowed down by reading the head's weights.
# So a vocabulary of 256k takes 64 MiB on a CPU, and any takes 0.5 GiB on a GPU in 16 bits. Rows beyond a multiple of
# this are a product's tile for themselves.
CHUNK, CHUNK_ON_GPU, ROWS, ROWS_ON_GPU = 2**18, 2**28, 64, 256

_End = Literal["head", "tail", "nothing"]
_ends: WeakKeyDictionary[nn.Module, tuple[tuple[int, ...], _End]] = WeakKeyDictionary()
"""Of models that have been checked the hooks that they had, and what they end with."""


class Scorer:
    """Runs a model in two steps: ``states`` of the scored tokens, and logits of some of these, see ``logits``.

    That both steps make the model's own logits is checked on one token of each window of the first batch that has a
    logit which is a number, once for a model with the same hooks: it is a matter of code, not of tokens or of the
    weights of blocks, and a GPU has to be waited for. A model of which neither ``head(hidden)`` nor the head with what
    follows it does is asked for all logits of a window at once instead; its states are then the logits.

    Args:
        model: a causal language model in evaluation mode; its hooks stay as they are meanwhile.
        count: how many variants it computes at once, of batches one behind the other; see ``models.variants``.
    """

    def __init__(self, model: PreTrainedModel, count: int = 1) -> None:
        self.model, self.count = model, count
        self.head = cast("nn.Module | None", model.get_output_embeddings())
        hooks, known = _ends.get(model, ((), "nothing"))
        self._checked = model in _ends and hooks == self._hooks()
        self.ends_with: _End = known if self._checked else "head" if self.head is not None else "nothing"
        self.compiled = is_compiled(model)
        self._shape: tuple[int, ...] = (0, 0)

    def _hooks(self) -> tuple[int, ...]:
        """Return the numbers of the hooks on model and head, which are never given twice."""
        parts = [part for part in (self.model, self.head) if part is not None]
        return tuple(number for part in parts for number in (*part._forward_hooks, *part._forward_pre_hooks))

    def states(self, ids: torch.Tensor, group: Sequence[Span]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what logits of the scored tokens follow from, by ``logits``, and these tokens.

        Args:
            ids: (n,) int64, the whole text, on the model's device.
            group: windows of one length, one stride apart; see ``spans.batches``.

        Returns:
            (scored, width) and (scored,) int64, window after window.
        """
        (found,), targets = self.states_of_each(ids, group)
        return found, targets

    def states_of_each(self, ids: torch.Tensor, group: Sequence[Span]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return what logits follow from, (scored, width) for each of the model's variants, and tokens; see ``states``.

        Args:
            ids: (n,) int64.
            group: windows.
        """
        inputs = windows(ids, group)
        targets = _scored(inputs, group, 0)
        if self.compiled:
            inputs = self._filled(inputs)
        hidden = self._hidden(inputs.repeat(self.count, 1)) if self.ends_with != "nothing" else None
        each: Iterable[torch.Tensor | list[torch.Tensor]]
        if hidden is not None:
            each = hidden.split(len(inputs))
        else:
            self.ends_with = "nothing"
            by_window = [self._logits(one.expand(self.count, -1)) for one in inputs[: len(group)]]
            each = [list(found) for found in zip(*by_window, strict=True)]
        # The row before a token predicts it.
        return [_scored(found, group, 1) for found in each], targets

    def _logits(self, inputs: torch.Tensor) -> torch.Tensor:
        return cast("torch.Tensor", self.model(input_ids=inputs, use_cache=False).logits)

    def _filled(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return ``inputs`` with tokens behind its windows and windows behind its last one, up to the largest shape.

        A compiled model would be compiled anew for another shape; what follows a token does not change it.
        """
        rows, columns = inputs.shape
        self._shape = (max(rows, self._shape[0]), max(columns, self._shape[1]))
        if self._shape == (rows, columns):
            return inputs
        return nn.functional.pad(inputs, (0, self._shape[1] - columns, 0, self._shape[0] - rows))

    def chunks(self, *rows: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
        """Yield ``rows``, all of one length, as pieces whose logits may be made at once."""
        vocabulary = int(self.model.config.get_text_config().vocab_size)
        if self.model.device.type == "cpu":
            step = max(ROWS, CHUNK // vocabulary)
        else:
            step = max(ROWS_ON_GPU, CHUNK_ON_GPU // vocabulary // ROWS_ON_GPU * ROWS_ON_GPU)
        yield from zip(*(row.split(step) for row in rows), strict=True)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the logits, (n, vocabulary) float32, of ``states``, (n, width)."""
        return self.raw_logits(states).float()

    def raw_logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the logits as the model makes them, (n, vocabulary) in its own dtype, of ``states``, (n, width)."""
        if self.ends_with == "nothing":
            return states
        return self._tail(states[None])[0] if self.ends_with == "tail" else self._head(states)

    def _head(self, states: torch.Tensor) -> torch.Tensor:
        assert self.head is not None
        return cast("torch.Tensor", self.head(states))

    def _hidden(self, inputs: torch.Tensor) -> torch.Tensor | None:
        """Return what the head sees, (batch, length, width), or None if the logits cannot be had from it."""
        assert self.head is not None
        seen: list[torch.Tensor] = []

        def catch(module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            seen.append(args[0])
            return (args[0][:, :1],)

        handle = self.head.register_forward_pre_hook(catch)
        try:
            with unpacked():
                logits = self.model(input_ids=inputs, use_cache=False).logits
        finally:
            handle.remove()
        if len(seen) != 1 or seen[0].shape[:2] != inputs.shape:
            return None
        if self._checked:
            return seen[0]
        for name, end in (("head", self._head), ("tail", self._tail)):
            made = end(seen[0][:, :1])
            if made.shape == logits.shape and torch.allclose(logits, made, rtol=0, atol=0, equal_nan=True):
                self.ends_with = cast("_End", name)
                self._checked = not bool(made.isnan().all())
                if self._checked:
                    _ends[self.model] = self._hooks(), self.ends_with
                return seen[0]
        return None

    def _tail(self, states: torch.Tensor) -> torch.Tensor:
        """Return what the model makes of ``states``, (batch, n, width), from its head on, (batch, n, vocabulary)."""
        assert self.head is not None
        handle = self.head.register_forward_pre_hook(lambda module, args: (states,))
        try:
            return self._logits(torch.zeros(self.count, 1, dtype=torch.int64, device=states.device))
        finally:
            handle.remove()


def windows(ids: torch.Tensor, group: Sequence[Span]) -> torch.Tensor:
    """Return the tokens of ``group``, (windows, length); for arguments see ``Scorer.states``."""
    step = group[1].begin - group[0].begin if len(group) > 1 else 1
    whole = ids[group[0].begin : group[-1].end]
    return whole.unfold(0, group[0].end - group[0].begin, step).contiguous()


def _scored(rows: torch.Tensor | list[torch.Tensor], group: Sequence[Span], before: int) -> torch.Tensor:
    """Return what belongs to the scored tokens of ``group``, (scored, ...), or to the tokens ``before`` these.

    Args:
        rows: of all tokens, (windows, length, ...), or a list of (length, ...); may have more behind these.
        group: the windows.
        before: how many tokens before.
    """
    first = [span.first - span.begin - before for span in group]
    last = group[0].end - group[0].begin - before
    if isinstance(rows, torch.Tensor) and len(set(first)) == 1:
        # A copy, which holds no memory but its own.
        return rows[: len(group), first[0] : last].clone(memory_format=torch.contiguous_format).flatten(0, 1)
    return torch.cat([row[start:last] for row, start in zip(rows, first, strict=False)])
