"""The typed form of a study: what ``params.yaml`` and ``studies/*.yaml`` may say.

Models, texts, methods and laws are plugins, so their settings are collected from the plugins' own classes here;
adding one changes nothing in this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, create_model

from bitlaw.formats import grammar
from bitlaw.laws import LAWS
from bitlaw.methods import METHODS
from bitlaw.models.sources import SOURCES
from bitlaw.text import CORPORA


def _spelled_out(tag: str) -> BeforeValidator:
    """Let a bare name stand for a mapping that holds nothing else: ``pydoc`` for ``{source: pydoc}``."""
    return BeforeValidator(lambda value: {tag: value} if isinstance(value, str) else value)


def _named(kind: str, settings: Mapping[str, type[BaseModel]]) -> Any:
    """Return the union of ``settings``, each with a field ``name`` that says which one it is."""
    classes = [
        create_model(f"{name}_{kind}", __base__=cls, __doc__=cls.__doc__, name=(Literal[name], name))
        for name, cls in settings.items()
    ]
    return Annotated[Union[tuple(classes)], Field(discriminator="name")]  # noqa: UP007 (made at run time)


def _canonical_format(name: str) -> str:
    return str(grammar.parse(name))


if TYPE_CHECKING:
    ModelEntry = Any
    TextEntry = Any
    MethodEntry = Any
    LawEntry = Any
else:
    ModelEntry = Annotated[Union[tuple(s.Settings for s in SOURCES.values())], Field(discriminator="source")]  # noqa: UP007
    TextEntry = Annotated[
        Annotated[Union[tuple(c.Settings for c in CORPORA.values())], Field(discriminator="source")],  # noqa: UP007
        _spelled_out("source"),
    ]
    MethodEntry = Annotated[_named("method", {n: m.Settings for n, m in METHODS.items()}), _spelled_out("name")]
    LawEntry = Annotated[_named("law", {n: law.settings for n, law in LAWS.items()}), _spelled_out("name")]

FormatName = Annotated[
    str,
    AfterValidator(_canonical_format),
    WithJsonSchema({"type": "string", "description": "a number format, see `bitlaw formats`"}),
]


class Section(BaseModel):
    """Base of the sections of a study: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Calibration(Section):
    """The text that methods such as GPTQ look at.

    Attributes:
        text: where the text comes from.
        samples: number of windows drawn from it.
        length: tokens in a window.
        seed: of the draw.
    """

    text: TextEntry
    samples: int = Field(default=64, ge=1)
    length: int = Field(default=256, ge=1)
    seed: int = 0


class Evaluation(Section):
    """The text that losses are measured on, and how.

    Attributes:
        text: where the text comes from.
        window: tokens that the model sees at once.
        stride: tokens from one window to the next; with ``window - 1`` every token but the first is scored once.
        max_tokens: use only the first tokens of the text; all if null.
        batch: windows computed at once. It is part of the key, for the sum's last digits depend on it.
        dtype: precision of the computation.
    """

    text: TextEntry
    window: int = Field(default=256, ge=2)
    stride: int = Field(default=255, ge=1)
    max_tokens: int | None = Field(default=None, ge=2)
    batch: int = Field(default=16, ge=1)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"


class Study(Section):
    """One study.

    Attributes:
        title: the report's title.
        models: the models, each from a source.
        formats: names of number formats; every model is quantized to each.
        methods: rounding methods; every format is tried with each.
        calibration: text for the methods that need one.
        evaluation: text and protocol of the loss.
        laws: the laws fitted to the table.
        bootstraps: bootstrap samples behind each interval.
        seed: of the fits and their bootstrap.
    """

    title: str = "Quantization study"
    models: tuple[ModelEntry, ...] = Field(min_length=1)
    formats: tuple[FormatName, ...] = ()
    methods: tuple[MethodEntry, ...] = ()
    calibration: Calibration = Calibration.model_construct(text=CORPORA["stdlib"].Settings())
    evaluation: Evaluation = Evaluation.model_construct(text=CORPORA["pydoc"].Settings())
    laws: tuple[LawEntry, ...] = ()
    bootstraps: int = Field(default=1000, ge=1)
    seed: int = 0
