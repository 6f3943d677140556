"""torch.compile for a model's transformer blocks.

Block by block, for three reasons. Inside a graph of the whole body, transformers cannot see that a window is neither
padded nor packed, so it makes a mask of windows x tokens x tokens, and attention with a mask is not the causal kernel
(``masking_utils.find_packed_sequence_indices`` and ``_ignore_causal_mask_sdpa``); outside of it, it can. The code of
one block serves all of them, so that compiling does not take longer for a deeper model. And some models (OPT) do not
call their ``base_model`` as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import torch
from torch import nn
from transformers import masking_utils

from bitlaw.models.linears import blocks

if TYPE_CHECKING:
    from transformers import PreTrainedModel


KEPT_GRAPHS: Final = 256
"""Compiled forms of one block's code that a process keeps: one for each model, precision and shape."""


def compile_blocks(model: PreTrainedModel) -> None:
    """Let the blocks of ``model``, and the norm behind them, go through ``torch.compile``, for inputs of one shape.

    Raises:
        UserError: the model has no list of blocks.
    """
    name, layers = blocks(model)
    # After eight by default, torch goes on without compiling: a worker meets more models of one family than that.
    torch._dynamo.config.recompile_limit = max(KEPT_GRAPHS, torch._dynamo.config.recompile_limit)
    beside = model.get_submodule(name.rpartition(".")[0]).children()
    # Embeddings only look rows up.
    others = [one for one in beside if one is not layers and not isinstance(one, nn.Embedding) and _has_weights(one)]
    for part in [*layers, *others]:
        nn.Module.compile(part, dynamic=False)


def is_compiled(model: nn.Module) -> bool:
    """Return whether some part of ``model`` goes through ``torch.compile``."""
    return any(getattr(part, "_compiled_call_impl", None) is not None for part in model.modules())


@contextmanager
def unpacked() -> Iterator[None]:
    """Spare a model the look for several texts that are packed into one row: each row here is one window.

    transformers looks at the positions of every batch, and a GPU is waited for each time. It has no switch for that;
    where it has no such function either, nothing is changed.
    """
    name = "find_packed_sequence_indices"
    own = getattr(masking_utils, name, None)
    if own is None:
        yield
        return
    setattr(masking_utils, name, lambda position_ids: None)
    try:
        yield
    finally:
        setattr(masking_utils, name, own)


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())
