"""Quantized models as the quantize stage leaves them, and what a checkpoint of one is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bitlaw.artifacts import write_tensors
from bitlaw.export.export import export
from bitlaw.formats.grammar import parse
from bitlaw.methods.stored import StoredLinear
from bitlaw.stage import Header


@dataclass(frozen=True)
class Exported:
    """A checkpoint, the folder of its source, and the weights, (out, in) float32, that it stands for."""

    folder: Path
    source: Path
    weights: Mapping[str, Any]
    origin: Mapping[str, Any]


def location(folder: Path) -> dict[str, Any]:
    return {"pretrained": str(folder), "revision": None, "trust_remote_code": False}


@pytest.fixture
def quantize(tmp_path: Path) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """Return a function that rounds the model in a folder and returns the artifact and the weights."""

    def run(source: Path, name: str, change: Callable[[Any], Any] = StoredLinear.of) -> tuple[Path, dict[str, Any]]:
        from bitlaw.models.linears import quantizable
        from bitlaw.models.load import load_model

        fmt = parse(name)
        tensors, weights, bits, count = {}, {}, 0, 0
        for linear in quantizable(load_model(location(source), "float32")):
            stored = change(fmt.quantize(linear.weight()))
            weights[linear.name] = stored.weight()
            tensors |= {f"{linear.name}/{part}": tensor for part, tensor in stored.tensors().items()}
            bits += stored.storage_bits()
            count += linear.weight().numel()
        finite = all(bool(weight.isfinite().all()) for weight in weights.values())
        result = {"effective_bits": bits / count, "sqnr_db": 20.0, "finite": finite, "calibration": None}
        spec = {"format": str(fmt), "method": "rtn", "settings": {}}
        header = Header("quantize", "ab" * 16, spec, {"model": ["cd" * 16]}, "ef" * 16, {"torch": "2"})
        artifact = tmp_path / f"{fmt}.safetensors"
        write_tensors(artifact, header, tensors, result)
        return artifact, weights

    return run


@pytest.fixture
def exported(quantize: Any, tmp_path: Path) -> Callable[..., Exported]:
    """Return a function that rounds the model in a folder to a format and exports it."""

    def run(source: Path, name: str, *, dense: bool = False, **changes: Any) -> Exported:
        artifact, weights = quantize(source, name, **changes)
        folder = tmp_path / f"out-{source.name}-{name}"
        origin = export(artifact, location(source), {"model": source.name}, folder, dense=dense)
        return Exported(folder, source, weights, origin)

    return run
