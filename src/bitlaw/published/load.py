"""The published results as a results table, checked line by line."""

from __future__ import annotations

import csv
import json
import math
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from bitlaw.artifacts import canonical
from bitlaw.errors import UserError, unknown
from bitlaw.formats import grammar
from bitlaw.table import COLUMNS, UNQUANTIZED, frame

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.resources.abc import Traversable

    import pandas as pd

UNNAMED = "unnamed"
NOT_RESULTS = ("models", "sources")
EXTRA = {
    "metric": "string",
    "accuracy": "float64",
    "baseline_nll": "float64",
    "baseline_accuracy": "float64",
    "granularity": "string",
    "activation_bits": "Int64",
    "block_values": "float64",
    "flag": "string",
    "note": "string",
    "reference": "string",
}
"""Columns that the published table has, those of ``bitlaw.table`` or beside them."""

_TAKEN = ("source", "model", "format", "bits", "effective_bits", "method", "settings", "q_ratio", "text", "window")
_CALIBRATION = ("calibration_text", "calibration_samples", "calibration_length")
_SAME_CELL = ("source", "model", "format", "method", "settings", "q_ratio", "granularity", "activation_bits")
_SAME_TEXT = ("text", "window", "metric")
_BASELINE = ("source", "model", "granularity", "text", "window", "metric")

Row = TypeVar("Row", bound=BaseModel)


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


Whole = Annotated[Annotated[int, Field(gt=0)] | None, BeforeValidator(_none_if_empty)]
Bits = Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(_none_if_empty)]


class Model(BaseModel):
    """A line of ``models.csv``.

    Attributes:
        model: label.
        family: family.
        n_params: parameters without embeddings and head, from the layers and widths of the released configuration.
        n_total: all parameters, as the model's name or card gives them.
        n_tokens: training tokens, as recalled from the model's paper: not checked against it; empty if not published.
        layers: number of layers.
        width: hidden size; the row length that ``effective_bits`` of a format with one scale a row counts with.
        kv_width: numbers that a layer keeps of a token as its key, and as many as its value: less than ``width`` where
            heads share them (grouped-query attention).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1)
    family: str = Field(min_length=1)
    n_params: int = Field(gt=0)
    n_total: int = Field(gt=0)
    n_tokens: Whole
    layers: int = Field(gt=0)
    width: int = Field(gt=0)
    kv_width: int = Field(gt=0)


class Source(BaseModel):
    """A line of ``sources.csv``: where numbers come from and how they were measured.

    What is said of calibration holds for all methods but round-to-nearest; it is empty where it is not stated.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(min_length=1)
    reference: str = Field(min_length=1)
    place: str = Field(min_length=1)
    calibration_text: str
    calibration_samples: Whole
    calibration_length: Whole
    protocol: str = Field(min_length=1)


class Cell(BaseModel):
    """A line of a file of results; see ``docs/published.md`` for the columns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    table: str = Field(min_length=1)
    model: str
    format: str = Field(min_length=1)
    bits: int = Field(gt=0, le=16)
    effective_bits: Bits
    block: str
    method: str = Field(min_length=1)
    settings: str
    q_ratio: float = Field(ge=0, le=1)
    granularity: Literal["", "layer", "matmul"]
    activation_bits: Whole
    text: str = Field(min_length=1)
    window: Whole
    metric: Literal["perplexity", "accuracy"]
    value: float
    flag: Literal["", "outlier", "suspect"]
    note: str

    @model_validator(mode="after")
    def _is_sound(self) -> Cell:
        if self.metric == "perplexity" and self.value < 1.0:
            raise UserError(f"a perplexity is at least 1, not {self.value:g}")
        if self.metric == "accuracy" and not 0.0 <= self.value <= 1.0:
            raise UserError(f"an accuracy lies between 0 and 1, not at {self.value:g}")
        if (self.q_ratio == 0.0) != (self.format == UNQUANTIZED):
            raise UserError(f"q_ratio {self.q_ratio:g} does not fit the format '{self.format}'")
        if self.flag and not self.note:
            raise UserError(f"the flag '{self.flag}' needs a note that says why")
        if canonical(json.loads(self.settings)) != self.settings:
            raise UserError(f"settings are not canonical JSON: {self.settings}")
        number = _number(self.format)
        if number is not None and (number.bits, str(number.block)) != (self.bits, self.block):
            raise UserError(f"'{self.format}' has {number.bits} bits and block {number.block}")
        return self


@cache
def _number(name: str) -> Any:
    """Return the format of that name, or ``None`` for one that only its source knows."""
    try:
        return None if name == UNQUANTIZED else grammar.parse(name)
    except UserError:
        return None


def load(names: Iterable[str] | None = None, *, folder: Traversable | None = None) -> pd.DataFrame:
    """Return the published results, one row per cell and metric, with the columns of ``bitlaw.table`` and ``EXTRA``.

    ``nll`` is ln(perplexity) in nats per token, ``delta_nll`` the difference to the same model, unquantized, in the
    same source, text and window; NaN where the source does not have it. A row of ``metric`` ``accuracy`` has its
    ``text`` set to the task, NaN losses, ``finite`` false, and ``accuracy`` as a share. ``key`` is file and line.

    Args:
        names: files to read, such as ``gptq_paper``; all if not given.
        folder: where they lie; those that come with bitlaw if not given.

    Raises:
        UserError: a file that is not there, or a line that is not sound; it names file, line and column.
    """
    import pandas as pd

    folder = _folder() if folder is None else folder
    known = {row.model: row for row, _ in _read(folder, "models", Model)}
    sources = {row.source: row for row, _ in _read(folder, "sources", Source)}
    found = {path.name.removesuffix(".csv") for path in folder.iterdir() if path.name.endswith(".csv")}
    valid = sorted(found - set(NOT_RESULTS))
    cells: list[tuple[Cell, str]] = []
    for name in valid if names is None else names:
        if name not in valid:
            raise unknown("file of published results", name, valid)
        cells += _read(folder, name, Cell)
    seen: dict[tuple[Any, ...], str] = {}
    for cell, place in cells:
        if cell.source not in sources:
            raise unknown("source", cell.source, sources, place=f"{place}, column source")
        if cell.model != UNNAMED and cell.model not in known:
            raise unknown("model", cell.model, known, place=f"{place}, column model")
        same = tuple(getattr(cell, name) for name in (*_SAME_CELL, *_SAME_TEXT))
        if same in seen:
            raise UserError(f"the same cell as {seen[same]}", place=place)
        seen[same] = place
    baselines = {_of(cell, _BASELINE): cell.value for cell, _ in cells if cell.format == UNQUANTIZED}
    rows, extras = [], []
    for cell, place in cells:
        model, source, baseline = known.get(cell.model), sources[cell.source], baselines.get(_of(cell, _BASELINE))
        more = _extra(cell, model, source, baseline)
        rows.append({**_row(cell, model, baseline), **more, **_calibrated(cell, source), "key": place})
        extras.append(more)
    declared = {column.name for column in COLUMNS}
    beside = {name: dtype for name, dtype in EXTRA.items() if name not in declared}
    extra = pd.DataFrame(
        extras,
        index=[row["key"] for row in rows],
    )[list(beside)].astype(beside)
    return frame(rows).join(extra, on="key").astype({"key": "string"})


def models() -> dict[str, Model]:
    """Return the models that come with bitlaw, by label. Raises ``UserError`` for a line that is not sound."""
    return {row.model: row for row, _ in _read(_folder(), "models", Model)}


def _folder() -> Traversable:
    return files("bitlaw.published") / "data"


def losses(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a published table that have a loss and that nothing speaks against."""
    return table[(table["metric"] == "perplexity") & table["flag"].eq("")].reset_index(drop=True)


def _of(cell: Cell, names: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(getattr(cell, name) for name in names)


def _read(folder: Traversable, name: str, kind: type[Row]) -> list[tuple[Row, str]]:
    """Return the lines of a file, each with its place, ``gptq_paper.csv line 7``."""
    path = folder / f"{name}.csv"
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise UserError("there is no such file of published results", place=str(path)) from None
    reader = csv.DictReader(text.splitlines())
    expected = list(kind.model_fields)
    if list(reader.fieldnames or ()) != expected:
        raise UserError(f"the columns must be {', '.join(expected)}", place=f"{path.name} line 1")
    rows = []
    for line in reader:
        place = f"{path.name} line {reader.line_num}"
        if None in line or None in line.values():
            raise UserError(f"the line must have {len(expected)} values", place=place)
        try:
            rows.append((kind.model_validate(line), place))
        except ValidationError as error:
            first = error.errors()[0]
            column = f", column {first['loc'][0]}" if first["loc"] else ""
            raise UserError(first["msg"].removeprefix("Value error, "), place=place + column) from None
    return rows


def _calibrated(cell: Cell, source: Source) -> dict[str, Any]:
    if cell.method in ("none", "rtn"):
        return {}
    return {name: getattr(source, name) or None for name in _CALIBRATION}


def _row(cell: Cell, model: Model | None, baseline: float | None) -> dict[str, Any]:
    number = _number(cell.format)
    loss = cell.metric == "perplexity"
    nll = math.log(cell.value) if loss else math.nan
    known = {c.name: False if c.dtype == "bool" else None for c in COLUMNS}
    return {
        **known,
        **{
            name: getattr(cell, name) for name in ("source", "model", "format", "bits", "method", "settings", "q_ratio")
        },
        **{name: getattr(cell, name) for name in ("text", "window", "effective_bits")},
        "family": model.family if model else None,
        "n_params": model.n_params if model else None,
        "n_total": model.n_total if model else None,
        "n_tokens": model.n_tokens if model else None,
        "element": number.element.name if number else "none" if cell.format == UNQUANTIZED else cell.format,
        "block": cell.block or None,
        "scale_rule": number.scale_rule if number else "none",
        "scale_dtype": number.scale_dtype if number else "none",
        "model_bits": _model_bits(cell, model),
        "nll": nll,
        "delta_nll": nll - math.log(baseline) if loss and baseline is not None else math.nan,
        "perplexity": cell.value if loss else math.nan,
        "finite": loss and math.isfinite(nll),
        "stride": cell.window,
        "mix": cell.granularity or "none" if 0.0 < cell.q_ratio < 1.0 else "none",
    }


def _model_bits(cell: Cell, model: Model | None) -> float | None:
    if model is None or cell.effective_bits is None:
        return None
    quantized = cell.q_ratio * min(model.n_params, model.n_total)
    return quantized * cell.effective_bits + 16.0 * (model.n_total - quantized)


def _block_values(cell: Cell, model: Model | None) -> float:
    if cell.block == "row":
        return float(model.width) if model else math.nan
    return float(cell.block) if cell.block.isdecimal() else math.nan


def _extra(cell: Cell, model: Model | None, source: Source, baseline: float | None) -> dict[str, Any]:
    accuracy = cell.metric == "accuracy"
    compared = math.nan if baseline is None else baseline
    return {
        **{name: getattr(cell, name) for name in ("metric", "granularity", "activation_bits", "flag", "note")},
        "block_values": _block_values(cell, model),
        "accuracy": cell.value if accuracy else math.nan,
        "baseline_nll": math.nan if accuracy else math.log(compared),
        "baseline_accuracy": compared if accuracy else math.nan,
        "reference": f"{source.reference}; {source.place}; {cell.table}",
    }
