"""What artifacts were or will be made from: from their headers, from the study, or from the plans of earlier runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bitlaw.errors import DamagedArtifactError, UserError, unknown
from bitlaw.stages import STAGES
from bitlaw.study.artifact import Artifact, code_modules, code_of
from bitlaw.study.environment import is_strict
from bitlaw.study.fingerprint import closure
from bitlaw.study.plan import Plan, order
from bitlaw.study.publish import VIEWS

_PLACE = re.compile(r"results/(?P<stage>[^/]+)/(?:(?P<label>.+)/)?(?P<key>[0-9a-f]{32})(?P<suffix>\.[a-z]+)")
_HTML = ".html"


@dataclass(frozen=True)
class Record:
    """What is known of one artifact.

    Attributes:
        path: where it is or would be, relative to the project folder.
        stage: name of the stage that makes it.
        key: its key.
        label: its readable folder.
        spec: the parameters that determine it.
        parents: the keys of what it is made from, by role.
        code: fingerprint of the code that makes it, with versions of libraries if these count.
        made_with: versions that were recorded when it was made; ``None`` if that is not known.
        exists: whether it is in ``results``.
        planned: whether the study at hand has it.
    """

    path: str
    stage: str
    key: str
    label: str
    spec: Mapping[str, Any]
    parents: Mapping[str, list[str]]
    code: str
    made_with: Mapping[str, str] | None
    exists: bool
    planned: bool

    def modules(self) -> list[str] | None:
        """Return the modules behind ``code``, or ``None`` if the present code is another one."""
        try:
            if code_of(self.stage, self.spec, strict=is_strict(self.code)) == self.code:
                return sorted(closure(code_modules(self.stage, self.spec)))
        except (UserError, KeyError, TypeError):
            pass  # the code has no such stage, method or format any more, or reads another form of spec
        return None


@dataclass(frozen=True)
class Place:
    """What the path of an artifact says.

    Attributes:
        path: relative to the project folder.
        stage: the stage's name.
        label: the readable folder, empty if there is none.
        key: the key.
    """

    path: str
    stage: str
    label: str
    key: str


def place_of(path: str) -> Place | None:
    """Return what ``path``, relative to the project folder, says if it has the form of an artifact's."""
    match = _PLACE.fullmatch(path)
    if match is None or match["stage"] not in STAGES:
        return None
    return Place(path, match["stage"], match["label"] or "", match["key"])


def read_head(path: Path) -> dict[str, Any] | None:
    """Return the header of an artifact without loading torch and without checking sums; ``None`` for a page.

    Raises:
        DamagedArtifactError: the file holds no header where there should be one.
    """
    try:
        if path.suffix == _HTML:
            return None
        if path.suffix == ".parquet":
            return _parquet_head(path)
        text = path.read_text("utf-8") if path.suffix == ".json" else _tensors_head(path)
        header: dict[str, Any] = json.loads(text)["header"]
        return header
    except (ValueError, KeyError, TypeError):
        raise DamagedArtifactError("damaged: it has no header; delete it and run again", place=str(path)) from None


def _tensors_head(path: Path) -> str:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > path.stat().st_size:
            raise ValueError("no safetensors file")
        return str(json.loads(file.read(size))["__metadata__"]["bitlaw"])


def _parquet_head(path: Path) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        header: dict[str, Any] = json.loads((pq.read_schema(path).metadata or {})[b"bitlaw"])
    except pa.ArrowException as error:
        raise ValueError(str(error)) from None
    return header


class Records:
    """The artifacts that are in ``results``, that the study at hand has, or that earlier runs planned.

    Args:
        plan: the study at hand against the store.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    @cached_property
    def _places(self) -> dict[str, Place]:
        return {place.key: place for path in sorted(self._plan.have) if (place := place_of(path))}

    @cached_property
    def _planned(self) -> dict[str, Artifact]:
        return {artifact.key: artifact for artifact in self._plan.grid.artifacts}

    def named(self, name: str) -> Record:
        """Return the record of the artifact that a user names.

        Args:
            name: a path, one of the files under ``report/``, a key, or the beginning of a key.

        Raises:
            UserError: there is none, there are several, or nothing is known of it.
        """
        key = self._key(name)
        record = self.get(key)
        if record is None:
            raise UserError(
                "nothing is known of how it was made: a page carries no header, and neither the study nor a plan "
                "under .bitlaw/plans has it",
                place=name,
            )
        return record

    def get(self, key: str) -> Record | None:
        """Return the record of the artifact with this key, or ``None`` if nothing is known of it.

        Raises:
            DamagedArtifactError: its file has no header.
        """
        planned = key in self._planned
        place = self._places.get(key)
        head = read_head(self._plan.root / place.path) if place else None
        if place and head:
            parts = {name: head[name] for name in ("spec", "parents", "code", "made_with")}
            return Record(place.path, place.stage, key, place.label, **parts, exists=True, planned=planned)
        content = order(self._planned[key]) if planned else next(self._ordered(key), None)
        if content is None:
            return None
        path = place.path if place else content["path"]
        found = place_of(path)
        parts = {name: content[name] for name in ("stage", "spec", "parents", "code")}
        label = found.label if found else ""
        return Record(path, key=key, label=label, **parts, made_with=None, exists=bool(place), planned=planned)

    def beside(self, record: Record) -> list[str]:
        """Return the paths of other artifacts of the same stage under the same label, sorted."""
        near = (place for place in self._places.values() if (place.stage, place.label) == (record.stage, record.label))
        return sorted(place.path for place in near if place.key != record.key)

    def _key(self, name: str) -> str:
        for part, view in VIEWS.items():
            made = self._plan.grid.final.get(part)
            if made is not None and (Path.cwd() / name).resolve() == self._plan.root / view:
                return str(made.key)
        text = Path(name).name.partition(".")[0].lower()
        keys = sorted({*self._places, *self._planned})
        found = [key for key in keys if key.startswith(text)] if text else []
        if len(found) == 1:
            return found[0]
        if len(found) > 1:
            shown = ", ".join(key[: len(text) + 4] for key in found[:4])
            raise UserError(f"{len(found)} artifacts have keys that begin so: {shown}, ...; give more", place=name)
        if re.fullmatch("[0-9a-f]{32}", text) and next(self._ordered(text), None):
            return text
        if "/" not in name:
            raise UserError("no artifact in results/ or of the study has a key that begins so", place=name)
        paths = [place.path for place in self._places.values()] + [one.path for one in self._planned.values()]
        raise unknown("artifact", name, paths)

    def _ordered(self, key: str) -> Iterator[dict[str, Any]]:
        """Yield the orders for ``key`` in the plans of earlier runs."""
        for file in sorted((self._plan.root / ".bitlaw" / "plans").glob("*.jsonl")):
            with file.open(encoding="utf-8") as lines:
                for line in lines:
                    if f'"key":"{key}"' in line:
                        yield json.loads(line)
