"""Small projects in temporary folders: a study of the embedded models, ready to plan and to run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from bitlaw.study.artifact import Artifact
    from bitlaw.study.plan import Plan

REPOSITORY = Path(__file__).resolve().parents[1]
ZOO = REPOSITORY / "data" / "zoo"
# Texts, tasks and tables that are no part of the project; tests that want them skip where the folder is not there.
SHARED = REPOSITORY.parent / "shared"
SMALL: Mapping[str, Any] = {
    "title": "A small study",
    "models": [{"source": "zoo", "name": "gpt2-0.1m"}],
    "formats": ["int4_b64"],
    "methods": ["rtn", "gptq"],
    "calibration": {"text": {"source": "file", "path": "words.txt"}, "samples": 2, "length": 32},
    "evaluation": {"text": {"source": "file", "path": "words.txt"}, "window": 32, "stride": 31, "max_tokens": 200},
    "laws": [],
    "bootstraps": 10,
}
KEY = re.compile("[0-9a-f]{32}")
WORDS = "A model reads a text and says how likely each word of it is; the sum of the surprise is its loss.\n" * 20


class Project:
    """A project folder with one study, ``small``.

    Args:
        root: an empty folder.
        changes: keys of the study that differ from ``SMALL``.
    """

    def __init__(self, root: Path, **changes: Any) -> None:
        self.root = root
        (root / "studies").mkdir(parents=True)
        (root / "data").mkdir()
        (root / "data" / "zoo").symlink_to(ZOO)
        (root / "words.txt").write_text(WORDS)
        self.params("study: small\n")
        self.study(**changes)

    def params(self, text: str) -> None:
        """Write ``params.yaml``."""
        (self.root / "params.yaml").write_text(text, "utf-8")

    def study(self, **changes: Any) -> None:
        """Write the study: ``SMALL`` with ``changes``."""
        text = yaml.safe_dump({**SMALL, **changes}, sort_keys=False)
        (self.root / "studies" / "small.yaml").write_text(text, "utf-8")

    def plan(self) -> Plan:
        """Return the plan of the study as it stands against the store as it stands."""
        from bitlaw.study.grid import expand
        from bitlaw.study.load import load_study
        from bitlaw.study.plan import Plan, present

        return Plan(expand(load_study(self.root)), present(self.root), self.root)

    def artifacts(self) -> list[Artifact]:
        """Return all artifacts of the study."""
        return list(self.plan().grid.artifacts)

    def pretend(self, *stages: str) -> None:
        """Put an empty file where each artifact of ``stages`` (default: all) would be; planning looks no closer."""
        for artifact in self.artifacts():
            if not stages or artifact.stage in stages:
                path = self.root / artifact.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()

    def results(self) -> list[str]:
        """Return the artifacts under ``results/``, relative to it, without the files that belong to one (pictures)."""
        folder = self.root / "results"
        files = [path for path in folder.rglob("*") if path.is_file() and not KEY.fullmatch(path.parent.name)]
        return sorted(str(path.relative_to(folder)) for path in files)


def counts(project: Project) -> dict[str, tuple[int, int, int]]:
    """Return by stage how many artifacts the project needs, has and misses."""
    return {stage: (needs, has, misses) for stage, needs, has, misses in project.plan().counts()}
