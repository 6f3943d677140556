"""How the recommended checkpoint is made."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitlaw.methods import METHODS
from bitlaw.models.hub import is_name
from bitlaw.table import UNQUANTIZED

if TYPE_CHECKING:
    from bitlaw.advise.engine import Engine
    from bitlaw.advise.question import Choice

COMMIT = "COMMIT"
"""Stands for the revision of a repository that was not asked of the hub."""


def command(choice: Choice, engine: Engine, name: str, *, studied: bool = False) -> dict[str, Any]:
    """Return how to make the checkpoint: ``params`` for ``params.yaml`` (may be null), ``command``, and ``note``.

    Args:
        choice: what was chosen.
        engine: what serves it.
        name: the model as the user named it.
        studied: whether the project's study has the cell, so that nothing is to be written into ``params.yaml``.
    """
    if choice.format == UNQUANTIZED:
        return {"params": None, "command": None, "note": "nothing to make: the model serves as it is"}
    way = engine.way(choice.format, choice.method)
    if way is not None and way.makes:
        line = way.makes.format(model=name, format=choice.format, FORMAT=choice.format.upper())
        matrix = json.loads(choice.settings).get("imatrix") if choice.settings.startswith("{") else None
        note = f"measured with an importance matrix ({matrix}): llama-imatrix makes one" if matrix else None
        return {"params": None, "command": line, "note": note}
    if choice.method not in METHODS:
        return {"params": None, "command": None, "note": f"bitlaw has no method '{choice.method}': see its source"}
    model = choice.known.name if studied else None
    study = None if model else params(choice, name)
    notes = []
    if study is not None and COMMIT in str(study):
        notes.append(f"{COMMIT} and OWNER stand for the model's repository on the hub, which was not asked")
    if choice.measured and model is None and choice.settings not in ("", "{}", "<NA>"):
        notes.append(f"measured with the settings {choice.settings}")
    return {
        "params": study,
        "command": f"bitlaw export {model or _label(name)} {choice.format} {choice.method} --to out/{_folder(choice)}",
        "note": "; ".join(notes) or None,
    }


def params(choice: Choice, name: str) -> dict[str, Any]:
    """Return what ``params.yaml`` must say for ``bitlaw export`` to make the choice."""
    folder = choice.known.folder
    if is_name(name) and not Path(name).exists():
        commit = folder.name if folder is not None and re.fullmatch("[0-9a-f]{40}", folder.name) else COMMIT
        model = {"source": "hub", "repo": name, "revision": commit}
    elif folder is not None:
        model = {"source": "path", "path": str(folder.resolve())}
    else:
        model = {"source": "hub", "repo": f"OWNER/{choice.known.name}", "revision": COMMIT}
    return {"models": [model], "formats": [choice.format], "methods": [choice.method]}


def _label(name: str) -> str:
    """Return what a study calls the model that the user named."""
    return Path(name).resolve().name if Path(name).exists() else name.rpartition("/")[2]


def _folder(choice: Choice) -> str:
    return f"{choice.known.name.rpartition('/')[2]}-{choice.format}-{choice.method}"
