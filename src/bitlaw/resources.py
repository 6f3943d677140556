"""What a job asks of a cluster beforehand: memory and time, from the stage and the size of the model.

These are limits, not forecasts: a job that meets one is retried with more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BASE_MB = 2000
"""Interpreter, torch, transformers and a small model."""

UNKNOWN_MB = 16_000
"""For a model whose size is not known yet, such as one of the hub before its first job."""

_TIMES = {
    "model": 2.0,
    "calibrate": 4.0,
    "factorize": 4.0,
    "quantize": 4.0,
    "output_error": 4.0,
    "sensitivity": 6.0,
    "evaluate": 3.0,
    "zeroshot": 3.0,
    "landscape": 16.0,
}
"""Memory of a stage in multiples of the model's weights in float32, with room to spare; docs/cluster.md has figures."""

_sizes: dict[tuple[str, ...], float] = {}  # thousands of jobs share a model
_GGUF_GROWTH = 8
"""Float32 against the smallest common GGUF weights, of four bits."""


def mem_mb(order: Mapping[str, Any], root: Path, attempt: int) -> int:
    """Return the megabytes that a job may use.

    Args:
        order: of the artifact, see ``bitlaw.study.plan.order``.
        root: the project folder.
        attempt: 1 for the first try; each further one gets as much again.
    """
    if order["stage"] not in _TIMES:
        return BASE_MB * attempt
    size = _float32_mb(order, root)
    return (UNKNOWN_MB if size is None else BASE_MB + int(_TIMES[order["stage"]] * size)) * attempt


def runtime(order: Mapping[str, Any], root: Path, attempt: int) -> int:
    """Return the minutes that a job may take: an hour, and one more for each gigabyte of weights in float32."""
    size = _float32_mb(order, root) if order["stage"] in _TIMES else 0.0
    return (60 + int((UNKNOWN_MB if size is None else size) * 60 / 1000)) * attempt


def _float32_mb(order: Mapping[str, Any], root: Path) -> float | None:
    """Return the megabytes of the model's weights in float32, or null if nothing here tells."""
    described = [order["path"]] if order["stage"] == "model" else order["inputs"].get("model", [])
    location = order["hints"].get("model", {})
    places = (
        *(str(root / path) for path in described),
        str(location.get("pretrained")),
        str(location.get("gguf_file")),
    )
    if places not in _sizes:
        size = _measure([root / path for path in described], location)
        if size is None:
            return None  # asked again, for a retry may know more
        _sizes[places] = size
    return _sizes[places]


def _measure(described: list[Path], location: Mapping[str, Any]) -> float | None:
    folder, gguf = Path(location.get("pretrained") or "."), location.get("gguf_file")
    for path in described:
        if path.is_file() and (total := _object(_object(path).get("result")).get("n_total")):
            return 4e-6 * float(total)
    if location.get("pretrained") and (folder / "config.json").is_file():
        config = _object(folder / "config.json")
        half = str(config.get("dtype", config.get("torch_dtype"))).endswith("16")
        return (2e-6 if half else 1e-6) * sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return _GGUF_GROWTH * 1e-6 * Path(gguf).stat().st_size if gguf and Path(gguf).is_file() else None


def _object(source: Any) -> dict[str, Any]:
    """Return the JSON object in a file, or a value that is one; empty if there is none."""
    if isinstance(source, Path):
        try:
            source = json.loads(source.read_text("utf-8"))
        except ValueError:
            return {}  # damaged: the stage that reads it says so
    return source if isinstance(source, dict) else {}
