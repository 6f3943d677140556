"""A model in a folder of your own, as ``save_pretrained`` writes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from bitlaw.models.sources.base import ModelSpec, SourceSettings
from bitlaw.models.sources.folder import FileHashes, folder_spec


class PathSettings(SourceSettings):
    """An entry ``{source: path, path: ../my-model}``.

    Attributes:
        path: the folder; a relative one starts at the folder of ``params.yaml``.
        name: what to call it; its folder's name if not given.
        family: its family; the configuration's ``model_type`` if not given.
        n_tokens: how many tokens it was trained on, if known.
    """

    source: Literal["path"]
    path: str
    name: str | None = None
    family: str | None = None
    n_tokens: int | None = None


class PathSource:
    """See ``PathSettings``."""

    Settings = PathSettings

    def resolve(self, settings: PathSettings, root: Path) -> list[ModelSpec]:
        """Return the one model. Raises ``UserError`` for a folder that cannot be used."""
        folder = (root / Path(settings.path).expanduser()).resolve()
        with FileHashes(root) as hashes:
            spec = folder_spec(folder, settings.name or folder.name, "path", hashes)
        given = {"family": settings.family, "n_tokens": settings.n_tokens}
        return [replace(spec, labels={**spec.labels, **{k: v for k, v in given.items() if v is not None}})]


SOURCE = PathSource()
