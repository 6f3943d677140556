"""A model in a GGUF file (llama.cpp); the model stage turns it into an ordinary folder in 16 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from bitlaw.errors import UserError
from bitlaw.models.sources.base import ModelSpec, SourceSettings
from bitlaw.models.sources.folder import FileHashes


class GgufSettings(SourceSettings):
    """An entry ``{source: gguf, path: model.gguf}``.

    Attributes:
        path: the file; a relative one starts at the folder of ``params.yaml``.
        name: what to call it; the file's name without ending if not given.
        family: its family; the configuration's ``model_type`` if not given.
        n_tokens: how many tokens it was trained on, if known.
    """

    source: Literal["gguf"]
    path: str
    name: str | None = None
    family: str | None = None
    n_tokens: int | None = None


class GgufSource:
    """See ``GgufSettings``."""

    Settings = GgufSettings

    def resolve(self, settings: GgufSettings, root: Path) -> list[ModelSpec]:
        """Return the one model. Raises ``UserError`` for a file that is not there or is no GGUF file."""
        file = (root / Path(settings.path).expanduser()).resolve()
        if not file.is_file():
            raise UserError("no such file", place=str(file))
        with file.open("rb") as opened:
            if opened.read(4) != b"GGUF":
                raise UserError("not a GGUF file", place=str(file))
        with FileHashes(root) as hashes:
            digest = hashes.of(file)
        return [
            ModelSpec(
                name=settings.name or file.stem,
                identity={"source": "gguf", "sha256": digest},
                location={"payload": True, "gguf_file": str(file), "revision": None, "trust_remote_code": False},
                labels={"source": "gguf", "family": settings.family, "n_tokens": settings.n_tokens},
            )
        ]


SOURCE = GgufSource()
