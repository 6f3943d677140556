"""The weights that can be quantized: every linear of the transformer blocks, whatever the architecture.

Embeddings and the output head stay as they are, as in all three reproduced studies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from bitlaw.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


Swap = Callable[[], AbstractContextManager[None]]
"""Lets a model compute with other weights of its linears inside a ``with`` block."""


@dataclass(frozen=True)
class Linear:
    """One linear map ``y = W x (+ b)`` of a model.

    Attributes:
        name: dotted name of the module in the model.
        module: the ``nn.Linear`` or ``Conv1D`` that holds the weight.
        transposed: true for GPT-2's ``Conv1D``, which stores (in, out).
    """

    name: str
    module: nn.Module
    transposed: bool

    @property
    def parameter(self) -> nn.Parameter:
        """The stored parameter, in the module's own orientation."""
        weight = self.module.weight
        assert isinstance(weight, nn.Parameter)
        return weight

    @property
    def shape(self) -> tuple[int, int]:
        """(out_features, in_features)."""
        rows, columns = self.parameter.shape
        return (columns, rows) if self.transposed else (rows, columns)

    def weight(self) -> torch.Tensor:
        """Return the weight as (out_features, in_features): a view without gradient, never to be written to."""
        weight = self.parameter.detach()
        return weight.T if self.transposed else weight

    @contextmanager
    def swap(self, weight: torch.Tensor) -> Iterator[None]:
        """Compute with ``weight`` inside the ``with`` block; the stored parameter comes back whatever happens.

        Args:
            weight: (out_features, in_features), any dtype and device; it is converted to those of the model.

        Raises:
            ValueError: the shape is another one.
        """
        stored = self.parameter
        if tuple(weight.shape) != self.shape:
            raise ValueError(f"{self.name}: weight of shape {tuple(weight.shape)} for a linear of shape {self.shape}")
        oriented = weight.detach().T if self.transposed else weight.detach()
        # Same memory layout as the stored weight, so that equal values give bit-equal outputs.
        oriented = oriented.to(device=stored.device, dtype=stored.dtype).contiguous()
        # The parameter object is exchanged, never written to: nothing has to be copied back, so nothing can differ.
        self.module.weight = nn.Parameter(oriented, requires_grad=False)
        try:
            yield
        finally:
            self.module.weight = stored


@contextmanager
def swapped(linears: Iterable[Linear], weights: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Compute with ``weights`` (by linear name, each (out, in)) inside the ``with`` block.

    Raises:
        ValueError: a name that is no linear of the model, or a wrong shape; the model is unchanged then.
    """
    by_name = {linear.name: linear for linear in linears}
    with ExitStack() as stack:
        for name, weight in weights.items():
            if name not in by_name:
                raise ValueError(f"the model has no linear '{name}'")
            stack.enter_context(by_name[name].swap(weight))
        yield


def blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return name and list of the model's transformer blocks: its longest outermost ``nn.ModuleList``.

    Raises:
        UserError: the model has none.
    """
    lists: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in lists)
        if isinstance(module, nn.ModuleList) and len(module) > 0 and not inside:
            lists[name] = module
    if not lists:
        raise UserError(f"{type(model).__name__} has no list of transformer blocks; it cannot be quantized")
    longest = max(len(block_list) for block_list in lists.values())
    named = [item for item in lists.items() if len(item[1]) == longest]
    # Weights are counted only where lengths do not tell: this is asked for each cell.
    return named[0] if len(named) == 1 else max(named, key=lambda item: sum(p.numel() for p in item[1].parameters()))


def quantizable(model: nn.Module) -> list[Linear]:
    """Return every linear of the model's transformer blocks, in the order of the modules.

    Raises:
        UserError: there are none, or some weights of the blocks are stacked experts that are no linears.
    """
    prefix, block_list = blocks(model)
    found = []
    for name, module in block_list.named_modules(prefix=prefix):
        if isinstance(module, (nn.Linear, Conv1D)):
            found.append(Linear(name, module, transposed=isinstance(module, Conv1D)))
        elif not isinstance(module, nn.Conv1d):
            # Leaving the bulk of a mixture-of-experts model in 16 bits would pass unnoticed in every result.
            stacked = [key for key, weight in module.named_parameters(recurse=False) if weight.ndim > 2]
            if stacked:
                raise UserError(
                    f"{name}.{stacked[0]} holds several matrices in one tensor; mixtures of experts are not supported"
                )
    if not found:
        raise UserError(f"the blocks of {type(model).__name__} have no linear layers; it cannot be quantized")
    return found


def count_params(model: PreTrainedModel) -> dict[str, int]:
    """Return ``n_params``, ``n_embedding`` and ``n_total`` of ``model`` (on any device, even meta).

    ``n_params`` is N of the scaling laws (Kaplan et al. 2020, section 2.1): all parameters but token and position
    embeddings and an output head that is not tied to them. A parameter that is used twice counts once.
    """
    prefix, _ = blocks(model)
    parts: list[nn.Module] = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and not name.startswith(f"{prefix}.")
    ]
    head = cast("nn.Module | None", model.get_output_embeddings())
    if head is not None:
        parts.append(head)
    embedding = {id(p): p.numel() for part in parts for p in part.parameters()}
    n_total = sum(p.numel() for p in model.parameters())
    n_embedding = sum(embedding.values())
    return {"n_params": n_total - n_embedding, "n_embedding": n_embedding, "n_total": n_total}
