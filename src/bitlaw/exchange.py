"""Finished artifacts, exchanged one by one with a DVC remote.

DVC versions folders: what a colleague made is reachable through their commit, as a whole. An artifact names itself, so
it can also travel alone. On the remote it is ``cells/<stage>/<key>~<label><suffix>``, the slashes of its label written
as ``~``: one flat folder a stage, which a remote of any kind lists at once. Files beside it (trained weights) are in
the folder of the same name without the suffix, and ``<key>~<label>.files.json`` says which they are and their SHA-256.

Only JSON and safetensors are read from a remote, and nothing that has not its own checksum and the key of its name is
put into the store. The table, the laws and the report are not exchanged: they follow from the cells in seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bitlaw.artifacts import canonical, read_header, read_json, read_tensors, replace_file
from bitlaw.errors import DamagedArtifactError, UserError, unknown
from bitlaw.progress import track
from bitlaw.stages import STAGES
from bitlaw.study.artifact import RESULTS
from bitlaw.study.plan import FINAL, Plan

CELLS = "cells"
READABLE = (".json", ".safetensors")
_FILES = ".files.json"
_NAME = re.compile(r"(?P<key>[0-9a-f]{32})(?P<label>(~[A-Za-z0-9][A-Za-z0-9._-]*)*)(?P<suffix>\.json|\.safetensors)")
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
# Remotes that show a file when all of it is there; on others it gets a temporary name first.
_WHOLE_FILES = {"local", "s3", "gs", "azure", "oss"}


@dataclass(frozen=True)
class Cell:
    """An artifact that travels.

    Attributes:
        stage: the stage that made it.
        key: its key.
        label: its folder below the stage's, with slashes; may be empty.
        suffix: its ending, with the dot.
    """

    stage: str
    key: str
    label: str
    suffix: str

    @property
    def path(self) -> str:
        """Where it is in the store, relative to the project folder."""
        return str(PurePosixPath(RESULTS, self.stage, self.label, f"{self.key}{self.suffix}"))

    @property
    def name(self) -> str:
        """What it is called on a remote, below the stage's folder, without its ending."""
        return "~".join((self.key, *PurePosixPath(self.label).parts))


def named(stage: str, name: str) -> Cell | None:
    """Return the artifact that a remote calls ``name``; nothing if that is no name of an artifact."""
    found = _NAME.fullmatch(name)
    if found is None or name.endswith(_FILES):
        return None
    return Cell(stage, found["key"], found["label"].removeprefix("~").replace("~", "/"), found["suffix"])


def stored(paths: Iterable[str]) -> list[Cell]:
    """Return the artifacts among ``paths`` (of files, relative to the project folder) that can travel, sorted."""
    cells = []
    for path in sorted(paths):
        _, stage, *label, name = PurePosixPath(path).parts if path.count("/") > 1 else ("", "", "")
        cell = named(stage, "~".join((name[:32], *label)) + name[32:])
        if cell is not None and cell.path == path and stage in STAGES and stage not in FINAL:
            cells.append(cell)
    return cells


def lacking(plan: Plan, there: Mapping[tuple[str, str], Cell]) -> list[Cell]:
    """Return what to get for ``plan``: what it misses, but nothing that is only needed to make what can be got.

    Args:
        plan: the study against the store.
        there: artifacts on the remote, by stage and key.
    """
    needed = {artifact.path for artifact in plan.missing.values() if artifact.stage in FINAL}
    found = []
    for artifact in reversed(list(plan.missing.values())):  # children before parents
        if artifact.path not in needed:
            continue
        if (artifact.stage, artifact.key) in there:
            suffix = PurePosixPath(artifact.path).suffix
            found.append(Cell(artifact.stage, artifact.key, artifact.label, suffix))
        else:
            needed.update(parent.path for group in artifact.parents.values() for parent in group)
    return found[::-1]


class Remote:
    """The ``cells`` of a DVC remote.

    Attributes:
        name: what DVC calls the remote.
    """

    def __init__(self, root: Path, name: str | None) -> None:
        """Open the remote ``name`` (default: DVC's default) of the project in ``root``.

        Raises:
            UserError: DVC or the package for this kind of remote is not there, or there is no such remote.
        """
        try:
            from dvc.exceptions import DvcException
            from dvc.repo import Repo
        except ImportError:
            raise UserError("remotes need DVC: pip install 'bitlaw[workflow]'") from None
        try:
            repo = Repo(str(root))
            known = repo.config["remote"]
            if name is not None and name not in known:
                raise unknown("remote", name, known, place="--remote")
            remote = repo.cloud.get_remote(name)
            self.name = name or repo.config["core"]["remote"]
            self._fs, self._folder = remote.fs, remote.fs.join(remote.path, CELLS)
        except DvcException as error:
            raise UserError(" ".join(str(error).split())) from None

    def cells(self, stages: Sequence[str]) -> dict[tuple[str, str], Cell]:
        """Return what is there of ``stages``, by stage and key."""
        found = {}
        with self._named():
            for stage in stages:
                folder = self._fs.join(self._folder, stage)
                for entry in self._fs.ls(folder, detail=False) if self._fs.exists(folder) else []:
                    cell = named(stage, self._fs.name(str(entry).rstrip("/")))
                    if cell is not None:
                        found[stage, cell.key] = cell
        return found

    def send(self, root: Path, cells: Sequence[Cell]) -> None:
        """Put ``cells`` from the store in ``root`` there, each when its content was checked.

        Raises:
            UserError: one is damaged, or the remote fails. What was sent before stays.
        """
        self._each(lambda cell: self._send(root, cell), cells, "sent")

    def fetch(self, root: Path, cells: Sequence[Cell], there: Mapping[tuple[str, str], Cell]) -> list[Cell]:
        """Bring ``cells`` into the store in ``root``, each when its content was checked; return the damaged ones.

        Args:
            root: the project folder.
            cells: what to bring, with the labels that they get here.
            there: what the remote has, as ``cells`` returned it.

        Raises:
            UserError: the remote fails. What was brought before stays.
        """
        done = self._each(lambda cell: self._fetch(root, cell, there[cell.stage, cell.key]), cells, "received")
        return [cell for cell, whole in zip(cells, done, strict=True) if not whole]

    def _send(self, root: Path, cell: Cell) -> None:
        path = root / cell.path
        check(path, cell)
        payload = path.with_suffix("")
        if payload.is_dir():
            sums = {}
            for file in sorted(payload.iterdir()):
                if file.suffix in READABLE and _PLAIN.fullmatch(file.name):
                    sums[file.name] = _sum(file)
                    self._put(file, cell.stage, cell.name, file.name)
            listing = root / ".bitlaw" / f"{cell.key}.{secrets.token_hex(4)}.json"
            replace_file(listing, canonical(sums).encode())
            try:
                self._put(listing, cell.stage, cell.name + _FILES)
            finally:
                listing.unlink()
        self._put(path, cell.stage, cell.name + cell.suffix)  # last: who sees it finds all that belongs to it

    def _fetch(self, root: Path, cell: Cell, source: Cell) -> bool:
        out = root / cell.path
        if out.exists():
            return True
        # In the final folder, so that moving is renaming; DVC and the plan pass over a name that ends like this.
        arriving = out.parent / f".{cell.key}.{secrets.token_hex(4)}.tmp"
        arriving.mkdir(parents=True)
        try:
            file, payload = arriving / out.name, arriving / cell.key
            self._get(file, cell.stage, source.name + source.suffix)
            check(file, cell)
            if cell.stage == "model" and self._exists(cell.stage, source.name + _FILES):
                self._get_payload(payload, source)
                shutil.rmtree(out.with_suffix(""), ignore_errors=True)
                payload.rename(out.with_suffix(""))
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
            file.replace(out)
            return True
        except DamagedArtifactError:
            return False
        finally:
            shutil.rmtree(arriving, ignore_errors=True)

    def _get_payload(self, folder: Path, source: Cell) -> None:
        folder.mkdir()
        listing = folder.with_suffix(_FILES)
        self._get(listing, source.stage, source.name + _FILES)
        try:
            sums = dict(json.loads(listing.read_text("utf-8")))
        except (ValueError, TypeError):
            raise DamagedArtifactError("not a list of files", place=listing.name) from None
        for name, expected in sums.items():
            if not _PLAIN.fullmatch(name) or Path(name).suffix not in READABLE:
                raise DamagedArtifactError(f"lists '{name}', which is neither JSON nor safetensors", place=listing.name)
            self._get(folder / name, source.stage, source.name, name)
            if _sum(folder / name) != expected:
                raise DamagedArtifactError("its content does not match its checksum", place=name)

    def _put(self, file: Path, *parts: str) -> None:
        from dvc_objects.fs.utils import as_atomic

        target = self._fs.join(self._folder, *parts)
        with self._named():
            self._fs.makedirs(self._fs.parent(target), exist_ok=True)
            if self._fs.protocol in _WHOLE_FILES:
                self._fs.put_file(str(file), target)
                return
            with as_atomic(self._fs, target) as temporary:
                self._fs.put_file(str(file), temporary)

    def _get(self, file: Path, *parts: str) -> None:
        with self._named():
            self._fs.get_file(self._fs.join(self._folder, *parts), str(file))

    def _exists(self, *parts: str) -> bool:
        with self._named():
            return bool(self._fs.exists(self._fs.join(self._folder, *parts)))

    def _each(self, work: Callable[[Cell], Any], cells: Sequence[Cell], what: str) -> list[Any]:
        """Do ``work`` for all ``cells``, several at once, and return what came out; stop at the first error."""
        pool = ThreadPoolExecutor(max_workers=min(16, self._fs.jobs))
        try:
            return [future.result() for future in track([pool.submit(work, cell) for cell in cells], what)]
        finally:
            pool.shutdown(cancel_futures=True)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Make one line of what goes wrong between here and the remote."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # every kind of remote has a library with errors of its own
            said = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"{said}; what was transferred is kept, run again to go on", place=f"remote '{self.name}'"
            ) from error


def check(path: Path, cell: Cell) -> None:
    """Check that the file ``path`` is ``cell``, whole: its checksum, and the one that its name says.

    Raises:
        DamagedArtifactError: it is not.
    """
    (read_json if cell.suffix == ".json" else read_tensors)(path)
    header = read_header(path)
    if (header["stage"], header["key"]) != (cell.stage, cell.key):
        raise DamagedArtifactError("it is not the artifact that its name says", place=str(path))


def _sum(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
