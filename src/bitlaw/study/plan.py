"""What a study needs, has and misses; and the file that tells a job what to make.

An artifact that exists is valid, so a plan is a walk from the final artifacts down to what exists. What lies below an
existing artifact is not needed, present or not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bitlaw.artifacts import canonical, replace_file, sha256
from bitlaw.errors import UserError
from bitlaw.study.artifact import RESULTS, Artifact
from bitlaw.study.grid import Grid

FINAL = ("table", "laws", "predictor", "claims", "report")
"""Stages of the whole study, which follow from its cells in seconds."""


def present(root: Path) -> set[str]:
    """Return the paths of all files under ``results``, relative to ``root``, by one walk."""
    found: set[str] = set()
    for folder, _, files in os.walk(root / RESULTS):
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        found.update(f"{relative}/{name}" for name in files)
    return found


@dataclass(frozen=True)
class Plan:
    """A grid against the store.

    Attributes:
        grid: the artifacts of the study.
        have: paths that exist.
        root: the project folder.
    """

    grid: Grid
    have: set[str]
    root: Path

    @cached_property
    def missing(self) -> dict[str, Artifact]:
        """The artifacts to make, by path, parents first."""
        needed: set[str] = set()
        waiting = list(self.grid.final.values())
        while waiting:
            artifact = waiting.pop()
            if artifact.path not in self.have and artifact.path not in needed:
                needed.add(artifact.path)
                waiting += [parent for parents in artifact.parents.values() for parent in parents]
        return {artifact.path: artifact for artifact in self.grid.artifacts if artifact.path in needed}

    def missing_parents(self, path: str) -> list[str]:
        """Return the parents of the missing artifact ``path`` that are missing too."""
        parents = self.missing[path].parents.values()
        return [parent.path for group in parents for parent in group if parent.path in self.missing]

    def counts(self) -> list[tuple[str, int, int, int]]:
        """Return for each stage, in the order of the flow: name, artifacts needed, those that exist, those to make."""
        depth: dict[str, int] = {}
        below: dict[Artifact, int] = {}
        for artifact in self.grid.artifacts:  # parents come first
            parents = [parent for group in artifact.parents.values() for parent in group]
            below[artifact] = 1 + max((below[parent] for parent in parents), default=0)
            depth[artifact.stage] = max(below[artifact], depth.get(artifact.stage, 0))
        rows = []
        for stage in sorted(depth, key=depth.__getitem__):
            paths = {artifact.path for artifact in self.grid.artifacts if artifact.stage == stage}
            rows.append((stage, len(paths), len(paths & self.have), len(paths & self.missing.keys())))
        return rows

    def write(self) -> Path:
        """Write the orders for all missing artifacts to ``.bitlaw/plans/<hash>.jsonl`` and return that file."""
        lines = [canonical(order(artifact)) for artifact in self.missing.values()]
        data = "".join(f"{line}\n" for line in lines).encode()
        path = self.root / ".bitlaw" / "plans" / f"{sha256(data)[:32]}.jsonl"
        if not path.is_file():
            replace_file(path, data)
        return path


def order(artifact: Artifact) -> dict[str, Any]:
    """Return all that a job must know to make ``artifact``, in the one form that it has in a plan file."""
    content = {
        "path": artifact.path,
        "payload": artifact.payload,
        "stage": artifact.stage,
        "key": artifact.key,
        "spec": artifact.spec,
        "code": artifact.code,
        "parents": {role: [parent.key for parent in group] for role, group in artifact.parents.items()},
        "inputs": {role: [parent.path for parent in group] for role, group in artifact.parents.items()},
        "hints": artifact.hints,
    }
    # Read back, because the order of keys can show in a result: it must be the same with and without a file.
    one: dict[str, Any] = json.loads(canonical(content))
    return one


def read_orders(path: Path) -> dict[str, Mapping[str, Any]]:
    """Return the orders in a plan file, by the path of the artifact. Raises ``UserError`` for no plan file."""
    if not path.is_file():
        raise UserError("no such plan file; each run writes its own under .bitlaw/plans", place=str(path))
    try:
        orders = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return {one["path"]: one for one in orders}
    except (ValueError, KeyError, TypeError):
        raise UserError("not a plan file", place=str(path)) from None
