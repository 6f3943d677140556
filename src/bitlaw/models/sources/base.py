"""What a model source is: settings in ``params.yaml`` become models with an identity and a location."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class ModelSpec:
    """One model of a study.

    Attributes:
        name: what it is called in tables and file names; unique in a study.
        identity: JSON values that determine its weights and tokenizer; hashed into the keys of all that is made
            from it.
        location: where it is on this machine, never hashed: ``pretrained`` (folder or hub repository), ``revision``,
            ``trust_remote_code``; or ``payload: true`` when the model stage writes the weights itself.
        labels: columns for the table: ``family`` (null: what its configuration says), ``source`` and ``n_tokens``
            (training tokens; null: what its ``recipe.json`` says, if there is one).
    """

    name: str
    identity: Mapping[str, Any]
    location: Mapping[str, Any]
    labels: Mapping[str, Any] = field(default_factory=dict)


class SourceSettings(BaseModel):
    """Base of every source's settings: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Protocol):
    """One kind of model source. Each module in ``bitlaw.models.sources`` may assign one to ``SOURCE``.

    ``resolve`` runs at every planning, so it imports neither torch nor transformers and asks no network.
    """

    @property
    def Settings(self) -> type[BaseModel]:  # noqa: N802 (it is a class)
        """The pydantic model of this source's entry in ``params.yaml``; its field ``source`` names the source."""
        ...

    def resolve(self, settings: Any, root: Path) -> list[ModelSpec]:
        """Return the models that ``settings`` (an instance of ``Settings``) stand for.

        Args:
            settings: the validated entry.
            root: folder of ``params.yaml``; relative paths start there.

        Raises:
            UserError: a model that is not there or cannot be used.
        """
        ...
