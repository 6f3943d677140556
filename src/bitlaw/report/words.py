"""Numbers and names as a reader wants them."""

from __future__ import annotations

import math
from typing import Any

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"


def number(value: Any, digits: int = 4) -> str:
    """Return ``value`` with ``digits`` significant digits; NaN and infinities by name, missing as a dash."""
    import pandas as pd

    if value is None or value is pd.NA:
        return MISSING
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    return (f"{mantissa}{TIMES}10^{int(exponent)}" if exponent else mantissa).replace("-", MINUS)


def loss(value: float) -> str:
    """Return a loss difference in nats with its sign: three decimals, more where it is small."""
    if not math.isfinite(value):
        return number(value)
    decimals = 3 if abs(value) >= 0.01 or value == 0.0 else min(6, 1 - math.floor(math.log10(abs(value))))
    return f"{value:+.{decimals}f}".replace("-", MINUS)


def count(value: float) -> str:
    """Return a number of parameters or tokens: ``1.6 M``."""
    for size, unit in ((1e12, " T"), (1e9, " B"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def size(bits: float) -> str:
    """Return a number of bits as bytes: ``1.5 MiB``."""
    for exponent, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if bits / 8 >= 1024**exponent:
            return f"{bits / 8 / 1024**exponent:.3g} {unit}"
    return f"{bits / 8:.0f} B"


def block(value: str) -> str:
    """Return a block in words: ``blocks of 64``, ``one scale per row``, ``one scale per matrix``."""
    return {"row": "one scale per row", "none": "one scale per matrix"}.get(value, f"blocks of {value}")


def method(name: str) -> str:
    """Return a method's name as it is written in text: short names are acronyms."""
    return name.upper() if len(name) <= 4 else name


MIXED = {"layer": "layers", "matmul": "single linears"}
"""What is chosen as a whole in a mix, by its granularity."""


def several(values: list[str]) -> str:
    """Return ``a, b and c``."""
    return " and ".join([", ".join(values[:-1]), values[-1]]) if len(values) > 1 else "".join(values)


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return ``1 row`` or ``2 rows``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
