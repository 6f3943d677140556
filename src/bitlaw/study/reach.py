"""Which keys the studies of a checkout reach: a script that runs with that checkout's code.

    PYTHONPATH=<checkout>/src python -P reach.py <checkout>

It uses only ``load_study``, ``expand`` and keys, so that older code answers too. It prints one JSON object: for each
study ``keys`` and ``strict``, or ``error``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

SELECTED = "params.yaml"
"""Stands for the study that ``params.yaml`` selects, with what it overrides."""


def studies(root: Path) -> dict[str, tuple[str, ...]]:
    """Return the studies of ``root`` by what they are called here, and the names that ``load_study`` takes.

    All of them count, at each of their scales, not only the one of ``params.yaml``: each can be run as it stands with
    ``--config study=NAME``, and a switch of ``params.yaml`` for an afternoon must not make the results of the others
    removable.
    """
    named: dict[str, tuple[str, ...]] = {SELECTED: ()} if (root / SELECTED).is_file() else {}
    for file in sorted((root / "studies").glob("*.yaml")):
        named[file.stem] = (file.stem,)
        named |= {f"{file.stem}, scale {scale}": (file.stem, scale) for scale in _scales(file)}
    return named


def _scales(file: Path) -> list[str]:
    """Return the names of the scales of a study file; none if it cannot be read, which is said of the study itself."""
    try:
        found = yaml.safe_load(file.read_text("utf-8"))["scales"]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return []
    return [str(name) for name in found] if isinstance(found, dict) else []


def reached(root: Path, *names: str) -> dict[str, Any]:
    """Return ``keys`` (sorted) and ``strict`` of one study, or ``error``: why it cannot be judged."""
    try:
        from bitlaw.study.grid import expand
        from bitlaw.study.load import load_study

        loaded = load_study(root, *names)
        keys = sorted({artifact.key for artifact in expand(loaded).artifacts})
        return {"keys": keys, "strict": bool(getattr(loaded.study, "strict_env", False))}
    except Exception as error:  # whatever it is, in code of any age: the study is not judged, and that is said
        return {"error": " ".join(str(error).split()) or type(error).__name__}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print(json.dumps({study: reached(folder, *names) for study, names in studies(folder).items()}))
