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


FIGURES = "report/figures"
"""Folder of the page's figures as pictures, in a folder for each kind of file: ``svg/`` and ``png/``."""


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
    return [*changed, *_publish_figures(root / grid.report.payload, root)]


def _publish_figures(made: Path, root: Path) -> list[str]:
    """Bring the pictures under ``FIGURES`` up to those in ``made``, if there are any; return those that changed."""
    pictures = {f"{path.suffix[1:]}/{path.name}": path for path in made.iterdir()} if made.is_dir() else {}
    folder = root / FIGURES
    changed = []
    for name, path in sorted(pictures.items()):
        data, target = path.read_bytes(), folder / name
        if not target.is_file() or target.read_bytes() != data:
            replace_file(target, data)
            changed.append(f"{FIGURES}/{name}")
    for old in sorted(folder.glob("*/[!.]*")) if pictures else []:
        if (name := old.relative_to(folder).as_posix()) not in pictures:
            old.unlink()
            changed.append(f"{FIGURES}/{name}")
    return changed
