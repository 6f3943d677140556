"""Dynamic exponent: ``dyn4_b64``, ``dyn8_row``: a sign, a base-10 exponent of varying length, a linear fraction.

Dettmers 2016 (arXiv 1511.04561), used by Dettmers and Zettlemoyer 2023 (arXiv 2212.09720): the number of leading zeros
is the exponent, the bits behind the first one the fraction. The numbers are those of bitsandbytes'
``create_dynamic_map(signed=True, max_exponent_bits=k-1, total_bits=k)``; the largest is 1 and there is no -1.
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
class DynamicCode(CodebookElement):
    """Dynamic exponent numbers."""

    def values(self) -> Tensor:
        """Return (2^k,) numbers: ``±10^(i - k + 2) m`` with m the centers of ``2^i`` equal parts of [0.1, 1]; 0; 1."""
        return _values(self.bits)


@cache
def _values(bits: int) -> Tensor:
    import torch

    values = [torch.tensor([0.0, 1.0])]
    for i in range(bits - 1):
        edges = torch.linspace(0.1, 1, (1 << i) + 1, dtype=torch.float32)
        values += [sign * 10.0 ** (i - bits + 2) * ((edges[:-1] + edges[1:]) / 2) for sign in (1.0, -1.0)]
    return torch.cat(values).sort().values


def _make(element: DynamicCode, block: Block, dtype: str, centered: bool) -> Mapping[str, Any]:
    return {
        "kind": "dynamic",
        "element": element,
        "rule": Absmax(dtype, divisor=1.0, top=1.0),
        "block": block,
        "centered": centered,
        "oracle": "bitsandbytes (create_dynamic_map)",
    }


KIND: Kind = Family({f"dyn{k}": DynamicCode(f"dyn{k}", k) for k in range(2, 9)}, _make, (SCALE_DTYPES, CENTERING))
