"""Weights -1, 0 and 1 times the block's mean magnitude, five to a byte: ``ternary_row``, ``ternary_b128``.

BitNet b1.58's quantizer (Ma et al. 2024, arXiv 2402.17764, equations 1 to 3), there for a whole matrix (``none``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitlaw.formats.elements import TernaryElement
from bitlaw.formats.family import SCALE_DTYPES, Family, Kind
from bitlaw.formats.layout import Block
from bitlaw.formats.scales import AbsMean


def _make(element: TernaryElement, block: Block, dtype: str) -> Mapping[str, Any]:
    return {
        "kind": "ternary",
        "element": element,
        "rule": AbsMean(dtype),
        "block": block,
        "oracle": "own slow reference",
    }


KIND: Kind = Family({"ternary": TernaryElement("ternary", 2, -1, 1)}, _make, (SCALE_DTYPES,), usual_block="row")
