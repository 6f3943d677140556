"""How long a method takes to quantize a model: estimates from published runs on one A100."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bitlaw.errors import UserError
from bitlaw.methods import METHODS

if TYPE_CHECKING:
    from bitlaw.predictor.known import Known

SECONDS = {
    "gptq": (82.0, "Frantar et al. 2023, arXiv:2210.17323: 175 B parameters in about four hours of one A100"),
    "awq": (129.0, "AutoAWQ's README: up to 15 minutes for 7 B parameters on a GPU"),
}
"""By method: seconds per billion parameters, and the source."""
_UNITS = {"s": 1, "sec": 1, "m": 60, "min": 60, "": 60, "h": 3600, "d": 86400}


def seconds(known: Known, method: str, settings: str = "{}") -> float | None:
    """Return an estimate of the seconds that quantizing takes on one A100; ``None`` where none is known.

    Methods that look at no data count as 0: what they do is reading and writing the weights.

    Args:
        known: the model.
        method: name of a method; ``none`` for no quantization, ``gguf`` for llama.cpp's own.
        settings: its settings as JSON; llama.cpp's formats may need an ``imatrix``, which is made from a text.
    """
    if method in ("none", "gguf"):
        return None if "imatrix" in settings else 0.0
    if method in SECONDS:
        return SECONDS[method][0] * known.n_total / 1e9
    if method in METHODS and METHODS[method].needs(METHODS[method].Settings()) == "nothing":
        return 0.0
    return None


def read_time(text: str) -> float:
    """Return the seconds that ``text`` says: ``30min``, ``2h``, ``45`` (minutes). Raises ``UserError`` for another."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", text.lower())
    if found is None or found[2] not in _UNITS:
        raise UserError(f"'{text}' is no time; say 30min, 2h or 90s")
    return float(found[1]) * _UNITS[found[2]]


def shown(value: float | None) -> str:
    """Return ``value`` (seconds) as people read it."""
    if value is None:
        return "?"
    if value <= 0:
        return "none"
    for unit, name in ((3600, "h"), (60, "min")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.2g} s"
