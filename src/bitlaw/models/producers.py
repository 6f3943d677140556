"""Which units produce the inputs of each linear: rules for the ways in which transformer blocks are built.

Inputs of the second MLP linear come from the first one, those of the attention's output from the values. All others
are read from the residual stream, and there the last linear before that writes to it counts: the attention's output
for the MLP, the MLP's output of the block before for the attention, the token embedding for the first block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bitlaw.errors import UserError
from bitlaw.models.linears import Linear, blocks

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class Producer:
    """What produces the inputs of a linear.

    Attributes:
        name: name of the module that holds the producing units.
        weight: their weights, one row a unit, (units, fan-in); not to be changed.
        units: the unit that produces each input, (in,) int64.
    """

    name: str
    weight: Tensor
    units: Tensor


@dataclass(frozen=True)
class _Layout:
    """Names of a block's linears, from the block on.

    Attributes:
        reading: attention's linears that read the residual stream.
        value: the one of them that makes the values.
        values: returns the rows of the values, (value dimensions,) int64, given (rows of ``value``, head dimension).
        written: the attention's output.
        first: the MLP's linears that read the residual stream.
        up: the one of them whose units are the hidden units.
        second: the MLP's output.
    """

    reading: tuple[str, ...]
    value: str
    values: Callable[[int, int], Tensor]
    written: str
    first: tuple[str, ...]
    up: str
    second: str

    @property
    def names(self) -> set[str]:
        return {*self.reading, self.written, *self.first, self.second}


def _all_rows(rows: int, head: int) -> Tensor:
    return torch.arange(rows)


def _last_third(rows: int, head: int) -> Tensor:
    """Queries, keys and values one after the other, as in GPT-2."""
    return torch.arange(2 * rows // 3, rows)


def _last_third_of_heads(rows: int, head: int) -> Tensor:
    """Query, key and value of each head one after the other, as in BLOOM and GPT-NeoX."""
    return torch.arange(rows).view(-1, 3, head)[:, 2].flatten()


def _separate(attention: str, written: str, first: tuple[str, ...], up: str, second: str) -> _Layout:
    reading = tuple(f"{attention}.{name}_proj" for name in "qkv")
    return _Layout(reading, reading[2], _all_rows, f"{attention}.{written}", first, up, second)


def _fused(attention: str, fused: str, values: Callable[[int, int], Tensor], written: str, *mlp: str) -> _Layout:
    name = f"{attention}.{fused}"
    return _Layout((name,), name, values, f"{attention}.{written}", (mlp[0],), mlp[0], mlp[1])


_LAYOUTS = (
    _fused("attn", "c_attn", _last_third, "c_proj", "mlp.c_fc", "mlp.c_proj"),  # GPT-2
    _separate("self_attn", "out_proj", ("fc1",), "fc1", "fc2"),  # OPT
    _separate("self_attn", "o_proj", ("mlp.gate_proj", "mlp.up_proj"), "mlp.up_proj", "mlp.down_proj"),  # Llama, ...
    *(  # BLOOM, GPT-NeoX
        _fused(attention, "query_key_value", _last_third_of_heads, "dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")
        for attention in ("self_attention", "attention")
    ),
)

_PARALLEL = ("use_parallel_residual", "parallel_attn")
"""Fields of configurations that say whether attention and MLP read the same residual stream."""


def producers(model: PreTrainedModel, linears: Sequence[Linear]) -> dict[str, Producer]:
    """Return what produces the inputs of each of ``linears``, by name.

    Raises:
        UserError: a linear for which no rule is known; its name is the place.
    """
    prefix, chain = blocks(model)
    by_name = {linear.name: linear for linear in linears}
    found: dict[str, Producer] = {}
    last = _embedding(model)
    for i, block in enumerate(chain):
        root = f"{prefix}.{i}."
        own = {name.removeprefix(root): linear for name, linear in by_name.items() if name.startswith(root)}
        layout = _layout(own, root)
        at_start = last
        for name in layout.reading:
            found[root + name] = _from_stream(own[name], at_start)
        found[root + layout.written] = _from_values(model, layout, own)
        written = _rows_of(own[layout.written])
        middle = at_start if _is_parallel(model, block) else written
        for name in layout.first:
            found[root + name] = _from_stream(own[name], middle)
        found[root + layout.second] = _from_stream(own[layout.second], _rows_of(own[layout.up]))
        last = _rows_of(own[layout.second])
    for linear in linears:
        if linear.name not in found:
            raise _unknown(linear.name)
    return found


def _layout(own: Mapping[str, Linear], root: str) -> _Layout:
    for layout in _LAYOUTS:
        if layout.names == set(own):
            return layout
    # The linear to name is one that the likeliest layout does not have.
    nearest = max(_LAYOUTS, key=lambda layout: len(layout.names & set(own)))
    raise _unknown(root + next((name for name in own if name not in nearest.names), next(iter(own), "")))


def _rows_of(linear: Linear) -> Producer:
    return Producer(linear.name, linear.weight(), torch.arange(linear.shape[0]))


def _from_stream(linear: Linear, producer: Producer) -> Producer:
    """Return ``producer``, whose units are the inputs of ``linear`` one by one."""
    if len(producer.units) != linear.shape[1]:
        raise _unknown(linear.name)
    return producer


def _from_values(model: PreTrainedModel, layout: _Layout, own: Mapping[str, Linear]) -> Producer:
    """Return the values as the producer of the attention's output, which gets them head by head.

    With fewer heads of values than of queries, each one serves several heads in a row (grouped-query attention).
    """
    value, written = own[layout.value], own[layout.written]
    config: Any = model.config
    head, odd = divmod(written.shape[1], config.num_attention_heads)
    if odd or value.shape[0] % head or (value.shape[0] % (3 * head) and len(layout.reading) == 1):
        raise _unknown(written.name)
    rows = layout.values(value.shape[0], head).view(-1, head)
    times, odd = divmod(config.num_attention_heads, len(rows))
    if odd:
        raise _unknown(written.name)
    return Producer(value.name, value.weight(), rows.repeat_interleave(times, 0).flatten())


def _embedding(model: PreTrainedModel) -> Producer:
    """Return the columns of the token embedding, or what projects it to the width of the residual stream."""
    for name, module in model.named_modules():
        if name.endswith("project_in") and isinstance(module, nn.Linear):
            return Producer(name, module.weight.detach(), torch.arange(module.out_features))
    table = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is table)
    if not isinstance(table, nn.Embedding):
        raise _unknown(name)
    return Producer(name, table.weight.detach().T, torch.arange(table.embedding_dim))


def _is_parallel(model: PreTrainedModel, block: nn.Module) -> bool:
    """Return whether attention and MLP of ``block`` read the same residual stream."""
    norms = [name for name, _ in block.named_children() if "norm" in name.lower() or name.startswith("ln")]
    return any(bool(getattr(model.config, name, False)) for name in _PARALLEL) or len(norms) == 1


def _unknown(name: str) -> UserError:
    return UserError("it is not known which units produce the inputs of this linear", place=name)
