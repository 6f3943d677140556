"""dvc.lock in merges: either side is a true record of results, so git need not ask a user to choose."""

from __future__ import annotations

import subprocess
from pathlib import Path

_DRIVER = "merge.dvc-lock.driver"


def keep_in_merges(root: Path) -> bool:
    """Let git keep this side's dvc.lock when both sides changed it; return whether that is new in this clone.

    ``.gitattributes`` names the driver; git takes the command of a driver only from the configuration of the clone.
    Elsewhere than in a clone whose ``.gitattributes`` names it, nothing happens.
    """
    attributes = root / ".gitattributes"
    if not attributes.is_file() or "merge=dvc-lock" not in attributes.read_text("utf-8"):
        return False
    try:
        if _git(root, "--get", _DRIVER):
            return False
        # `true` leaves the file as it is, which is this side's, and says that it is merged.
        return _git(root, "--local", _DRIVER, "true")
    except FileNotFoundError:
        return False  # results are exchanged without git too


def _git(root: Path, *arguments: str) -> bool:
    command = ["git", "config", *arguments]
    done = subprocess.run(command, cwd=root, check=False, capture_output=True)  # noqa: S603  (no shell, no input)
    return done.returncode == 0
