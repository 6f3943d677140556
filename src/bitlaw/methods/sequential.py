"""Quantizing transformer blocks one after the other, each on what the quantized blocks before it put out.

Frantar et al. 2023 (arXiv 2210.17323), section 4: "we always load one Transformer block at a time, accumulate the
layer-Hessians, quantize, and send the inputs through the fully quantized block again to produce the new inputs for the
next block". Each block runs three times on the calibration text: once in the whole model, which shows the arguments
that blocks are called with, once for its Hessians and once quantized.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from bitlaw.errors import UserError
from bitlaw.methods.stored import StoredLinear
from bitlaw.models.calibration import batches, moments_of
from bitlaw.models.linears import Linear, blocks, swapped

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from bitlaw.formats.base import Quantized
    from bitlaw.methods.work import Inputs, Work


@dataclass(frozen=True, eq=False)
class Call:
    """What a block is called with, but for its first argument, the hidden states."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def quantize_blocks(
    work: Work,
    known: Callable[[Tensor, list[Linear]], Mapping[str, Inputs]],
    rounded: Callable[[Linear, Inputs], tuple[Quantized | StoredLinear, dict[str, Any]]],
) -> Iterator[tuple[Linear, StoredLinear, dict[str, Any]]]:
    """Yield the linears of ``work`` block by block, with their quantized weights and what is worth knowing.

    All linears of a block are rounded on Hessians that the block gives with its own weights unquantized.

    Args:
        work: the model and the calibration windows.
        known: returns, by name, what is known of the inputs of linears that share a Hessian, (in, in) float32.
        rounded: rounds a linear.

    Raises:
        UserError: blocks that are not a chain, or what ``known`` and ``rounded`` say.
    """
    if work.windows is None:
        raise ValueError("quantizing block by block needs the calibration windows")
    prefix, chain = blocks(work.model)
    hidden, calls = capture(work.model, chain, work.windows)
    for i, block in enumerate(chain):
        linears = [linear for linear in work.linears if linear.name.startswith(f"{prefix}.{i}.")]
        weights: dict[str, Tensor] = {}
        runs = [partial(_run, block, x, call[i]) for x, call in zip(hidden, calls, strict=True)]
        of, moments = moments_of(linears, runs[0], runs, work.model.device)
        for index, one in enumerate(moments):
            sharing = [linear for linear in linears if of[linear.name] == index]
            inputs = known(one.hessian, sharing)
            for linear in sharing:
                result, info = rounded(linear, inputs[linear.name])
                stored = StoredLinear.of(result)
                weights[linear.name] = stored.weight()
                yield linear, stored, info
        with swapped(linears, weights):
            hidden = [run() for run in runs]


@torch.no_grad()
def capture(
    model: PreTrainedModel, chain: nn.ModuleList, windows: Tensor
) -> tuple[list[Tensor], list[tuple[Call, ...]]]:
    """Run ``model`` on ``windows`` and return what its blocks are called with, batch by batch.

    Args:
        model: a causal language model in evaluation mode.
        chain: its blocks.
        windows: (samples, length) int64 token ids.

    Returns:
        The hidden states that the first block gets, and all blocks' other arguments. Arguments that are the same for
        all batches (masks, positions) are kept once.

    Raises:
        UserError: the blocks are not a chain, each getting as its first argument what the one before it put out.
    """
    hidden: list[Tensor] = []
    calls: list[tuple[Call, ...]] = []
    for ids in batches(windows):
        recorder = _Recorder()
        handles = [block.register_forward_pre_hook(recorder.before, with_kwargs=True) for block in chain]
        handles += [block.register_forward_hook(recorder.after) for block in chain]
        try:
            model(input_ids=ids.to(model.device), use_cache=False, logits_to_keep=1)
        finally:
            for handle in handles:
                handle.remove()
        if recorder.first is None or len(recorder.calls) != len(chain):
            raise UserError(
                f"the blocks of {type(model).__name__} are not a chain; it cannot be quantized block by block"
            )
        hidden.append(recorder.first)
        seen = tuple(recorder.calls)
        calls.append(tuple(_joined(new, old) for new, old in zip(seen, calls[-1] if calls else seen, strict=True)))
    return hidden, calls


class _Recorder:
    """Hooks that note what blocks are called with, as long as each gets what the one before it put out.

    Attributes:
        first: the hidden states that the first block got.
        calls: the other arguments, block by block.
    """

    def __init__(self) -> None:
        self.first: Tensor | None = None
        self.calls: list[Call] = []
        self._last: Any = None

    def before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.first is None and args:
            self.first = self._last = args[0]
        if args and args[0] is self._last:
            self.calls.append(Call(args[1:], kwargs))

    def after(self, _: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._last = _first(output)


def _first(output: Any) -> Any:
    """Return the hidden states among what a block put out."""
    return output[0] if isinstance(output, tuple) else output


@torch.no_grad()
def _run(block: nn.Module, hidden: Tensor, call: Call) -> Tensor:
    states: Tensor = _first(block(hidden, *call.args, **call.kwargs))
    return states


def _joined(new: Any, old: Any) -> Any:
    """Return ``new`` with the tensors of ``old`` in the place of equal ones, so that they take memory once."""
    if isinstance(new, torch.Tensor) and isinstance(old, torch.Tensor):
        same = new.shape == old.shape and new.dtype == old.dtype and torch.equal(new, old)
        return old if same else new
    if isinstance(new, Call) and isinstance(old, Call):
        return Call(_joined(new.args, old.args), _joined(new.kwargs, old.kwargs))
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        return {name: _joined(value, old.get(name)) for name, value in new.items()}
    if isinstance(new, tuple) and isinstance(old, tuple) and len(new) == len(old):
        return tuple(_joined(a, b) for a, b in zip(new, old, strict=True))
    return new
