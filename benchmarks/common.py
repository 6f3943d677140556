"""What the CPU benchmarks share: one thread, all sides in turn, medians, the machine's name."""

from __future__ import annotations

import importlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # also for libraries with threads of their own

import torch

torch.set_num_threads(1)

SLOW = 0.25
"""Seconds; what takes longer is run in every fourth round only."""


def package(name: str) -> Any:
    """Return the module called ``name``, or ``None`` if its package is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def medians(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median CPU seconds of each call: of this process, so that other programs do not count.

    All calls are made in turn, so that a change of the machine's speed meets all of them.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for name, call in calls.items():
        times[name].append(_seconds(call))  # not counted: what is loaded or compiled at the first call
    slow = {name for name, (first,) in times.items() if first > SLOW}
    for i in range(rounds):
        for name, call in calls.items():
            if name not in slow or i % 4 == 0:
                times[name].append(_seconds(call))
    return {name: statistics.median(seconds[1:]) for name, seconds in times.items()}


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def machine() -> str:
    """Return processor, cores and versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores, torch {torch.__version__}, Python {platform.python_version()}"


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of those of ``packages`` (names of distributions) that are installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def save(path: Path | None, record: Mapping[str, Any]) -> None:
    """Write ``record`` as JSON, if a path is given."""
    if path is not None:
        path.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
