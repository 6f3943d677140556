"""The quantized weights of an artifact, as codes and scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitlaw.artifacts import read_header, read_tensors
from bitlaw.formats.grammar import parse
from bitlaw.methods.stored import StoredLinear, stored_linears


@dataclass(frozen=True)
class QuantizedModel:
    """What a quantize artifact holds.

    Attributes:
        linears: the stored weights, by the linear's name; linears that were not quantized are not there.
        header: who made it, from what; see ``bitlaw.stage.Header``.
        result: what the stage says of it.
    """

    linears: Mapping[str, StoredLinear]
    header: Mapping[str, Any]
    result: Mapping[str, Any]


def read_quantized(path: Path, shapes: Mapping[str, tuple[int, int]]) -> QuantizedModel:
    """Return the quantized weights in the artifact ``path``.

    Args:
        path: the artifact of the quantize stage.
        shapes: (out, in) of the model's linears, by name.

    Raises:
        DamagedArtifactError: the file does not parse or its checksum does not match.
    """
    tensors, result = read_tensors(path)
    header = read_header(path)
    return QuantizedModel(stored_linears(tensors, parse(header["spec"]["format"]), shapes), header, result)
