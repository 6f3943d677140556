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

SELECTED = "params.yaml"
"""Stands for the study that ``params.yaml`` selects, with what it overrides."""


def studies(root: Path) -> dict[str, str | None]:
    """Return the studies of ``root`` by what they are called here, and the name that ``load_study`` takes.

    All of them count, not only the one of ``params.yaml``: each can be run as it stands with ``--config study=NAME``,
    and a switch of ``params.yaml`` for an afternoon must not make the results of the others removable.
    """
    named: dict[str, str | None] = {SELECTED: None} if (root / SELECTED).is_file() else {}
    return named | {file.stem: file.stem for file in sorted((root / "studies").glob("*.yaml"))}


def reached(root: Path, name: str | None) -> dict[str, Any]:
    """Return ``keys`` (sorted) and ``strict`` of one study, or ``error``: why it cannot be judged."""
    try:
        from bitlaw.study.grid import expand
        from bitlaw.study.load import load_study

        loaded = load_study(root, name)
        keys = sorted({artifact.key for artifact in expand(loaded).artifacts})
        return {"keys": keys, "strict": bool(getattr(loaded.study, "strict_env", False))}
    except Exception as error:  # whatever it is, in code of any age: the study is not judged, and that is said
        return {"error": " ".join(str(error).split()) or type(error).__name__}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print(json.dumps({study: reached(folder, name) for study, name in studies(folder).items()}))
