"""The quantize stage: a model's linears rounded to a format by a method, as packed codes and scales."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bitlaw.errors import UserError
from bitlaw.formats import grammar
from bitlaw.methods import METHODS
from bitlaw.methods.work import Work, groups_of
from bitlaw.stage import Job, Stage

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.methods.base import Method
    from bitlaw.methods.stored import StoredLinear


_CALIBRATION = "bitlaw.models.calibration"
"""The module that reads a calibration text."""


class Quantize:
    """``spec``: ``format`` (name), ``method`` (name), ``settings`` (all of the method's settings).

    Parents: ``model``, and ``calibration`` or ``factors`` for methods that need one. For a method that needs the text
    itself, ``spec["calibration"]`` is as the spec of the calibrate stage and ``hints["text"]`` the file.

    Tensors: ``<linear>/<part>``, the parts of ``StoredLinear.tensors()``. Result: ``effective_bits``, ``sqnr_db``,
    ``weights`` and ``kept`` (how many of these are not in the format but in 16 bits) over all linears, ``finite``
    (whether all quantized weights are), ``calibration`` (the spec of the calibration, or null), and ``linears``, by
    name ``shape``, ``effective_bits``, ``sqnr_db``, ``weights``, ``kept``, ``finite`` and what the method reports. A
    model with NaN or infinite weights gives NaN ratios and ``finite: false``, no error.
    """

    suffix = ".safetensors"

    def code(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the modules of the method and of the format, and those that read a calibration text if one is read."""
        reads = (_CALIBRATION,) if "calibration" in spec else ()
        return (METHODS.module(spec["method"]), *grammar.modules(spec["format"]), *reads)

    def run(self, job: Job) -> None:
        """Quantize every quantizable linear of the model that ``job.hints["model"]`` locates.

        Raises:
            UserError: for a linear that no calibration sample reached, or whose Hessian the method cannot use.
        """
        from bitlaw.artifacts import write_tensors

        fmt = grammar.parse(job.spec["format"])
        method = METHODS[job.spec["method"]]
        settings = method.Settings.model_validate(job.spec["settings"])
        work, calibration = _work(job, method, settings)
        tensors: dict[str, Tensor] = {}
        linears: dict[str, dict[str, Any]] = {}
        total = _Total()
        for linear, stored, info in method.quantize_model(work, fmt, settings):
            tensors |= {f"{linear.name}/{part}": tensor for part, tensor in stored.tensors().items()}
            one = _Total()
            one.add(linear.weight(), stored)
            total += one
            linears[linear.name] = {"shape": list(linear.shape), **one.result(), **info}
        missing = [linear.name for linear in work.linears if linear.name not in linears]
        if missing:
            raise UserError(f"{job.spec['method']} left {len(missing)} linears out", place=missing[0])
        result = {**total.result(), "calibration": calibration, "linears": linears}
        write_tensors(job.out, job.header, tensors, result)


def _work(job: Job, method: Method, settings: Any) -> tuple[Work, Mapping[str, Any] | None]:
    """Return the model with what the method needs, and the spec of the calibration if there is one."""
    from bitlaw.artifacts import read_header, read_json, read_tensors
    from bitlaw.models.linears import quantizable
    from bitlaw.models.load import load_model

    location = job.hints["model"]
    model = load_model(location, "float32")
    linears = quantizable(model)
    need = method.needs(settings)
    if need == "nothing":
        return Work(model, linears), None
    if need == "windows":
        # Imported by its name, so that it is part of the keys of those artifacts alone that use it; see ``code``.
        reader = import_module(_CALIBRATION)
        calibration = job.spec["calibration"]
        windows = reader.windows_of(location, Path(job.hints["text"]), calibration, read_json(job.one("model")))
        return Work(model, linears, windows=windows), calibration
    parent = job.one(need)  # the role has the need's name
    tensors, known = read_tensors(parent)
    calibration = known["calibration"] if need == "factors" else read_header(parent)["spec"]
    inputs = method.inputs(tensors, known)
    return Work(model, linears, lambda name: inputs(name).to(model.device), groups_of(known, linears)), calibration


class _Total:
    """Sums over weights from which the stage's figures follow."""

    def __init__(self) -> None:
        self.weights = self.bits = self.kept = 0
        self.signal = self.noise = 0.0
        self.finite = True

    def add(self, w: Tensor, stored: StoredLinear) -> None:
        """Add the weights ``w``, quantized to ``stored``."""
        import torch

        q = stored.weight()
        self.weights += w.numel()
        self.bits += stored.storage_bits()
        self.kept += 0 if stored.kept is None else stored.kept.numel()
        for start in range(0, len(w), 256):
            # Summed in float64, where no square overflows, a few rows at a time, so that no copy of a matrix is made.
            rounded = q[start : start + 256]
            exact = w[start : start + 256].to(torch.float64, copy=True)
            self.signal += float(exact.square().sum())
            self.noise += float(exact.sub_(rounded).square().sum())
            self.finite = self.finite and bool(rounded.isfinite().all())

    def __iadd__(self, other: _Total) -> Self:
        self.weights += other.weights
        self.bits += other.bits
        self.kept += other.kept
        self.signal += other.signal
        self.noise += other.noise
        self.finite = self.finite and other.finite
        return self

    def result(self) -> dict[str, Any]:
        """Return the figures; ``sqnr_db`` is 10 log10(sum w^2 / sum (w - q)^2), infinite if nothing was lost."""
        ratio = self.signal / self.noise if self.noise else math.inf
        return {
            "effective_bits": self.bits / self.weights,
            "sqnr_db": 10 * math.log10(ratio) if ratio else -math.inf,
            "weights": self.weights,
            "kept": self.kept,
            "finite": self.finite,
        }


STAGE: Stage = Quantize()
