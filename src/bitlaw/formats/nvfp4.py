"""NVFP4: E2M1 elements in blocks of 16, an E4M3 scale a block and a float32 scale a matrix: ``nvfp4_b16``.

NVIDIA's format as in its ModelOpt, in torchao and in compressed-tensors; see ``TwoLevel`` for the scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitlaw.formats.elements import FloatElement
from bitlaw.formats.family import Family, Kind
from bitlaw.formats.layout import Block
from bitlaw.formats.scales import TwoLevel


def _make(element: FloatElement, block: Block) -> Mapping[str, Any]:
    return {
        "kind": "nvfp4",
        "element": element,
        "rule": TwoLevel("e4m3", top=element.largest),
        "block": block,
        "oracle": "torchao (two-level)",
    }


KIND: Kind = Family(
    {"nvfp4": FloatElement("nvfp4", 4, mantissa_bits=1, bias=1, largest=6.0)},
    _make,
    blocks={"b16": 16},
    usual_block="b16",
)
