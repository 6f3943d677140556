"""Room on the disks that results, downloaded models and compiled kernels go to, and in memory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bitlaw.doctor.base import Finding
from bitlaw.errors import UserError
from bitlaw.study.load import find_root

LITTLE, NONE = 10 * 2**30, 2**30
"""Free bytes of a disk below which a warning is due, and below which nothing can be run."""


def check(root: str | None) -> list[Finding]:
    """Return how much room there is."""
    try:
        results = find_root(Path(root) if root else None) / "results"
    except UserError:
        results = Path.cwd()
    hub = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    found = [_disk("disk of results", results, "bitlaw gc removes what no study needs; or move the project")]
    found.append(_disk("disk of models", hub, "set HF_HOME to a larger disk"))
    return [*found, *_memory()]


def _disk(name: str, path: Path, fix: str) -> Finding:
    there = path
    while not there.exists():
        there = there.parent
    if not os.access(there, os.W_OK):
        return Finding(name, "fail", f"{there} cannot be written to", "change its owner, or its mode with chmod u+w")
    free = shutil.disk_usage(there).free
    says = f"{free / 2**30:.1f} GiB free at {there}"
    if free < NONE:
        return Finding(name, "fail", says, fix)
    return Finding(name, "warn", says, fix) if free < LITTLE else Finding(name, "ok", says)


def _memory() -> list[Finding]:
    from bitlaw.models.device import free_bytes

    free = free_bytes("cpu")
    if free is None:
        return []
    says = f"{free / 2**30:.1f} GiB free, {os.cpu_count()} processors"
    if free < 2 * 2**30:
        return [Finding("memory", "warn", says, "end other programs, or take fewer cores: snakemake --cores 1")]
    return [Finding("memory", "ok", says)]


CHECK = check
