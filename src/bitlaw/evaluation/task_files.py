"""Which zero-shot tasks a study names: tasks of lm-evaluation-harness, of this project, or of the user.

This runs at every planning, so it does not import the harness, which takes seconds, and loads no data.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import yaml

from bitlaw.artifacts import replace_file
from bitlaw.errors import UserError, did_you_mean, unknown

SHIPPED = Path(__file__).with_name("tasks")
"""Settings of tasks for data in a file of JSON lines, one YAML file each; they hold no data."""

_NAME = re.compile(r"^task:[ \t]*[\"']?([\w.\-]+)[\"']?[ \t]*$", re.MULTILINE)


class Entry(Protocol):
    """What a study says of a task; see ``bitlaw.study.params.Task``."""

    @property
    def task(self) -> str:
        """A name, or the path of a YAML file."""
        ...

    @property
    def data(self) -> str | None:
        """The path of a file of JSON lines."""
        ...


@dataclass(frozen=True)
class Task:
    """A task whose settings and data are known.

    Attributes:
        name: for tables.
        settings: the YAML file of its settings; of one in the harness itself if ``data`` and ``sha256`` are missing.
        sha256: of that file, for one that is not the harness's.
        data: a file of JSON lines.
        data_sha256: of that file.
    """

    name: str
    settings: Path
    sha256: str | None = None
    data: Path | None = None
    data_sha256: str | None = None

    def spec(self) -> dict[str, str | None]:
        """Return what determines its questions, beside the version of the harness."""
        return {"name": self.name, "settings": self.sha256, "data": self.data_sha256}

    def hints(self) -> dict[str, str | None]:
        """Return where it is on this machine."""
        return {"settings": str(self.settings), "data": str(self.data) if self.data else None}


def harness_version() -> str:
    """Return the version of lm-evaluation-harness. Raises ``UserError`` if it is not installed."""
    try:
        return metadata.version("lm_eval")
    except metadata.PackageNotFoundError:
        raise UserError("tasks need lm-evaluation-harness: pip install 'bitlaw[tasks]'", place="tasks") from None


def resolve_task(entry: Entry, root: Path) -> Task:
    """Return the task that ``entry`` means.

    Args:
        entry: of a study.
        root: the project folder, where relative paths begin.

    Raises:
        UserError: no such task or file, or settings that are not plain YAML.
    """
    data = _file(root, entry.data, "data file") if entry.data is not None else None
    digest = _sha256(data) if data else None
    if entry.task.endswith((".yaml", ".yml")):
        path = _file(root, entry.task, "task file")
        settings = read_settings(path)
        name = settings.get("task")
        return Task(name if isinstance(name, str) else path.stem, path, _sha256(path), data, digest)
    if data is None:
        return Task(entry.task, _in_harness(entry.task, root))
    known = sorted(path.stem for path in SHIPPED.glob("*.yaml"))
    if entry.task not in known:
        raise UserError(
            f"no task '{entry.task}' for a file of yours{did_you_mean(entry.task, known)} "
            "Or give the path of a YAML file with the settings of a task"
        )
    path = SHIPPED / f"{entry.task}.yaml"
    return Task(entry.task, path, _sha256(path), data, digest)


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings of a task in a YAML file that is not the harness's.

    Raises:
        UserError: it is no mapping of plain values, or is not complete without other files.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        if "!function" in str(error):
            raise UserError("'!function' runs code; write the prompts as templates", place=str(path)) from None
        raise UserError(f"malformed YAML: {' '.join(str(error).split())}", place=str(path)) from None
    if not isinstance(content, dict) or "output_type" not in content:
        raise UserError("no settings of a task: `output_type: multiple_choice` and so on", place=str(path))
    if "include" in content:
        raise UserError("'include' leads to another file, whose changes no key would see", place=str(path))
    return content


def read_rows(path: Path, sha256: str) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON lines that has the given SHA-256.

    Raises:
        UserError: it has another one, or a line is no JSON object.
    """
    if _sha256(path) != sha256:
        raise UserError("the data has changed since this was planned; start the run again", place=str(path))
    rows = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        try:
            row = json.loads(line) if line.strip() else None
        except ValueError:
            row = line
        if row is not None and not isinstance(row, dict):
            raise UserError("the line is no JSON object", place=f"{path}:{number}")
        rows += [row] if row is not None else []
    if not rows:
        raise UserError("there are no questions in it", place=str(path))
    return rows


def _file(root: Path, name: str, kind: str) -> Path:
    path = root / Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"no such {kind}; looked for {path}", place=name)
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _in_harness(name: str, root: Path) -> Path:
    """Return the file with the settings of the harness's task ``name``."""
    names = _harness_tasks(harness_version(), root / ".bitlaw" / "harness")
    if name not in names and (SHIPPED / f"{name}.yaml").is_file():
        raise UserError(f"'{name}' reads a file: say {{task: {name}, data: FILE}}, or name a task of the harness")
    if name not in names:
        raise unknown("task of lm-evaluation-harness", name, names)
    return _harness_folder() / names[name]


def _harness_folder() -> Path:
    found = find_spec("lm_eval")
    assert found is not None and found.origin is not None  # its version is known
    return Path(found.origin).with_name("tasks")


@cache
def _harness_tasks(version: str, cache_folder: Path) -> dict[str, str]:
    """Return the file of each task of the harness, by name, relative to its folder of tasks."""
    kept = cache_folder / f"tasks-{version}.json"
    try:
        known = json.loads(kept.read_text("utf-8"))
        if isinstance(known, dict):
            return known
    except (OSError, ValueError):
        pass  # made below
    folder = _harness_folder()
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*.yaml")):
        for name in _NAME.findall(path.read_text("utf-8")):
            found.setdefault(name, str(path.relative_to(folder)))
    replace_file(kept, json.dumps(found).encode())
    return found


def check_names(tasks: Sequence[Task]) -> int | None:
    """Return the place of the first task that has the name of one before it, or None."""
    names = [task.name for task in tasks]
    return next((place for place, name in enumerate(names) if name in names[:place]), None)
