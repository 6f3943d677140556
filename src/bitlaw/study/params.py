"""The typed form of a study: what ``params.yaml`` and ``studies/*.yaml`` may say.

Models, texts, methods and laws are plugins, so their settings are collected from the plugins' own classes here;
adding one changes nothing in this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
    WithJsonSchema,
    create_model,
    field_validator,
)
from pydantic_core import CoreSchema, core_schema

from bitlaw.errors import UserError
from bitlaw.formats import grammar
from bitlaw.laws import LAWS
from bitlaw.methods import METHODS
from bitlaw.mixing import SELECTS
from bitlaw.models.sources import SOURCES
from bitlaw.text import CORPORA


@dataclass(frozen=True)
class _BareName:
    """Lets a bare name stand for a mapping that holds nothing else: ``pydoc`` for ``{source: pydoc}``.

    Attributes:
        tag: the key that the name is the value of.
        names: the names that may stand alone, because they need no other key; empty for any.
    """

    tag: str
    names: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda value: {self.tag: value} if isinstance(value, str) else value, handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        bare = {"type": "string", "enum": list(self.names)} if self.names else {"type": "string"}
        return {"anyOf": [bare, handler(schema)]}


@dataclass(frozen=True)
class _Short:
    """Lets a short form stand for a section.

    Attributes:
        of: a list for ``{of: list}``; if null, one mapping for a list of one.
    """

    of: str | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._long, handler(source))

    def _long(self, value: Any) -> Any:
        if self.of is not None:
            return {self.of: value} if isinstance(value, list) else value
        return value if isinstance(value, list | tuple) else [value]

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        long = handler(schema)
        if self.of is None:
            return {"anyOf": [long, long["items"]]}
        return {"anyOf": [handler.resolve_ref_schema(long)["properties"][self.of], long]}


def _chosen(tag: str, settings: Mapping[str, type[BaseModel]]) -> Any:
    """Return the union of the classes ``settings``, by their field ``tag``, or by a bare name."""
    members: Any = Annotated[Union[tuple(settings.values())], Field(discriminator=tag)]  # noqa: UP007 (made at run time)
    bare = (
        name
        for name, cls in settings.items()
        if not any(field.is_required() for key, field in cls.model_fields.items() if key != tag)
    )
    return Annotated[members, _BareName(tag, tuple(bare))]


def _named(kind: str, settings: Mapping[str, type[BaseModel]]) -> Any:
    """Return the union of ``settings``, each with a field ``name`` that says which one it is, or a bare name."""
    classes = {
        name: create_model(f"{name}_{kind}", __base__=cls, __doc__=cls.__doc__, name=(Literal[name], name))  # type: ignore[arg-type]
        for name, cls in settings.items()
    }
    return _chosen("name", classes)


def _selected(select: Mapping[str, type[BaseModel]]) -> Any:
    """Return the union of ``Mix`` with the settings of each selection, by the field ``select``."""
    classes = {
        name: create_model(f"{name}_mix", __base__=(Mix, cls), __doc__=cls.__doc__, select=(Literal[name], ...))  # type: ignore[arg-type]
        for name, cls in select.items()
    }
    return Annotated[Union[tuple(classes.values())], Field(discriminator="select")]  # noqa: UP007 (made at run time)


def _canonical_formats(text: str) -> tuple[str, ...]:
    return tuple(str(grammar.parse(name)) for name in grammar.expand(text))


def _one(names: tuple[str, ...]) -> str:
    if len(names) > 1:
        raise UserError(f"one format, not {len(names)}")
    return names[0]


def _flat(entries: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    return tuple(name for entry in entries for name in entry)


if TYPE_CHECKING:
    ModelEntry = Any
    TextEntry = Any
    MethodEntry = Any
    LawEntry = Any
    MixEntry = Any
else:
    ModelEntry = _chosen("source", {name: source.Settings for name, source in SOURCES.items()})
    TextEntry = _chosen("source", {name: corpus.Settings for name, corpus in CORPORA.items()})
    MethodEntry = _named("method", {name: method.Settings for name, method in METHODS.items()})
    LawEntry = _named("law", {name: law.settings for name, law in LAWS.items()})

Seed = Annotated[int, Field(ge=0, lt=2**63)]

FormatNames = Annotated[
    str,
    AfterValidator(_canonical_formats),
    WithJsonSchema(
        {"type": "string", "description": "a number format, see `bitlaw formats`; int{3..8}_b{64,128} are twelve"}
    ),
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

    text: TextEntry = CORPORA["stdlib"].Settings(source="stdlib")
    samples: int = Field(default=64, ge=1)
    length: int = Field(default=256, ge=1)
    seed: Seed = 0


class Evaluation(Section):
    """A text that losses are measured on, and how.

    Attributes:
        text: where the text comes from.
        name: label of the text in tables; its own name if null.
        window: tokens that the model sees at once.
        stride: tokens from one window to the next; with ``window - 1`` every token but the first is scored once.
        max_tokens: use only the first tokens of the text; all if null.
        batch: windows computed at once. It is part of the key, for the sum's last digits depend on it.
        dtype: precision of the computation.
        compile: whether the model goes through ``torch.compile``: faster on a GPU, after up to a minute for each
            model. It is part of the key, for it rounds elsewhere.
        variants: cells of a small model that are computed in one pass: faster on a GPU that waits for its host. A cell
            by itself takes as much of the GPU as so many. It is part of the key, for it rounds elsewhere.
    """

    text: TextEntry = CORPORA["pydoc"].Settings(source="pydoc")
    name: str | None = None
    window: int = Field(default=256, ge=2)
    stride: int = Field(default=255, ge=1)
    max_tokens: int | None = Field(default=None, ge=2)
    batch: int = Field(default=16, ge=1)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool = False
    variants: int = Field(default=1, ge=1)

    @field_validator("stride")
    @classmethod
    def _leaves_no_gap(cls, stride: int, info: ValidationInfo) -> int:
        window = info.data.get("window", stride)
        if stride > window:
            raise UserError(
                f"must be at most the window, {window}, not {stride}: tokens between windows would not count"
            )
        return stride


class Landscape(Section):
    """What is measured of the loss around the weights; see docs/landscape.md for what each costs.

    Attributes:
        along: ``random`` directions and ``curvature`` of each model, and each cell's own ``error``.
        text: where the text comes from; the text of the evaluation if null.
        tokens: use only the first tokens of the text.
        window: tokens that the model sees at once; the windows do not overlap.
        batch: windows computed at once. It is part of the key, for the sum's last digits depend on it.
        points: distances at which a profile along random directions is taken, from -60 dB to 0 dB.
        kinds: how random directions are drawn; the table has the first.
        directions: random directions of each kind.
        probes: random vectors behind the Hessian's trace.
        lanczos: steps towards its largest eigenvalue.
        error_points: distances at which the profile along a cell's error is taken; 0 for the prediction alone.
        seed: of directions, probes and Lanczos' first vector.
    """

    along: tuple[Literal["random", "curvature", "error"], ...] = ("random", "curvature", "error")
    text: TextEntry | None = None
    tokens: int = Field(default=2048, ge=2)
    window: int = Field(default=256, ge=2)
    batch: int = Field(default=8, ge=1)
    points: int = Field(default=25, ge=2)
    kinds: tuple[Literal["gaussian", "filter"], ...] = Field(default=("gaussian", "filter"), min_length=1)
    directions: int = Field(default=4, ge=1)
    probes: int = Field(default=8, ge=1)
    lanczos: int = Field(default=12, ge=1)
    error_points: int = Field(default=13, ge=0)
    seed: Seed = 0

    @field_validator("error_points")
    @classmethod
    def _none_or_a_line(cls, points: int) -> int:
        if points == 1:
            raise UserError("must be 0 for no profile or at least 2 points, not 1")
        return points

    @field_validator("along", "kinds")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for index, name in enumerate(names):
            if name in names[:index]:
                raise UserError(f"'{name}' is there twice")
        return names


class Task(Section):
    """A zero-shot task.

    Attributes:
        task: a task of lm-evaluation-harness, or, with ``data``, of this project, or the path of a YAML file.
        data: a file of JSON lines with its questions.
    """

    task: str
    data: str | None = None


class Tasks(Section):
    """The zero-shot tasks that every cell is tried on; a list stands for ``names``.

    Attributes:
        names: the tasks.
        limit: only the first questions of each; all if null.
        fewshot: examples before each question.
        seed: of the choice of examples.
        batch: questions at a time. It is part of the key, for the last digits depend on it.
        dtype: precision of the computation.
        formats: only cells in these formats are tried, and the unquantized model; all cells if null.
    """

    names: tuple[Annotated[Task, _BareName("task", ())], ...] = ()
    limit: int | None = Field(default=None, ge=1)
    fewshot: int = Field(default=0, ge=0)
    seed: Seed = 0
    batch: int = Field(default=16, ge=1)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    formats: Annotated[tuple[FormatNames, ...], AfterValidator(_flat)] | None = None


def _different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise UserError(f"{value} is there twice")
    return values


class Pairs(Section):
    """Formats and the methods that round to each of them.

    Attributes:
        formats: names of number formats.
        methods: rounding methods; every format is tried with each.
    """

    formats: Annotated[tuple[FormatNames, ...], AfterValidator(_flat)]
    methods: tuple[MethodEntry, ...]


class Mix(Section):
    """Cells in which a share of the weights is in the cell's format and the rest in a higher precision.

    Attributes:
        q_ratio: shares of the quantizable weights to quantize; each gives cells of its own.
        granularity: what is chosen as a whole: ``layer`` for transformer blocks, ``matmul`` for single linears.
        select: how it is chosen.
        high: format of the rest; 16 bits if null.
        formats: formats of the quantized share; those of the study if null.
        methods: methods that quantize it; those of the study if null.
    """

    q_ratio: Annotated[
        tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...], Field(min_length=1), AfterValidator(_different)
    ]
    granularity: Literal["layer", "matmul"]
    select: str
    high: Annotated[FormatNames, AfterValidator(_one)] | None = None
    formats: Annotated[tuple[FormatNames, ...], AfterValidator(_flat), AfterValidator(_different)] | None = None
    methods: Annotated[tuple[MethodEntry, ...], AfterValidator(_different)] | None = None


if not TYPE_CHECKING:
    MixEntry = _selected({name: select.Settings for name, select in SELECTS.items()})


class Study(Section):
    """One study.

    Attributes:
        title: the report's title.
        models: the models, each from a source.
        formats: names of number formats, with or without braces; every model is quantized to each.
        methods: rounding methods; every format is tried with each.
        grids: further formats with methods of their own, for cells that not every format and method shall have.
        mixes: mixed precisions; every format by every method is also tried in each, beside being used for all weights.
        calibration: text for the methods that need one.
        evaluation: texts and protocols of the loss, one or several; every cell has a row for each.
        tasks: zero-shot tasks.
        output_sqnr: whether errors of the linears' outputs on the calibration text are measured too.
        landscape: what is measured of the loss around the weights; nothing if null.
        laws: the laws fitted to the table.
        predictor: whether to report how well losses are predicted where they are left out.
        claims: whether to test what the papers claim on the table.
        bootstraps: bootstrap samples behind each interval.
        seed: of the fits and their bootstrap.
        device: where models are computed: ``cpu``, ``cuda``, ``cuda:1``, or ``auto`` for a GPU where there is one. It
            is recorded with each result and is no part of keys: what runs an artifact does not change its value but
            for the last digits.
        strict_env: whether another version of a library that computes values gives other keys.
    """

    title: str = "Quantization study"
    models: tuple[ModelEntry, ...] = Field(min_length=1)
    formats: Annotated[tuple[FormatNames, ...], AfterValidator(_flat)] = ()
    methods: tuple[MethodEntry, ...] = ()
    grids: tuple[Pairs, ...] = ()
    mixes: tuple[MixEntry, ...] = ()
    calibration: Calibration = Calibration()
    evaluation: Annotated[tuple[Evaluation, ...], Field(min_length=1), _Short()] = (Evaluation(),)
    tasks: Annotated[Tasks, _Short("names")] = Tasks()
    output_sqnr: bool = False
    landscape: Landscape | None = None
    laws: tuple[LawEntry, ...] = ()
    predictor: bool = False
    claims: bool = False
    bootstraps: int = Field(default=1000, ge=1)
    seed: Seed = 0
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")
    strict_env: bool = False

    @property
    def pairs(self) -> list[tuple[str, Any]]:
        """Every format with every method that it is tried with."""
        own = [(fmt, method) for fmt in self.formats for method in self.methods]
        return own + [(fmt, method) for grid in self.grids for fmt in grid.formats for method in grid.methods]
