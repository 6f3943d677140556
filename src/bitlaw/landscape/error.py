"""A cell's own direction: what its quantization does to the weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bitlaw.landscape.vectors import Weights
from bitlaw.methods.swap import read_weights

if TYPE_CHECKING:
    from bitlaw.models.linears import Linear


def quantization_error(path: Path, linears: Sequence[Linear]) -> tuple[Weights, dict[str, Any]]:
    """Return ``Q(W) - W`` of the quantized weights in ``path``, and what these say of themselves.

    The error is zero in linears that the artifact does not hold. It is of the dtype and on the device of the linears.

    Raises:
        DamagedArtifactError: the artifact is not whole.
    """
    quantized, about = read_weights(path, linears)
    weights = {linear.name: linear.weight() for linear in linears}
    error = {
        name: quantized[name].to(w) - w if name in quantized else torch.zeros_like(w) for name, w in weights.items()
    }
    return error, about
