"""Several variants of one model in one pass: linears that hold a matrix for each of them.

A pass of a small model keeps a GPU busy for less time than the host takes to ask for it. The variants of a study differ
in the linears of the blocks alone, so the rows of a batch may belong to different variants: what is no such linear does
the same to all rows, and a linear multiplies each variant's rows with its own matrix (a batched product).

A product of so many matrices may round elsewhere than one matrix alone, but what it makes of one does not depend on the
others. So places without a variant are filled with one that is there, and a cell's digits do not tell which others it
was computed with.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, cast
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from bitlaw.errors import UserError
from bitlaw.models.compiled import compile_blocks, is_compiled
from bitlaw.models.linears import Linear, Swap, quantizable, swapped

if TYPE_CHECKING:
    from transformers import PreTrainedModel


SMALL: Final = 2**23
"""Quantizable weights of a model whose variants go together, at most: larger ones keep a GPU busy one by one."""

_made: WeakKeyDictionary[nn.Module, dict[int, tuple[PreTrainedModel, list[Several]]]] = WeakKeyDictionary()


class Several(nn.Module):
    """A linear map with ``count`` matrices, each for its share of the rows.

    Args:
        linear: what it stands for; its bias is for all.
        count: how many matrices; at first all are that of ``linear``.
    """

    def __init__(self, linear: Linear, count: int) -> None:
        super().__init__()
        self.count, self.transposed = count, linear.transposed
        # Repeated without memory of its own, for it is only there to be exchanged.
        self.weight = nn.Parameter(linear.parameter.detach().expand(count, -1, -1), requires_grad=False)
        self.bias = cast("nn.Parameter | None", linear.module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs, (count n, ..., out), of ``x``, (count n, ..., in): the first n by the first matrix.

        Raises:
            UserError: the rows cannot be shared out.
        """
        if x.shape[0] % self.count:
            raise _mixed("what is around a linear")
        rows = x.reshape(self.count, -1, x.shape[-1])
        y = torch.bmm(rows, self.weight if self.transposed else self.weight.transpose(1, 2))
        # The bias apart: a compiler adds it in what follows, a batched product would first write it everywhere.
        return (y if self.bias is None else y + self.bias).reshape(*x.shape[:-1], y.shape[-1])


@dataclass(frozen=True)
class Variants:
    """A model that computes with up to ``count`` sets of weights at once.

    Attributes:
        model: takes ``count`` batches one behind the other; shares all weights but those of its linears.
        linears: of the model it was made from, if there are others in their places.
        count: how many.
    """

    model: PreTrainedModel
    linears: list[Linear]
    count: int
    _places: list[Several] = field(default_factory=list)

    @contextmanager
    def holding(self, changes: Sequence[Swap]) -> Iterator[None]:
        """Compute with the weights of each of ``changes``, 1 to ``count``, inside the ``with`` block.

        Args:
            changes: each puts weights into the model that this one was made from; the last one fills what is left.
        """
        if self.count == 1:
            with changes[0]():
                yield
            return
        weights = [self._weights(change) for change in changes]
        weights += weights[-1:] * (self.count - len(weights))
        for place, *own in zip(self._places, *weights, strict=True):
            place.weight = nn.Parameter(torch.stack(own), requires_grad=False)
        try:
            yield
        finally:
            for place, linear in zip(self._places, self.linears, strict=True):
                place.weight = nn.Parameter(linear.parameter.detach().expand(self.count, -1, -1), requires_grad=False)

    def _weights(self, change: Swap) -> list[torch.Tensor]:
        with change():
            return [linear.parameter.detach() for linear in self.linears]


def variants(model: PreTrainedModel, count: int) -> Variants:
    """Return ``model`` as one that computes with ``count`` sets of weights; made once.

    Raises:
        UserError: rows of a batch do not stay apart in this model, as with experts that gather theirs.
    """
    if count == 1:
        return Variants(model, [], 1)
    linears = quantizable(model)
    made = _made.setdefault(model, {})
    if count not in made:
        other, places = _copy(model, linears, count)
        _check(Variants(other, linears, count, places))
        if is_compiled(model):
            compile_blocks(other)
        made[count] = other, places
    return Variants(made[count][0], linears, count, made[count][1])


def is_small(shapes: Iterable[Sequence[int]]) -> bool:
    """Return whether variants of a model whose linears have these ``shapes`` are computed together."""
    return sum(math.prod(shape) for shape in shapes) <= SMALL


def are_plain(linears: Sequence[Linear]) -> bool:
    """Return whether ``linears`` multiply and add and do nothing else, so that others can stand for them."""
    return all(type(linear.module) in {nn.Linear, Conv1D} for linear in linears)


def _copy(model: PreTrainedModel, linears: Sequence[Linear], count: int) -> tuple[PreTrainedModel, list[Several]]:
    """Return a copy of ``model`` that shares its tensors but has other linears, and these; it is not compiled."""
    shared = {id(one): one for one in (*model.parameters(), *model.buffers())}
    other = copy.deepcopy(model, shared)
    places = []
    for linear in linears:
        places.append(Several(linear, count))
        parent, _, name = linear.name.rpartition(".")
        setattr(other.get_submodule(parent), name, places[-1])
    return other, places


@torch.inference_mode()
def _check(made: Variants) -> None:
    """Check on a few tokens that what one variant computes is the same beside others with the linears' weights zero.

    Raises:
        UserError: it is not.
    """
    ids = torch.arange(min(8, int(made.model.config.get_text_config().vocab_size)), device=made.model.device)
    changes: list[Swap] = [
        nullcontext,
        partial(swapped, made.linears, {one.name: 0 * one.weight() for one in made.linears}),
    ]

    def logits(chosen: Sequence[Swap]) -> torch.Tensor:
        with made.holding(chosen):
            return cast("torch.Tensor", made.model(input_ids=ids.repeat(made.count, 1), use_cache=False).logits)

    alone = [logits([change]) for change in changes]
    beside = logits([changes[place % 2] for place in range(made.count)])
    for place, found in enumerate(beside):
        right = alone[place % 2][place]
        # Roundings of 16 bits and no more: from another variant's weights quite other logits would come.
        if not torch.allclose(found, right, rtol=0, atol=0.02 * float(right.abs().nan_to_num().max()), equal_nan=True):
            raise _mixed(type(made.model).__name__)


def _mixed(name: str) -> UserError:
    return UserError(
        f"{name} does not keep the rows of a batch apart, so variants of this model cannot be computed together; "
        "`variants: 1` has them computed one by one",
        place="evaluation",
    )
