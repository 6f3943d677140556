"""The memory that serving takes: weights, and the keys and values of the tokens in context."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from bitlaw.errors import UserError

if TYPE_CHECKING:
    from bitlaw.predictor.known import Known

GIB = 2**30
HIGH = 16
"""Bits of a weight that is not quantized: embeddings, head, norms."""
ASPECT = 128
"""Width over layers of a model of which only the size is known: that of OPT-6.7B and Llama-7B; 85 to 160 in others."""
_UNITS = {
    "": GIB, "g": GIB, "gib": GIB, "gb": 10**9, "m": 2**20, "mib": 2**20, "mb": 10**6, "k": 2**10, "kib": 2**10,
    "kb": 10**3, "t": 2**40, "tib": 2**40, "tb": 10**12, "b": 1,
}  # fmt: skip


def read_size(text: str) -> float:
    """Return the bytes that ``text`` says: ``6GiB``, ``24`` (GiB, too), ``80GB``, ``512M``.

    Raises:
        UserError: it says none.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", text.lower())
    if found is None or found[2] not in _UNITS or not float(found[1]) > 0:
        raise UserError(f"'{text}' is no amount of memory; say 6GiB, 24 (GiB) or 80GB")
    return float(found[1]) * _UNITS[found[2]]


def shown(size: float) -> str:
    """Return ``size`` (bytes) as people read it."""
    for unit, name in ((GIB, "GiB"), (2**20, "MiB")):
        if size >= 0.1 * unit:
            return f"{size / unit:.2f} {name}" if size < 100 * unit else f"{size / unit:,.0f} {name}"
    return f"{size / 1024:.1f} KiB"


def weight_bytes(known: Known, bits: float, *, whole: bool = False) -> float:
    """Return the bytes of a model's weights.

    Args:
        known: the model.
        bits: stored bits per quantizable weight, scales counted.
        whole: whether ``bits`` are of all weights; if not, embeddings, head and norms take 16 bits each.
    """
    if whole:
        return known.n_total * bits / 8
    linears = sum(rows * columns for rows, columns in known.shapes) or known.n_params
    quantized = min(linears, known.n_total)
    return (quantized * bits + (known.n_total - quantized) * HIGH) / 8


def cache_bytes(known: Known, context: int, batch: int, bits: float = HIGH) -> tuple[float, str | None]:
    """Return the bytes of keys and values, and what was assumed for them.

    Args:
        known: the model.
        context: tokens of a sequence.
        batch: sequences at once.
        bits: of a number in the cache.
    """
    layers, width, said = known.layers, known.kv_width, None
    if layers is None or width is None:
        layers, width = _guess(known.n_params)
        said = (
            f"KV cache as of {layers} layers with keys of {width} numbers, guessed from the size: an upper bound, "
            "for heads that share keys (grouped-query attention) would take a quarter or an eighth of it"
        )
    return 2 * layers * width * context * batch * bits / 8, said


def _guess(n_params: float) -> tuple[int, int]:
    """Return layers and width of a usual model: 12 widths squared a layer, every head with keys of its own."""
    layers = max(1, round((n_params / (12 * ASPECT**2)) ** (1 / 3)))
    return layers, max(1, round(math.sqrt(n_params / (12 * layers))))
