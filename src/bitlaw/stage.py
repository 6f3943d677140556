"""What a stage is: a pure step from input files to one output file.

A stage knows nothing of the grid, of keys, of Snakemake or of DVC. It gets a ``Job`` and writes ``job.out``,
which is a temporary name: the store renames it when the stage has returned, so nothing half-written is ever seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True)
class Header:
    """What an artifact says of itself; stored inside it.

    Attributes:
        stage: name of the stage that made it.
        key: its key (32 hexadecimal digits).
        spec: the parameters that determine it.
        parents: the keys of what it was made from, by role.
        code: fingerprint of the code that made it.
        made_with: versions of Python and libraries; recorded, not part of the key.
    """

    stage: str
    key: str
    spec: Mapping[str, Any]
    parents: Mapping[str, list[str]]
    code: str
    made_with: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One artifact to make.

    Attributes:
        header: identity of the artifact; ``header.spec`` holds the parameters.
        inputs: files of the parents, by role.
        out: where to write (a temporary name in the final folder).
        hints: where things are on this machine (never part of a key): ``model`` and ``text``.
        payload: a folder for files that belong to the artifact but are too many for one file (trained weights).
    """

    header: Header
    inputs: Mapping[str, tuple[Path, ...]]
    out: Path
    payload: Path
    hints: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> Mapping[str, Any]:
        """The parameters that determine the artifact."""
        return self.header.spec

    def one(self, role: str) -> Path:
        """Return the only file of ``role``. Raises ``ValueError`` if there is not exactly one."""
        (path,) = self.inputs[role]
        return path


class Stage(Protocol):
    """One kind of artifact. Each module in ``bitlaw.stages`` assigns one to ``STAGE``.

    Attributes:
        suffix: file ending of its artifacts, with the dot.
    """

    suffix: str

    def code(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the dotted names of modules that the artifact's value depends on, beside the stage's own module.

        Modules that these import are found by following imports; name here only what is chosen at run time,
        such as the method's and the format's module.
        """
        ...

    def run(self, job: Job) -> None:
        """Make the artifact at ``job.out``."""
        ...


@runtime_checkable
class Together(Stage, Protocol):
    """A stage that can make several artifacts of one model and one spec at once, faster than one after the other.

    An artifact is the same, to the last digit, whichever others it is made with, or by itself.
    """

    def together(self, spec: Mapping[str, Any], inputs: Mapping[str, Sequence[Path]]) -> int:
        """Return how many artifacts like the one with this spec and these parents, files by role, are made at once.

        It is asked when all before it in the order of things are made, or could not be.
        """
        ...

    def run_together(self, jobs: Sequence[Job]) -> None:
        """Make the artifacts of ``jobs``, which differ in their other parents alone."""
        ...
