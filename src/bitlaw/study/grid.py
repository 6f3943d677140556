"""From a study to its artifacts: models x formats x methods, each with the stages it goes through."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from bitlaw.errors import UserError, unknown
from bitlaw.evaluation.task_files import Task, check_names, harness_version, resolve_task
from bitlaw.formats import grammar
from bitlaw.methods import METHODS
from bitlaw.models.sources import SOURCES
from bitlaw.models.sources.base import ModelSpec
from bitlaw.study.artifact import Artifact
from bitlaw.study.landscapes import Asked
from bitlaw.study.load import Loaded
from bitlaw.table import UNQUANTIZED
from bitlaw.text.store import Text, resolve_text


@dataclass(frozen=True)
class Grid:
    """All artifacts of a study.

    Attributes:
        artifacts: every one, parents before children.
        table: the results table.
        laws: the fitted laws; absent if the study fits none.
        report: the page.
        predictor: how well losses are predicted where they are left out, if the study asks for it.
        claims: what the papers say, tested on the table, if the study asks for it.
    """

    artifacts: tuple[Artifact, ...]
    table: Artifact
    laws: Artifact
    report: Artifact
    predictor: Artifact | None = None
    claims: Artifact | None = None

    @property
    def final(self) -> dict[str, Artifact]:
        """What a run ends with, by stage: the artifacts above that the study has."""
        found = {name: getattr(self, name) for name in ("table", "laws", "predictor", "claims", "report")}
        return {name: artifact for name, artifact in found.items() if artifact is not None}


def expand(loaded: Loaded) -> Grid:
    """Return the artifacts of a study.

    Raises:
        UserError: a model or a text that is not there.
    """
    study = loaded.study
    measures = _measures(loaded)
    _check_methods(loaded)
    calibrated = study.output_sqnr or any(METHODS[entry.name].needs(entry) != "nothing" for entry in study.methods)
    calibration_text = _text(loaded, study.calibration, "calibration") if calibrated and study.formats else None
    names = [text.name for text, _ in measures.losses]
    for index, law in enumerate(study.laws):
        if law.text not in (None, *names):
            raise unknown("text", law.text, names, place=loaded.place("laws", index, "text"))
    artifacts: list[Artifact] = []
    cells: list[_Cell] = []
    around: dict[str, Artifact] = {}
    for spec in _models(loaded):
        grown = _Branch(loaded, spec, measures, calibration_text)
        artifacts += grown.artifacts
        cells += grown.cells
        if grown.landscape:
            around[spec.name] = grown.landscape["landscape"]
    make = partial(Artifact, strict=study.strict_env)
    table = make("table", {"rows": [cell.row for cell in cells]}, _table_parents(cells), "")
    fits = {law.name: law.model_dump(mode="json", exclude={"name"}) for law in study.laws}
    laws = make("laws", {"laws": fits, "seed": study.seed, "bootstraps": study.bootstraps}, {"table": (table,)}, "")
    asked = {name: wanted for name, wanted in (("predictor", study.predictor), ("claims", study.claims)) if wanted}
    found = {name: make(name, {"seed": study.seed}, {"table": (table,)}, "") for name in asked}
    page: dict[str, Any] = {"title": study.title, "study": loaded.name}
    shown: dict[str, tuple[Artifact, ...]] = {"table": (table,), "laws": (laws,)}
    shown |= {name: (artifact,) for name, artifact in found.items()}
    if around:
        page["landscapes"], shown["landscapes"] = list(around), tuple(around.values())
    report = make("report", page, shown, "")
    return Grid((*artifacts, table, laws, *found.values(), report), table, laws, report, **found)


@dataclass(frozen=True)
class _Measures:
    """What every cell is measured by.

    Attributes:
        losses: texts, by the names they have in the table, each with the protocol as it determines artifacts.
        tasks: zero-shot tasks.
        tasks_spec: how these are run, with what determines each; empty if there are none.
        landscape: what is measured of the loss around the weights, if anything.
    """

    losses: tuple[tuple[Text, dict[str, Any]], ...]
    tasks: tuple[Task, ...]
    tasks_spec: Mapping[str, Any]
    landscape: Asked | None


@dataclass(frozen=True)
class _Cell:
    """A row of the table and what it is made of: ``cells``, the loss; others by their role, if there are any."""

    row: dict[str, Any]
    made_of: Mapping[str, Artifact]


class _Branch:
    """The artifacts of one model and its rows of the table."""

    def __init__(self, loaded: Loaded, spec: ModelSpec, measures: _Measures, calibration: Text | None) -> None:
        study, root = loaded.study, loaded.root
        self.name, self.labels, self.measures = spec.name, spec.labels, measures
        location = {**spec.location, "name": spec.name, "cache": str(root / ".bitlaw" / "tokens")}
        self.make = partial(Artifact, strict=study.strict_env)
        self.model = self.make("model", {"source": dict(spec.identity)}, {}, spec.name, {"model": location})
        if location.pop("payload", False):
            location = {"pretrained": str(root / self.model.payload), "revision": None, "trust_remote_code": False}
        self.location = {**location, "device": study.device}
        self.artifacts = [self.model]
        self.cells: list[_Cell] = []
        self.landscape = self._landscape("landscape", {"model": (self.model,)}, self.name)
        self._cell(None, UNQUANTIZED, "none", None)
        self.output_sqnr = study.output_sqnr
        self.calibration = study.calibration.model_dump(mode="json", exclude={"text"})
        self.calibration_text = calibration
        self.shared: dict[str, Artifact] = {}
        for fmt in study.formats:
            for method in study.methods:
                self._quantize(fmt, method)

    def _quantize(self, fmt: str, entry: Any) -> None:
        """Add a format by a method, with what the method looks at."""
        method, settings = METHODS[entry.name], entry.model_dump(mode="json", exclude={"name"})
        spec: dict[str, Any] = {"format": fmt, "method": entry.name, "settings": settings}
        hints: dict[str, Any] = {"model": self.location}
        parents = {"model": (self.model,)}
        need = method.needs(entry)
        if need == "calibration":
            parents[need] = (self._calibrate(),)
        elif need == "factors":
            parents[need] = (self._factorize(method.factor_settings(entry)),)
        elif need == "windows":
            protocol, text = self._calibration()
            spec, hints = {**spec, "calibration": protocol}, {**hints, "text": text}
        made = self.make("quantize", spec, parents, f"{self.name}/{fmt}-{entry.name}", hints)
        self.artifacts.append(made)
        self._cell(made, fmt, entry.name, None if need == "nothing" else self.calibration_text)

    def _calibrate(self) -> Artifact:
        """Return the calibration of the model, which all methods and formats share."""
        spec, text = self._calibration()
        hints = {"model": self.location, "text": text}
        return self._shared("calibrate", spec, {"model": (self.model,)}, hints)

    def _factorize(self, settings: dict[str, Any]) -> Artifact:
        """Return the factors of the calibration under ``settings``, which all formats share."""
        parents = {"model": (self.model,), "calibration": (self._calibrate(),)}
        return self._shared("factorize", settings, parents, {"model": self.location})

    def _calibration(self) -> tuple[dict[str, Any], str]:
        """Return the protocol of the calibration, as it determines artifacts, and the file of its text."""
        assert self.calibration_text is not None  # read if any method needs it
        return {**self.calibration, "text": {"sha256": self.calibration_text.sha256}}, str(self.calibration_text.path)

    def _shared(
        self, stage: str, spec: dict[str, Any], parents: Mapping[str, tuple[Artifact, ...]], hints: dict[str, Any]
    ) -> Artifact:
        """Return the artifact of ``stage`` on the calibration text; the same one for the same ``spec``."""
        assert self.calibration_text is not None
        name = f"{stage} {spec}"  # a key would do as well, but costs more than the rest of a cell
        if name not in self.shared:
            label = f"{self.name}/{re.sub(r'[^A-Za-z0-9._-]+', '-', self.calibration_text.name)}"
            self.shared[name] = self.make(stage, spec, parents, label, hints)
            self.artifacts.append(self.shared[name])
        return self.shared[name]

    def _cell(self, quantized: Artifact | None, fmt: str, method: str, calibration: Text | None) -> None:
        """Add the rows of one format by one method: how it is measured, on each text."""
        parents = {"model": (self.model,), **({"quantized": (quantized,)} if quantized else {})}
        label = f"{self.name}/{fmt}-{method}" if quantized else f"{self.name}/{fmt}"
        others: dict[str, Artifact] = {}
        if self.measures.tasks:
            hints = {"model": self.location, "tasks": [task.hints() for task in self.measures.tasks]}
            others["zeroshot"] = self.make("zeroshot", dict(self.measures.tasks_spec), parents, label, hints)
        if quantized and self.output_sqnr:
            known = {**parents, "calibration": (self._calibrate(),)}
            others["output_error"] = self.make("output_error", {}, known, label, {"model": self.location})
        self.artifacts += others.values()
        others |= self.landscape
        if quantized:
            others |= self._landscape("error_landscape", parents, label)
        for text, protocol in self.measures.losses:
            spec = {**protocol, "text": {"sha256": text.sha256}}
            made = self.make("evaluate", spec, parents, label, {"model": self.location, "text": str(text.path)})
            row = {
                "model": self.name,
                "family": self.labels.get("family"),
                "source": self.labels.get("source"),
                "n_tokens": self.labels.get("n_tokens"),
                "format": fmt,
                "method": method,
                "text": text.name,
                "calibration_text": calibration.name if calibration else None,
            }
            self.artifacts.append(made)
            self.cells.append(_Cell(row, {"cells": made, **others}))

    def _landscape(self, role: str, parents: Mapping[str, tuple[Artifact, ...]], label: str) -> dict[str, Artifact]:
        """Add the landscape of the model, or of a cell, and return it by its role; nothing if it is not asked for."""
        asked = self.measures.landscape
        spec = asked.spec_of(role) if asked else None
        if asked is None or spec is None:
            return {}
        hints = {"model": self.location, "text": str(asked.text.path)}
        made = self.make("landscape", spec, parents, label, hints)
        self.artifacts.append(made)
        return {role: made}


def _table_parents(cells: Sequence[_Cell]) -> dict[str, tuple[Artifact, ...]]:
    """Return what the table is made of, by role; rows say which of several they share, by its place."""
    parents: dict[str, dict[Artifact, int]] = {"cells": {}}
    for cell in cells:
        for role, artifact in cell.made_of.items():
            place = parents.setdefault(role, {}).setdefault(artifact, len(parents[role]))
            if role != "cells":
                cell.row[role] = place
    return {role: tuple(found) for role, found in parents.items()}


def _measures(loaded: Loaded) -> _Measures:
    """Return what the study measures. Raises ``UserError`` for a text or a task that is not there."""
    study = loaded.study
    losses: list[tuple[Text, dict[str, Any]]] = []
    for index, evaluation in enumerate(study.evaluation):
        text = _text(loaded, evaluation, "evaluation", index)
        text = replace(text, name=evaluation.name or text.name)
        if any(text.name == other.name for other, _ in losses):
            raise UserError(
                f"two evaluations are named '{text.name}'; give one another `name`",
                place=loaded.place("evaluation", index),
            )
        losses.append((text, evaluation.model_dump(mode="json", exclude={"text", "name"})))
    tasks: list[Task] = []
    for index, entry in enumerate(study.tasks.names):
        try:
            tasks.append(resolve_task(entry, loaded.root))
        except UserError as error:
            raise UserError(str(error), place=loaded.place("tasks", "names", index)) from None
    if (twice := check_names(tasks)) is not None:
        raise UserError(f"two tasks are named '{tasks[twice].name}'", place=loaded.place("tasks", "names", twice))
    spec = study.tasks.model_dump(mode="json", exclude={"names"}) if tasks else {}
    if tasks:
        spec |= {"tasks": [task.spec() for task in tasks], "harness": harness_version()}
    return _Measures(tuple(losses), tuple(tasks), spec, _asked(loaded, losses[0][0]))


def _asked(loaded: Loaded, evaluation: Text) -> Asked | None:
    section = loaded.study.landscape
    if section is None:
        return None
    return Asked(section, evaluation if section.text is None else _text(loaded, section, "landscape"))


def _check_methods(loaded: Loaded) -> None:
    """Raise ``UserError`` for a method that cannot round to a format of the study."""
    for index, entry in enumerate(loaded.study.methods):
        for name in loaded.study.formats:
            try:
                METHODS[entry.name].check(grammar.parse(name), entry)
            except UserError as error:
                raise UserError(error.message, place=loaded.place("methods", index)) from None


def _models(loaded: Loaded) -> list[ModelSpec]:
    specs: list[ModelSpec] = []
    for index, entry in enumerate(loaded.study.models):
        place = loaded.place("models", index)
        try:
            found = SOURCES[entry.source].resolve(entry, loaded.root)
        except UserError as error:
            raise UserError(str(error), place=place) from None
        for spec in found:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", spec.name):
                raise UserError(
                    f"'{spec.name}' can't name a model: letters, digits, '.', '_' and '-' only", place=place
                )
            if any(spec.name == other.name for other in specs):
                raise UserError(f"two models are named '{spec.name}'; give one another name", place=place)
            specs.append(spec)
    return specs


def _text(loaded: Loaded, section: Any, *location: str | int) -> Text:
    try:
        return resolve_text(section.text, loaded.root)
    except UserError as error:
        raise UserError(str(error), place=loaded.place(*location, "text")) from None
