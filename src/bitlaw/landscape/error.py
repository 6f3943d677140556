"""A cell's own direction: what its quantization does to the weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from bitlaw.artifacts import read_header, read_tensors
from bitlaw.formats.grammar import parse
from bitlaw.landscape.vectors import Weights
from bitlaw.methods.stored import stored_linears


def quantization_error(path: Path, weights: Weights) -> Weights:
    """Return ``Q(W) - W`` of the quantized weights in ``path``; zero for linears that it does not hold.

    Args:
        path: an artifact of the quantize stage.
        weights: the model's, ``(out, in)`` each.

    Raises:
        KeyError: it holds a linear that the model does not have.
    """
    tensors, _ = read_tensors(path)
    shapes: Mapping[str, tuple[int, int]] = {name: (w.shape[0], w.shape[1]) for name, w in weights.items()}
    stored = stored_linears(tensors, parse(read_header(path)["spec"]["format"]), shapes)
    return {
        name: stored[name].weight().to(w) - w if name in stored else torch.zeros_like(w) for name, w in weights.items()
    }
