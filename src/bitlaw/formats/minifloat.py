"""k-bit Float: ``fp4_e2m1_b64``, ``fp3_e2m0_row``; ``fp4_b64`` takes the paper's number of exponent bits.

Dettmers and Zettlemoyer 2023 (arXiv 2212.09720): a sign, E exponent and M = k - 1 - E mantissa bits, no NaN and no
infinity, the largest magnitude scaled to 1, absmax scaling of each block. The paper's choice of E is half of the bits,
rounded up: 2, 2, 3, 3, 4, 4 for k = 3..8. The numbers are those of bitsandbytes' ``create_fp8_map``, the code of that
line of work, where subnormals lie lower than IEEE's; see ``FloatCode.values``. They are not OCP's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from bitlaw.formats.elements import CodebookElement
from bitlaw.formats.family import CENTERING, SCALE_DTYPES, Family, Kind
from bitlaw.formats.layout import Block
from bitlaw.formats.scales import Absmax

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FloatCode(CodebookElement):
    """Floating-point numbers scaled to [-1, 1].

    Attributes:
        exponent_bits: E, 1 to k - 1.
    """

    exponent_bits: int

    def values(self) -> Tensor:
        """Return the numbers, rising: ``±(1 + f) 2^(b + 1 - i)``, i = 1..2^E - 1, and ``±f 2^-b``, over the largest.

        See ``CodebookElement.values`` for the shape.
        ``b = 2^(E-1)`` and f runs over the multiples of ``2^-M`` below 1.
        """
        return _values(self.bits, self.exponent_bits)


@cache
def _values(bits: int, exponent_bits: int) -> Tensor:
    import torch

    b, steps = 1 << exponent_bits - 1, 1 << bits - 1 - exponent_bits
    fractions = [i / steps for i in range(steps)]
    normal = [(1 + f) * 2.0 ** (b + 1 - i) for i in range(1, 1 << exponent_bits) for f in fractions]
    magnitudes = {*normal, *(f * 2.0**-b for f in fractions)}
    rising = sorted(magnitudes | {-m for m in magnitudes if m})
    values = torch.tensor(rising, dtype=torch.float32)
    return values / values.max()


PAPER = {3: 2, 4: 2, 5: 3, 6: 3, 7: 4, 8: 4}
"""Exponent bits by bits, Dettmers and Zettlemoyer 2023."""

ELEMENTS = {
    name: FloatCode(name, bits, exponent)
    for bits in range(2, 9)
    for exponent in range(1, bits)
    for name in [f"fp{bits}_e{exponent}m{bits - 1 - exponent}"]
}


def _make(element: FloatCode, block: Block, dtype: str, centered: bool) -> Mapping[str, Any]:
    return {
        "kind": "minifloat",
        "element": element,
        "rule": Absmax(dtype, divisor=1.0, top=1.0),
        "block": block,
        "centered": centered,
        "oracle": "bitsandbytes (create_fp8_map)",
    }


KIND: Kind = Family(
    ELEMENTS,
    _make,
    (SCALE_DTYPES, CENTERING),
    aliases={f"fp{bits}": f"fp{bits}_e{e}m{bits - 1 - e}" for bits, e in PAPER.items()},
)
