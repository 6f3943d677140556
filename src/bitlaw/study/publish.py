"""Copies of the final artifacts under names that stay: ``report/index.html``, ``report/table.parquet``, ..."""

from __future__ import annotations

from pathlib import Path

from bitlaw.artifacts import replace_file
from bitlaw.study.grid import Grid

VIEWS = {
    "report": "report/index.html",
    "table": "report/table.parquet",
    "laws": "report/laws.json",
    "predictor": "report/predictor.json",
    "claims": "report/claims.json",
}


def publish(grid: Grid, root: Path) -> list[str]:
    """Bring the files under ``report/`` up to the artifacts of ``grid`` that exist; return those that changed."""
    changed = []
    for name, made in grid.final.items():
        view = VIEWS[name]
        artifact, target = root / made.path, root / view
        if artifact.is_file():
            data = artifact.read_bytes()
            if not target.is_file() or target.read_bytes() != data:
                replace_file(target, data)
                changed.append(view)
    return changed
