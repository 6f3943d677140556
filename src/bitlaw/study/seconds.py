"""How long artifacts took to make: a log beside them, for equal artifacts have equal bytes and so cannot tell."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

FOLDER = Path(".bitlaw", "seconds")


class Seconds:
    """Writes the log of one process: JSON lines with ``path``, ``stage`` and ``seconds`` of wall time.

    Args:
        root: the project folder.
    """

    def __init__(self, root: Path) -> None:
        folder = root / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"{time.time_ns()}-{os.getpid()}.jsonl").open("w", encoding="utf-8", buffering=1)

    def add(self, order: Mapping[str, Any], seconds: float) -> None:
        """Note that the artifact of ``order`` took ``seconds``."""
        line = {"path": order["path"], "stage": order["stage"], "seconds": round(seconds, 5)}
        self._file.write(f"{json.dumps(line)}\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def read_seconds(root: Path) -> dict[str, float]:
    """Return the seconds of each artifact, by path; of one that was made more than once those of the last time."""
    found: dict[str, float] = {}
    for path in sorted((root / FOLDER).glob("*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            try:
                told = json.loads(line)
                found[told["path"]] = float(told["seconds"])
            except (ValueError, KeyError):  # the last line of a process that was killed
                continue
    return found
