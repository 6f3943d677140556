"""From a study to its artifacts: models x formats x methods, each with the stages it goes through."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bitlaw.errors import UserError, unknown
from bitlaw.methods import METHODS
from bitlaw.models.sources import SOURCES
from bitlaw.models.sources.base import ModelSpec
from bitlaw.study.artifact import Artifact
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
    """

    artifacts: tuple[Artifact, ...]
    table: Artifact
    laws: Artifact
    report: Artifact


def expand(loaded: Loaded) -> Grid:
    """Return the artifacts of a study.

    Raises:
        UserError: a model or a text that is not there.
    """
    study = loaded.study
    evaluation_text = _text(loaded, "evaluation")
    needs_calibration = any(METHODS[method.name].needs_calibration for method in study.methods)
    calibration_text = _text(loaded, "calibration") if needs_calibration and study.formats else None
    for index, law in enumerate(study.laws):
        if law.text not in (None, evaluation_text.name):
            raise unknown("text", law.text, [evaluation_text.name], place=loaded.place("laws", index, "text"))
    artifacts: list[Artifact] = []
    cells: list[tuple[Artifact, dict[str, Any]]] = []
    for spec in _models(loaded):
        grown = _Branch(loaded, spec, evaluation_text, calibration_text)
        artifacts += grown.artifacts
        cells += grown.cells
    table = Artifact("table", {"rows": [row for _, row in cells]}, {"cells": tuple(cell for cell, _ in cells)}, "")
    fits = {law.name: law.model_dump(mode="json", exclude={"name"}) for law in study.laws}
    laws = Artifact("laws", {"laws": fits, "seed": study.seed, "bootstraps": study.bootstraps}, {"table": (table,)}, "")
    page = {"title": study.title, "study": loaded.name}
    report = Artifact("report", page, {"table": (table,), "laws": (laws,)}, "")
    return Grid((*artifacts, table, laws, report), table, laws, report)


class _Branch:
    """The artifacts of one model and its rows of the table."""

    def __init__(self, loaded: Loaded, spec: ModelSpec, evaluation: Text, calibration: Text | None) -> None:
        study, root = loaded.study, loaded.root
        self.name, self.labels, self.text = spec.name, spec.labels, evaluation
        self.protocol = study.evaluation.model_dump(mode="json", exclude={"text"})
        location = {**spec.location, "name": spec.name, "cache": str(root / ".bitlaw" / "tokens")}
        self.model = Artifact("model", {"source": dict(spec.identity)}, {}, spec.name, {"model": location})
        if location.pop("payload", False):
            location = {"pretrained": str(root / self.model.payload), "revision": None, "trust_remote_code": False}
        self.location = location
        self.artifacts = [self.model]
        self.cells: list[tuple[Artifact, dict[str, Any]]] = []
        self._cell(None, UNQUANTIZED, "none", None)
        hessians = self._calibrate(study.calibration.model_dump(mode="json", exclude={"text"}), calibration)
        for fmt in study.formats:
            for method in study.methods:
                settings = method.model_dump(mode="json", exclude={"name"})
                calibrated = hessians if METHODS[method.name].needs_calibration else None
                self._quantize(fmt, method.name, settings, calibrated, calibration)

    def _calibrate(self, protocol: Mapping[str, Any], text: Text | None) -> Artifact | None:
        if text is None:
            return None
        spec = {**protocol, "text": {"sha256": text.sha256}}
        hints = {"model": self.location, "text": str(text.path)}
        label = re.sub(r"[^A-Za-z0-9._-]+", "-", text.name)
        made = Artifact("calibrate", spec, {"model": (self.model,)}, f"{self.name}/{label}", hints)
        self.artifacts.append(made)
        return made

    def _quantize(
        self, fmt: str, method: str, settings: Mapping[str, Any], hessians: Artifact | None, text: Text | None
    ) -> None:
        spec = {"format": fmt, "method": method, "settings": dict(settings)}
        parents = {"model": (self.model,), **({"calibration": (hessians,)} if hessians else {})}
        made = Artifact("quantize", spec, parents, f"{self.name}/{fmt}-{method}", {"model": self.location})
        self.artifacts.append(made)
        self._cell(made, fmt, method, text if hessians else None)

    def _cell(self, quantized: Artifact | None, fmt: str, method: str, calibration: Text | None) -> None:
        spec = {**self.protocol, "text": {"sha256": self.text.sha256}}
        parents = {"model": (self.model,), **({"quantized": (quantized,)} if quantized else {})}
        label = f"{self.name}/{fmt}-{method}" if quantized else f"{self.name}/{fmt}"
        hints = {"model": self.location, "text": str(self.text.path)}
        made = Artifact("evaluate", spec, parents, label, hints)
        row = {
            "model": self.name,
            "family": self.labels.get("family"),
            "source": self.labels.get("source"),
            "n_tokens": self.labels.get("n_tokens"),
            "format": fmt,
            "method": method,
            "text": self.text.name,
            "calibration_text": calibration.name if calibration else None,
        }
        self.artifacts.append(made)
        self.cells.append((made, row))


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


def _text(loaded: Loaded, section: str) -> Text:
    try:
        return resolve_text(getattr(loaded.study, section).text, loaded.root)
    except UserError as error:
        raise UserError(str(error), place=loaded.place(section, "text")) from None
