"""Which cell of a study is meant, and its quantized weights, made if they are not there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bitlaw.errors import UserError, unknown
from bitlaw.formats import grammar
from bitlaw.study.artifact import Artifact
from bitlaw.study.grid import Grid
from bitlaw.study.make import make
from bitlaw.study.plan import order


def find_cell(grid: Grid, model: str, fmt: str, method: str, settings: Mapping[str, Any]) -> Artifact:
    """Return the quantize artifact of one cell.

    Args:
        grid: the study's artifacts.
        model: name of the model in the study.
        fmt: name of a format, in any spelling that the grammar reads.
        method: name of a method.
        settings: settings of the method that the cell must have; those left out may be anything.

    Raises:
        UserError: no such model, format, method or setting in the study, no cell, or more than one.
    """
    cells = list({one.key: one for one in grid.artifacts if one.stage == "quantize"}.values())
    if not cells:
        raise UserError("the study quantizes nothing, so there is nothing to export")
    cells = _with("model of the study", model, cells, [_model(cell) for cell in cells])
    cells = _with("format of the study", str(grammar.parse(fmt)), cells, [cell.spec["format"] for cell in cells])
    cells = _with("method of the study", method, cells, [cell.spec["method"] for cell in cells])
    for name in settings:
        if not any(name in cell.spec["settings"] for cell in cells):
            known = {name for cell in cells for name in cell.spec["settings"]}
            raise unknown(f"setting of {method}", name, known, place="--settings")
    matching = [cell for cell in cells if settings.items() <= cell.spec["settings"].items()]
    if len(matching) == 1:
        return matching[0]
    choices = " or ".join(json.dumps(one) for one in _differences(matching or cells))
    said = f"{len(matching)} cells of the study have" if matching else "no cell of the study has"
    raise UserError(f"{said} these settings; choose one with {choices}", place="--settings")


def ensure(artifact: Artifact, root: Path) -> Path:
    """Make ``artifact`` and what it needs, unless it is there, and return its file.

    Raises:
        UserError: what a stage says.
    """
    path = root / artifact.path
    if not path.exists():
        for group in artifact.parents.values():
            for parent in group:
                ensure(parent, root)
        make(order(artifact), root)
    return path


def model_of(artifact: Artifact) -> Artifact:
    """Return the model artifact that ``artifact`` was made from."""
    (model,) = artifact.parents["model"]
    return model


def _model(cell: Artifact) -> str:
    return cell.label.split("/")[0]  # an artifact's label begins with the model's name


def _with(kind: str, name: str, cells: list[Artifact], names: Sequence[str]) -> list[Artifact]:
    found = [cell for cell, one in zip(cells, names, strict=True) if one == name]
    if not found:
        raise unknown(kind, name, names)
    return found


def _differences(cells: Sequence[Artifact]) -> list[dict[str, Any]]:
    """Return, for each cell, the settings that tell it from the others."""
    every = [cell.spec["settings"] for cell in cells]
    names = sorted({name for one in every for name in one})
    telling = [name for name in names if any(one.get(name) != every[0].get(name) for one in every)] or names
    return [{name: one[name] for name in telling if name in one} for one in every]
