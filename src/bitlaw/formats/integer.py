"""Symmetric k-bit integers with a floating scale: ``int4_b64``, ``int3_none_sf32``, ``int4_b64_centered``.

Dettmers and Zettlemoyer 2023 (arXiv 2212.09720), appendix "Integer": truncated to be symmetric, ``2^k - 1`` values
``-q..q`` with ``q = 2^(k-1) - 1``, and absmax scaling of each block, ``w ~ code * step`` with ``step = amax / q``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitlaw.formats.elements import IntElement
from bitlaw.formats.family import CENTERING, SCALE_DTYPES, Family, Kind
from bitlaw.formats.layout import Block
from bitlaw.formats.scales import Absmax

ELEMENTS = {f"int{k}": IntElement(f"int{k}", k, -(2 ** (k - 1)) + 1, 2 ** (k - 1) - 1) for k in range(2, 9)}


def _make(element: IntElement, block: Block, dtype: str, centered: bool) -> Mapping[str, Any]:
    return {
        "kind": "integer",
        "element": element,
        "rule": Absmax(dtype, divisor=element.top, top=element.top),
        "block": block,
        "centered": centered,
        "oracle": "own slow reference",
    }


KIND: Kind = Family(ELEMENTS, _make, (SCALE_DTYPES, CENTERING))
