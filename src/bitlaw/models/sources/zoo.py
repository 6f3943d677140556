"""The small models that come with bitlaw, trained by its own recipes."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Literal

import bitlaw
from bitlaw.errors import UserError, unknown
from bitlaw.models.sources.base import ModelSpec, SourceSettings
from bitlaw.models.sources.folder import FileHashes, folder_spec


class ZooSettings(SourceSettings):
    """An entry ``{source: zoo, name: "gpt2-*"}``.

    Attributes:
        name: a name, a pattern with ``*`` and ``?``, or a list of them; all models if not given.
    """

    source: Literal["zoo"]
    name: str | list[str] = "*"


class ZooSource:
    """See ``ZooSettings``. Models lie in ``data/zoo/<name>/`` beside ``params.yaml``, or else beside the package."""

    Settings = ZooSettings

    def resolve(self, settings: ZooSettings, root: Path) -> list[ModelSpec]:
        """Return the models whose names match. Raises ``UserError`` for a pattern that matches none."""
        zoo = _folder(root)
        names = sorted(path.name for path in zoo.iterdir() if (path / "config.json").is_file())
        patterns = [settings.name] if isinstance(settings.name, str) else settings.name
        chosen: dict[str, None] = {}
        for pattern in patterns:
            matched = fnmatch.filter(names, pattern)
            if not matched:
                raise unknown("zoo model", pattern, names)
            chosen.update(dict.fromkeys(matched))
        with FileHashes(root) as hashes:
            return [folder_spec(zoo / name, name, "zoo", hashes) for name in chosen]


def _folder(root: Path) -> Path:
    own, shipped = root / "data" / "zoo", Path(bitlaw.__file__).parents[2] / "data" / "zoo"
    for folder in (own, shipped):
        if folder.is_dir():
            return folder
    raise UserError(
        "the zoo comes with the project's repository, not with the package: run this in a checkout, or copy its "
        "data/zoo here",
        place=str(own),
    )


SOURCE = ZooSource()
