"""What in ``results`` nothing reaches, with its size, and its removal."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bitlaw.errors import DamagedArtifactError, UserError
from bitlaw.stages import STAGES
from bitlaw.study.artifact import RESULTS
from bitlaw.study.environment import installed, split_code
from bitlaw.study.record import read_head

# The name of an artifact or of its payload folder, and of what a job that was killed leaves behind.
_ARTIFACT = re.compile(r"([0-9a-f]{32})(\.[a-z]+)?")
_DAMAGED = re.compile(r"[0-9a-f]{32}\.[a-z]+\.damaged")
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
STALE_SECONDS = 24 * 3600.0
"""A temporary file younger than this may be one that a job is writing, here or on another machine."""


@dataclass(frozen=True)
class Item:
    """A file or folder that nothing reaches.

    Attributes:
        path: relative to the project folder; a folder is an artifact's payload, or a temporary one.
        size: bytes of all files in it.
        why: ``unreached``, ``temporary`` or ``damaged``.
    """

    path: str
    size: int
    why: str


def unreached(root: Path, keep: Callable[[str, Path], bool]) -> list[Item]:
    """Return what can go, sorted by path: artifacts and payloads, damaged artifacts, stale temporary files.

    What has no form of an artifact, such as a note of yours, is not looked at, nor are the texts in ``results/text``.

    Args:
        root: the project folder.
        keep: whether to keep the artifact, or payload folder, of a key, at a path.
    """
    items = []
    for path in _candidates(root):
        why = _why(path, keep)
        if why is not None:
            items.append(Item(path.relative_to(root).as_posix(), _size(path), why))
    return sorted(items, key=lambda item: item.path)


def other_libraries(path: Path) -> bool:
    """Return whether other versions of libraries than those installed here may count in the artifact at ``path``.

    Of a page this is not known, nor of a payload folder without its artifact.
    """
    file = path.with_suffix(".json") if path.is_dir() else path
    try:
        head = read_head(file) if file.is_file() else None
    except DamagedArtifactError:
        return False
    if head is None:
        return True
    return any(installed(name) != version for name, version in split_code(head["code"])[1].items())


def remove(root: Path, items: Iterable[Item]) -> None:
    """Remove ``items`` and the folders that are empty then.

    Raises:
        UserError: Snakemake runs here, or was killed and has left its lock.
    """
    if any((root / ".snakemake" / "locks").glob("*")):
        raise UserError(
            "a run is going on here; wait for its end, or, if it was killed, run `snakemake --unlock` first",
            place=str(root),
        )
    # Folders last: an artifact must never stand there without its payload.
    for path in sorted((root / item.path for item in items), key=Path.is_dir):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        _remove_empty(path.parent, root / RESULTS)


def _candidates(root: Path) -> Iterator[Path]:
    """Yield the files and payload folders of all stages; the content of a payload folder is part of it."""
    for stage in sorted(STAGES):
        for folder, folders, files in os.walk(root / RESULTS / stage):
            whole = [name for name in folders if _ARTIFACT.fullmatch(name) or _TEMPORARY.fullmatch(name)]
            folders[:] = [name for name in folders if name not in whole]
            yield from (Path(folder, name) for name in (*whole, *files))


def _why(path: Path, keep: Callable[[str, Path], bool]) -> str | None:
    if _TEMPORARY.fullmatch(path.name):
        return "temporary" if time.time() - _newest(path) > STALE_SECONDS else None
    if _DAMAGED.fullmatch(path.name):
        return "damaged"
    match = _ARTIFACT.fullmatch(path.name)
    if match is None or (match[2] is None) != path.is_dir():
        return None
    return None if keep(match[1], path) else "unreached"


def _files(path: Path) -> list[Path]:
    return [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]


def _size(path: Path) -> int:
    return sum(each.stat().st_size for each in _files(path) if each.exists())


def _newest(path: Path) -> float:
    return max(each.lstat().st_mtime for each in [path, *_files(path)])


def _remove_empty(folder: Path, top: Path) -> None:
    while folder != top and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
