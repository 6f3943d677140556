"""From a study to its artifacts: models x formats x methods x mixes, each with the stages it goes through."""

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
from bitlaw.mixing import SELECTS
from bitlaw.models.sources import SOURCES
from bitlaw.models.sources.base import ModelSpec
from bitlaw.study.artifact import Artifact
from bitlaw.study.landscapes import Asked
from bitlaw.study.load import Loaded
from bitlaw.study.mixes import check_mixes, mixed_cells
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
    check_mixes(loaded)
    methods = {entry for mix in study.mixes for _, entry in mixed_cells(study, mix)}
    methods |= {entry for _, entry in study.pairs}
    calibrated = any(METHODS[method.name].needs(method) != "nothing" for method in methods)
    calibrated |= any(SELECTS[mix.select].needs != "nothing" for mix in study.mixes)
    calibrated |= study.output_sqnr and bool(study.pairs)
    calibration_text = _text(loaded, study.calibration, "calibration") if calibrated else None
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
        tried: formats whose cells are tried on the tasks; all if null.
    """

    losses: tuple[tuple[Text, dict[str, Any]], ...]
    tasks: tuple[Task, ...]
    tasks_spec: Mapping[str, Any]
    landscape: Asked | None
    tried: tuple[str, ...] | None

    def tries(self, fmt: str) -> bool:
        """Return whether cells in ``fmt`` are tried on tasks."""
        return bool(self.tasks) and (self.tried is None or fmt in (UNQUANTIZED, *self.tried))


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
        self.output_sqnr = study.output_sqnr
        self.calibration = study.calibration.model_dump(mode="json", exclude={"text"})
        self.calibration_text = calibration
        self.shared: dict[str, Artifact] = {}
        self.quantized: dict[tuple[str, Any], Artifact] = {}
        self._cell((), UNQUANTIZED, "none", None)
        for fmt, method in study.pairs:
            self._cell((self._quantize(fmt, method),), fmt, method.name, self._looked_at(method))
        for mix in study.mixes:
            self._mixes(mix, mixed_cells(study, mix))

    def _quantize(self, fmt: str, entry: Any) -> Artifact:
        """Return a format by a method, with what the method looks at; the same one at each call."""
        if (fmt, entry) in self.quantized:
            return self.quantized[fmt, entry]
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
        self.quantized[fmt, entry] = made
        return made

    def _looked_at(self, entry: Any) -> Text | None:
        """Return the calibration text, if the method looks at it."""
        return None if METHODS[entry.name].needs(entry) == "nothing" else self.calibration_text

    def _mixes(self, mix: Any, cells: Sequence[tuple[str, Any]]) -> None:
        """Add the mixed cells of one entry of ``mixes``: each of ``cells`` (format, method) at each share and trial."""
        select = SELECTS[mix.select]
        settings = mix.model_dump(mode="json", include=set(select.Settings.model_fields) - {"trials"})
        count = select.trials(mix)
        for fmt, entry in cells:
            names = [fmt] if mix.high is None else [fmt, mix.high]
            quantized = tuple(self._quantize(name, entry) for name in names)
            parents: dict[str, tuple[Artifact, ...]] = {"model": (self.model,)}
            if select.needs != "nothing":
                costs = [self._sensitivity(mix.select, settings, name, entry) for name in names]
                parents |= {role: (made,) for role, made in zip(("costs", "high"), costs, strict=False)}
            for share in mix.q_ratio:
                for trial in [None] if count is None else range(count):
                    spec = {"granularity": mix.granularity, "q_ratio": share, "select": mix.select}
                    spec |= {"settings": settings, "trial": trial}
                    # A random mix is one of the model alone, which all formats and methods share.
                    name = f"mix {spec} {names if len(parents) > 1 else ''} {entry if len(parents) > 1 else ''}"
                    label = f"{self.name}/{mix.granularity}-{mix.select}"
                    chosen = self._once(name, "mix", spec, parents, label, {})
                    self._cell(quantized, fmt, entry.name, self._looked_at(entry), chosen)

    def _sensitivity(self, select: str, settings: dict[str, Any], fmt: str, entry: Any) -> Artifact:
        """Return what quantizing each linear costs, as ``select`` measures it."""
        spec: dict[str, Any] = {"select": select, "settings": settings}
        hints: dict[str, Any] = {"model": self.location}
        parents = {"model": (self.model,), "quantized": (self._quantize(fmt, entry),)}
        if SELECTS[select].needs == "output_error":
            made = self._output_error(parents["quantized"][0], f"{self.name}/{fmt}-{entry.name}")
            parents["output_error"] = (made,)
        else:
            protocol, text = self._calibration()
            spec, hints = {**spec, "calibration": protocol}, {**hints, "text": text}
        label = f"{self.name}/{fmt}-{entry.name}-{select}"
        return self._once(f"sensitivity {spec} {fmt} {entry}", "sensitivity", spec, parents, label, hints)

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
        label = f"{self.name}/{re.sub(r'[^A-Za-z0-9._-]+', '-', self.calibration_text.name)}"
        return self._once(f"{stage} {spec}", stage, spec, parents, label, hints)

    def _once(
        self,
        name: str,
        stage: str,
        spec: dict[str, Any],
        parents: Mapping[str, tuple[Artifact, ...]],
        label: str,
        hints: dict[str, Any],
    ) -> Artifact:
        """Return the artifact called ``name``, made at the first call: its key would do, but costs more than a cell."""
        if name not in self.shared:
            self.shared[name] = self.make(stage, spec, parents, label, hints)
            self.artifacts.append(self.shared[name])
        return self.shared[name]

    def _cell(
        self,
        quantized: tuple[Artifact, ...],
        fmt: str,
        method: str,
        calibration: Text | None,
        mix: Artifact | None = None,
    ) -> None:
        """Add the rows of one format by one method, whole or mixed: how it is measured, on each text."""
        parents = {"model": (self.model,), "quantized": quantized, "mix": (mix,) if mix else ()}
        parents = {role: group for role, group in parents.items() if group}
        label = f"{self.name}/{fmt}-{method}" if quantized else f"{self.name}/{fmt}"
        label += "-mix" if mix else ""
        others: dict[str, Artifact] = {}
        if self.measures.tries(fmt):
            hints = {"model": self.location, "tasks": [task.hints() for task in self.measures.tasks]}
            others["zeroshot"] = self.make("zeroshot", dict(self.measures.tasks_spec), parents, label, hints)
            self.artifacts.append(others["zeroshot"])
        others |= self.landscape
        if quantized and not mix:
            if self.output_sqnr:
                others["output_error"] = self._output_error(quantized[0], label)
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

    def _output_error(self, quantized: Artifact, label: str) -> Artifact:
        """Return the errors of the linears' outputs, which the table shows and mixes are ordered by."""
        parents = {"model": (self.model,), "quantized": (quantized,), "calibration": (self._calibrate(),)}
        return self._once(f"output_error {id(quantized)}", "output_error", {}, parents, label, {"model": self.location})

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
    spec = study.tasks.model_dump(mode="json", exclude={"names", "formats"}) if tasks else {}
    if tasks:
        spec |= {"tasks": [task.spec() for task in tasks], "harness": harness_version()}
    return _Measures(tuple(losses), tuple(tasks), spec, _asked(loaded, losses[0][0]), study.tasks.formats)


def _asked(loaded: Loaded, evaluation: Text) -> Asked | None:
    section = loaded.study.landscape
    if section is None:
        return None
    return Asked(section, evaluation if section.text is None else _text(loaded, section, "landscape"))


def _check_methods(loaded: Loaded) -> None:
    """Raise ``UserError`` for a method that cannot round to a format that the study tries it with."""
    study = loaded.study
    sections: list[tuple[tuple[str | int, ...], Any]] = [((), study)]
    sections += [(("grids", number), pairs) for number, pairs in enumerate(study.grids)]
    for where, pairs in sections:
        for index, entry in enumerate(pairs.methods):
            for name in pairs.formats:
                try:
                    METHODS[entry.name].check(grammar.parse(name), entry)
                except UserError as error:
                    raise UserError(error.message, place=loaded.place(*where, "methods", index)) from None


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
