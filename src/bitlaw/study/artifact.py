"""An artifact before it is made: what determines it, and so its key and its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from bitlaw.artifacts import canonical, sha256
from bitlaw.stages import STAGES
from bitlaw.study.environment import libraries, with_libraries
from bitlaw.study.fingerprint import fingerprint

RESULTS = "results"


@dataclass(frozen=True, eq=False)
class Artifact:
    """One node of the graph.

    Attributes:
        stage: name of the stage that makes it.
        spec: the parameters that determine it (JSON values).
        parents: what it is made from, by role.
        label: readable folder below the stage's; says nothing that the key does not. It begins with the model's name:
            a model that gets another name keeps its keys, so its folders can be renamed instead of made again.
        hints: where inputs are on this machine; not part of the key.
        strict: whether the versions of the libraries that compute it are part of the key.
    """

    stage: str
    spec: Mapping[str, Any]
    parents: Mapping[str, tuple[Artifact, ...]]
    label: str
    hints: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = False

    @cached_property
    def code(self) -> str:
        """Fingerprint of the code that makes it, with the versions of libraries if the study is strict."""
        return code_of(self.stage, self.spec, strict=self.strict)

    @cached_property
    def key(self) -> str:
        """SHA-256, cut to 32 hexadecimal digits, over all that determines the artifact."""
        parents = {role: [parent.key for parent in parents] for role, parents in self.parents.items()}
        whole = {"stage": self.stage, "spec": self.spec, "parents": parents, "code": self.code}
        return sha256(canonical(whole).encode())[:32]

    @cached_property
    def path(self) -> str:
        """Where it is or will be, relative to the project folder: ``results/<stage>/<label>/<key><suffix>``."""
        folder = f"{RESULTS}/{self.stage}/{self.label}" if self.label else f"{RESULTS}/{self.stage}"
        return f"{folder}/{self.key}{STAGES[self.stage].suffix}"

    @property
    def payload(self) -> str:
        """Folder for further files of the artifact, beside it."""
        return str(PurePosixPath(self.path).with_suffix(""))


def code_of(stage: str, spec: Mapping[str, Any], *, strict: bool = False) -> str:
    """Return the fingerprint of the code by which ``stage`` makes the artifact of ``spec``.

    Args:
        stage: name of the stage.
        spec: the parameters that determine the artifact.
        strict: whether the versions of the libraries that this code computes with belong to it.

    Raises:
        UserError: such a library is not installed.
    """
    modules = code_modules(stage, spec)
    return with_libraries(fingerprint(modules), libraries(modules)) if strict else fingerprint(modules)


def code_modules(stage: str, spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the modules that ``stage`` makes the artifact of ``spec`` by: its own and those chosen at run time."""
    return (STAGES.module(stage), *sorted(STAGES[stage].code(spec)))
