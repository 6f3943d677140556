"""Chunks: many rows of the grid in one job, where Snakemake's own work for each job would cost more than the cells.

A row is what is missing of one cell: quantized weights and the loss. What rows share (the model, what is known of its
inputs) stays a job of its own. A chunk holds rows of one model, so that a worker loads it once, and rows that wait for
the same jobs, so that one that fails stops no row that can do without it. Results do not depend on the chunks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitlaw.artifacts import canonical, replace_file

SHARED = ("model", "calibrate", "factorize")
"""Stages whose artifacts many rows are made from."""


@dataclass(frozen=True)
class Chunk:
    """Some rows of one model.

    Attributes:
        name: ``<model>/<number>``.
        paths: the artifacts to make, parents before children.
        waits: the missing artifacts that other jobs make first.
    """

    name: str
    paths: tuple[str, ...]
    waits: tuple[str, ...]


def cut(orders: Mapping[str, Mapping[str, Any]], size: int) -> list[Chunk]:
    """Return the rows among ``orders`` in chunks of up to ``size`` rows; equal orders give equal chunks.

    Args:
        orders: what is missing, by path, parents first; see ``bitlaw.study.plan``.
        size: rows in a chunk, 1 or more.
    """
    chunks: list[Chunk] = []
    numbers: dict[str, int] = {}
    for (model, waits), rows in _groups(orders).items():
        for start in range(0, len(rows), size):
            numbers[model] = numbers.get(model, 0) + 1
            paths = tuple(path for row in rows[start : start + size] for path in row)
            chunks.append(Chunk(f"{model}/{numbers[model]:05d}", paths, waits))
    return chunks


def write(chunks: Iterable[Chunk], orders: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Write for each chunk a plan file that holds its orders alone, ``<folder>/<name>.jsonl``."""
    for chunk in chunks:
        data = "".join(f"{canonical(orders[path])}\n" for path in chunk.paths)
        replace_file(folder / f"{chunk.name}.jsonl", data.encode())


def _groups(orders: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, tuple[str, ...]], list[list[str]]]:
    """Return the rows, each the paths of its artifacts, by model and by what they wait for."""
    rows: dict[str, list[str]] = {}  # by the path of each artifact; those of one row share the list
    waits: dict[str, set[str]] = {}  # by the path of a row's first artifact
    for path, order in orders.items():
        if order["stage"] in SHARED or _model(path) is None:
            continue
        parents = [parent for group in order["inputs"].values() for parent in group if parent in orders]
        row = next((rows[parent] for parent in parents if parent in rows), [])
        row.append(path)
        rows[path] = row
        waits.setdefault(row[0], set()).update(parent for parent in parents if parent not in rows)
    groups: dict[tuple[str, tuple[str, ...]], list[list[str]]] = {}
    for first, others in waits.items():
        groups.setdefault((_model(first) or "", tuple(sorted(others))), []).append(rows[first])
    return groups


def _model(path: str) -> str | None:
    """Return the model that an artifact belongs to, None if it is one of the whole study."""
    _, _, *label, _ = path.split("/")
    return label[0] if label else None
