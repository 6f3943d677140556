"""Models whose operations have derivatives of every kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

from torch import nn


@contextmanager
def plain(model: nn.Module) -> Iterator[None]:
    """Let ``model`` compute with ordinary operations inside the ``with`` block; the values stay the same.

    BLOOM's GELU is an ``autograd.Function``, which has a first derivative in reverse only. Its formula is ordinary.
    """
    from transformers.models.bloom.modeling_bloom import BloomGelu, bloom_gelu_forward

    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, BloomGelu):
                stack.enter_context(mock.patch.object(module, "forward", bloom_gelu_forward))
        yield
