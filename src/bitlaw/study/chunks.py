"""Chunks: many rows of the grid in one job, where Snakemake's own work for each job would cost more than the cells.

A row is what is missing of one cell: quantized weights and the loss. What rows share (the model, what is known of its
inputs) stays a job of its own. A chunk holds rows of one model, so that a worker loads it once, and rows that wait for
the same jobs, so that one that fails stops no row that can do without it. Results do not depend on the chunks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bitlaw.artifacts import canonical, replace_file

SHARED = ("model", "calibrate", "factorize", "sensitivity", "mix")
"""Stages whose artifacts many rows are made from. Quantized weights join them where mixes are made of them."""


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
    for (model, _), rows in _groups(orders).items():
        for start in range(0, len(rows), size):
            numbers[model] = numbers.get(model, 0) + 1
            some = rows[start : start + size]
            waits = sorted({path for row in some for path in row.waits})
            chunks.append(
                Chunk(f"{model}/{numbers[model]:05d}", tuple(p for row in some for p in row.paths), (*waits,))
            )
    return chunks


def write(chunks: Iterable[Chunk], orders: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Write for each chunk a plan file that holds its orders alone, ``<folder>/<name>.jsonl``."""
    for chunk in chunks:
        data = "".join(f"{canonical(orders[path])}\n" for path in chunk.paths)
        replace_file(folder / f"{chunk.name}.jsonl", data.encode())


@dataclass
class _Row:
    """The artifacts of one cell, parents before children, and the missing ones that they wait for."""

    paths: list[str] = field(default_factory=list)
    waits: set[str] = field(default_factory=set)


def _groups(orders: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, tuple[str, ...]], list[_Row]]:
    """Return the rows by model and by what they wait for, mixes apart: these are small and each cell has its own."""
    shared = _shared(orders)
    rows: dict[str, _Row] = {}  # by the path of each artifact
    for path, order in orders.items():
        if path in shared or _model(path) is None:
            continue
        parents = [parent for group in order["inputs"].values() for parent in group if parent in orders]
        row = next((rows[parent] for parent in parents if parent in rows), _Row())
        row.paths.append(path)
        row.waits.update(parent for parent in parents if parent not in rows)
        rows[path] = row
    groups: dict[tuple[str, tuple[str, ...]], list[_Row]] = {}
    for row in {id(row): row for row in rows.values()}.values():
        others = sorted(path for path in row.waits if orders[path]["stage"] != "mix")
        groups.setdefault((_model(row.paths[0]) or "", tuple(others)), []).append(row)
    return groups


def _shared(orders: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the artifacts of no row: those of shared stages, and what these and mixed cells are made of."""
    found = {path for path, order in orders.items() if order["stage"] in SHARED}
    for path, order in orders.items():
        if path in found or "mix" in order["inputs"]:
            found.update(parent for group in order["inputs"].values() for parent in group)
    return found


def _model(path: str) -> str | None:
    """Return the model that an artifact belongs to, None if it is one of the whole study."""
    _, _, *label, _ = path.split("/")
    return label[0] if label else None
