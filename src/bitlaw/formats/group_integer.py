"""Group integers on all codes of k bits, by two conventions: ``int4_g128_sym``, ``int4_row_asym``, ``int4_g128_awq``.

* ``sym``: codes ``-2^(k-1)..2^(k-1)-1``, ``step = amax / (2^(k-1) - 1/2)``: GPTQ's code, compressed-tensors.
* ``asym``: codes ``0..2^k-1``, a zero point of k bits, the range widened to include 0: the same programs.
* ``awqsym``: codes as ``sym``, ``step = amax / (2^(k-1) - 1)``, ``amax`` at least 1e-5: AutoAWQ.
* ``awq``: codes as ``asym``, the range as it is, zero points clipped: AutoAWQ; see ``MinMax`` on one-sided groups.

In ``sym``, ``amax`` lies exactly between two codes, so the last bit of a division decides: it is a true division
here, as in GPTQ's code. GPTQ's own code takes another step for a row without negative weights (it leaves the range's
lower end at 0 and clips at half of ``amax``); that is not reproduced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bitlaw.formats.base import Format
from bitlaw.formats.elements import Element, IntElement
from bitlaw.formats.family import SCALE_DTYPES, Family, Kind
from bitlaw.formats.layout import Block
from bitlaw.formats.scales import Absmax, MinMax, ScaleRule

BLOCKS: Final[Mapping[str, Block]] = {
    **{f"g{size}": size for size in (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)},
    "row": "row",
    "none": "none",
}


def _rule(convention: str, bits: int, dtype: str) -> ScaleRule:
    half = 2.0 ** (bits - 1)
    match convention:
        case "sym":
            return Absmax(dtype, divisor=half - 0.5, top=half, convention="gptq")
        case "awqsym":
            return Absmax(dtype, divisor=half - 1, top=half, least=1e-5, convention="awq")
        case "asym":
            return MinMax(dtype, bits, "gptq")
        case _:
            return MinMax(dtype, bits, "awq")


def _oracle(convention: str) -> str:
    return "compressed-tensors, auto-round" if convention in ("sym", "asym") else "AutoAWQ"


class _GroupIntegers:
    """The conventions are families, each with its element: a name's last word decides whether codes have a sign."""

    def __init__(self) -> None:
        self.families = {word: _family(word) for word in ("sym", "asym", "awq", "awqsym")}

    def names(self) -> list[str]:
        """See ``Kind.names``."""
        return [name for family in self.families.values() for name in family.names()]

    def usual(self) -> list[str]:
        """See ``Kind.usual``."""
        return [name for family in self.families.values() for name in family.usual()]

    def parse(self, name: str) -> Format | None:
        """See ``Kind.parse``."""
        found = (family.parse(name) for family in self.families.values())
        return next((fmt for fmt in found if fmt is not None), None)


def _family(convention: str) -> Family:
    signed = convention in ("sym", "awqsym")
    elements = {}
    for bits in range(2, 9):
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        elements[f"int{bits}"] = IntElement(f"int{bits}", bits, low, high)

    def make(element: Element, block: Block, word: str, dtype: str) -> Mapping[str, Any]:
        return {
            "kind": "group_integer",
            "element": element,
            "rule": _rule(word, element.bits, dtype),
            "block": block,
            "oracle": _oracle(word),
        }

    return Family(elements, make, ({convention: convention}, SCALE_DTYPES), BLOCKS, usual_block="g128")


KIND: Kind = _GroupIntegers()
