"""Microscaling floating-point numbers: ``mxfp4_e2m1_b32``, ``mxfp6_e2m3_b64``, ``mxfp8_e4m3_b32_rceil``.

OCP Microscaling Formats (MX) v1.0, table 1 and section 5.3: E2M1, E2M3, E3M2, E4M3 and E5M2 with an E8M0 scale a block.
Numbers beyond the largest saturate; E4M3's NaN and E5M2's infinities and NaN are never used as codes of weights. Scale
rules as options: ``floor`` (OCP, default), ``even``, ``rceil``, ``ceil``; see ``E8M0``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from bitlaw.formats.elements import FloatElement
from bitlaw.formats.family import Family, Kind
from bitlaw.formats.layout import Block
from bitlaw.formats.scales import E8M0

# Largest numbers: OCP MX v1.0, tables 2 to 5. The exponent of the largest power of two follows from them.
ELEMENTS = {
    element.name: element
    for element in (
        FloatElement("mxfp4_e2m1", 4, mantissa_bits=1, bias=1, largest=6.0),
        FloatElement("mxfp6_e2m3", 6, mantissa_bits=3, bias=1, largest=7.5),
        FloatElement("mxfp6_e3m2", 6, mantissa_bits=2, bias=3, largest=28.0),
        FloatElement("mxfp8_e4m3", 8, mantissa_bits=3, bias=7, largest=448.0),
        FloatElement("mxfp8_e5m2", 8, mantissa_bits=2, bias=15, largest=57344.0),
    )
}
RULES = {"": "floor", "even": "even", "rceil": "rceil", "ceil": "ceil"}


def _make(element: FloatElement, block: Block, rule: Literal["floor", "ceil", "even", "rceil"]) -> Mapping[str, Any]:
    emax = int(element.largest).bit_length() - 1
    return {
        "kind": "mxfp",
        "element": element,
        "rule": E8M0("e8m0", rule, emax, mantissa_bits=element.mantissa_bits, top=element.largest),
        "block": block,
        "oracle": "torchao (all rules), auto-round (floor, rceil), compressed-tensors (MXFP4, even)",
    }


KIND: Kind = Family(ELEMENTS, _make, (RULES,), usual_block="b32")
