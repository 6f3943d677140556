"""Microscaling integers, MXINT: k-bit significands with a shared power of two: ``mxint4_b32``, ``mxint8_row_even``.

OCP Microscaling Formats (MX) v1.0, sections 5.2 and 6.3 (MXINT8: element type INT8 with an implied scale 2^-6, E8M0
shared scale), and Sharify et al. 2024 (arXiv 2405.07135), appendix, for other widths: a k-bit signed symmetric
significand ``-q..q``, ``q = 2^(k-1) - 1``, with the implied scale ``2^-(k-2)``. Every finite float32 is in range.

Scale rules as options: ``floor`` (OCP, default; the top half step saturates), ``even``, ``rceil``, ``ceil``; see
``E8M0``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from bitlaw.formats.elements import IntElement
from bitlaw.formats.family import Family, Kind
from bitlaw.formats.layout import Block
from bitlaw.formats.scales import E8M0

ELEMENTS = {f"mxint{k}": IntElement(f"mxint{k}", k, -(2 ** (k - 1)) + 1, 2 ** (k - 1) - 1) for k in range(2, 9)}
RULES = {"": "floor", "even": "even", "rceil": "rceil", "ceil": "ceil"}


def _make(element: IntElement, block: Block, rule: Literal["floor", "ceil", "even", "rceil"]) -> Mapping[str, Any]:
    fraction = element.bits - 2
    return {
        "kind": "mxint",
        "element": element,
        "rule": E8M0("e8m0", rule, 0, mantissa_bits=fraction, top=element.top * 2.0**-fraction, shift=fraction),
        "block": block,
        "oracle": "auto-round (2, 4, 8 bits, floor and rceil)",
    }


KIND: Kind = Family(ELEMENTS, _make, (RULES,), usual_block="b32")
