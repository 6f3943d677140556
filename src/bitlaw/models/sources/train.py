"""``source: train``: a model that the workflow trains itself, from a transformers configuration and a text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from bitlaw.models.sources.base import ModelSpec
from bitlaw.text.base import TextSettings
from bitlaw.text.store import parse_text, resolve_texts


class Recipe(BaseModel):
    """How to train.

    Attributes:
        text: the sources of the training text, in order.
        vocab_size: size of the byte-level BPE tokenizer trained on that text.
        tokenizer_share: the tokenizer is trained on every n-th document.
        context: tokens in a training sequence.
        tokens: training tokens D, counted with repetition.
        batch: sequences in an optimizer step.
        lr: peak learning rate of AdamW; linear warm-up, then linear decay to zero.
        warmup: share of the steps that warm up.
        weight_decay: decoupled weight decay of the matrices.
        holdout: sequences of the text that are never trained on; their loss is the validation loss.
        seed: of the initial weights and of the order of the sequences.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: tuple[Any, ...] = Field(min_length=1)
    vocab_size: int = Field(default=2048, ge=257)
    tokenizer_share: int = Field(default=8, ge=1)
    context: int = Field(default=256, ge=2)
    tokens: int = Field(ge=1)
    batch: int = Field(default=256, ge=1)
    lr: float = Field(default=4e-3, gt=0)
    warmup: float = Field(default=0.02, ge=0, lt=1)
    weight_decay: float = Field(default=0.1, ge=0)
    holdout: int = Field(default=1024, ge=1)
    seed: int = Field(default=0, ge=0)

    @field_validator("text")
    @classmethod
    def _texts(cls, value: tuple[Any, ...]) -> tuple[TextSettings, ...]:
        return tuple(parse_text(text) for text in value)


class TrainSettings(BaseModel):
    """A model to train.

    Attributes:
        name: its name in tables.
        architecture: a transformers model type with a causal-LM class, such as ``gpt2`` or ``llama``.
        config: fields of that type's configuration class; vocabulary and special tokens are filled in.
        recipe: how to train it.
        family: in tables; the architecture if null.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["train"] = "train"
    name: str
    architecture: str
    config: dict[str, Any]
    recipe: Recipe
    family: str | None = None


class Train:
    """Models made from a recipe; the weights become part of the results."""

    Settings = TrainSettings

    def resolve(self, settings: TrainSettings, root: Path) -> list[ModelSpec]:
        """Return the one model. Its identity holds the hash of each training text. Raises ``UserError`` for a text."""
        texts = resolve_texts(settings.recipe.text, root)
        batch = settings.recipe.batch * settings.recipe.context
        seen = math.ceil(settings.recipe.tokens / batch) * batch  # whole steps
        recipe = settings.recipe.model_dump(exclude={"text"}, mode="json")
        identity = {
            "source": "train",
            "architecture": settings.architecture,
            "config": settings.config,
            "recipe": {**recipe, "text": [text.sha256 for text in texts]},
        }
        location = {
            "payload": True,
            "texts": [str(text.path) for text in texts],
            "names": [text.name for text in texts],
            "origins": [text.origin for text in settings.recipe.text],
        }
        labels = {"source": "train", "family": settings.family or settings.architecture, "n_tokens": seen}
        return [ModelSpec(settings.name, identity, location, labels)]


SOURCE = Train()
