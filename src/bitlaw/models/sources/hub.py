"""A model of the Hugging Face hub at an exact revision."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import field_validator

from bitlaw.errors import UserError
from bitlaw.models.sources.base import ModelSpec, SourceSettings


class HubSettings(SourceSettings):
    """An entry ``{source: hub, repo: EleutherAI/pythia-70m, revision: <commit or tag>}``.

    Attributes:
        repo: the repository, ``owner/name`` or ``name``.
        revision: a commit or a tag. It stands for the weights in every key, so a branch that moves will not do.
        name: what to call it; the last part of ``repo`` if not given.
        family: its family; the configuration's ``model_type`` if not given.
        n_tokens: how many tokens it was trained on, if known.
        trust_remote_code: whether to run Python code from the repository.
    """

    source: Literal["hub"]
    repo: str
    revision: str
    name: str | None = None
    family: str | None = None
    n_tokens: int | None = None
    trust_remote_code: bool = False

    @field_validator("revision")
    @classmethod
    def _fixed(cls, value: str) -> str:
        if value in ("main", "master", "HEAD", ""):
            raise UserError(f"revision '{value}' is a branch that moves; give a commit or a tag")
        return value


class HubSource:
    """See ``HubSettings``. Planning asks no network: the model stage downloads what is not in the local cache."""

    Settings = HubSettings

    def resolve(self, settings: HubSettings, root: Path) -> list[ModelSpec]:
        """Return the one model."""
        return [
            ModelSpec(
                name=settings.name or settings.repo.rpartition("/")[2],
                identity={"source": "hub", "repo": settings.repo, "revision": settings.revision},
                location={
                    "pretrained": settings.repo,
                    "revision": settings.revision,
                    "trust_remote_code": settings.trust_remote_code,
                },
                labels={"source": "hub", "family": settings.family, "n_tokens": settings.n_tokens},
            )
        ]


SOURCE = HubSource()
