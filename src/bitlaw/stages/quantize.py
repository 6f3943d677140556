"""The quantize stage: a model's linears rounded to a format by a method, as packed codes and scales."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from bitlaw.errors import UserError
from bitlaw.formats import grammar
from bitlaw.methods import METHODS
from bitlaw.stage import Job, Stage

if TYPE_CHECKING:
    from torch import Tensor


class Quantize:
    """``spec``: ``format`` (name), ``method`` (name), ``settings`` (all of the method's settings).

    Parents: ``model``, and ``calibration`` for methods that need it. Tensors: ``<linear>/<part>``, the parts of
    ``Quantized.tensors()``. Result: ``effective_bits``, ``sqnr_db`` and ``weights`` over all linears, ``finite``
    (whether all quantized weights are), ``calibration`` (the spec of the calibration, or null), and ``linears``, by
    name ``shape``, ``effective_bits``, ``sqnr_db``, ``finite`` and what the method reports. A model with NaN or
    infinite weights gives NaN ratios and ``finite: false``, no error.
    """

    suffix = ".safetensors"

    def code(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the modules of the method and of the format."""
        return (METHODS.module(spec["method"]), *grammar.modules(spec["format"]))

    def run(self, job: Job) -> None:
        """Quantize every quantizable linear of the model that ``job.hints["model"]`` locates.

        Raises:
            UserError: for a linear that no calibration sample reached, or whose Hessian the method cannot use.
        """
        from bitlaw.artifacts import read_header, write_tensors
        from bitlaw.models.linears import quantizable
        from bitlaw.models.load import load_model

        fmt = grammar.parse(job.spec["format"])
        method = METHODS[job.spec["method"]]
        settings = method.Settings.model_validate(job.spec["settings"])
        hessians = _Hessians(job) if method.needs_calibration else None
        tensors: dict[str, Tensor] = {}
        linears: dict[str, dict[str, Any]] = {}
        total = _Total()
        for linear in quantizable(load_model(job.hints["model"], "float32")):
            w = linear.weight()
            try:
                q, info = method.quantize(w, fmt, settings, hessians[linear.name] if hessians else None)
            except UserError as error:
                raise UserError(error.message, place=linear.name) from error
            tensors |= {f"{linear.name}/{part}": tensor for part, tensor in q.tensors().items()}
            one = _Total()
            one.add(w, fmt.dequantize(q), fmt.storage_bits(q.shape))
            total += one
            linears[linear.name] = {"shape": list(q.shape), **one.result(), **info}
        calibration = read_header(job.one("calibration"))["spec"] if hessians else None
        result = {**total.result(), "calibration": calibration, "linears": linears}
        write_tensors(job.out, job.header, tensors, result)


class _Hessians:
    """The Hessians of a calibration artifact, by the name of the linear."""

    def __init__(self, job: Job) -> None:
        from bitlaw.artifacts import read_tensors

        self.tensors, result = read_tensors(job.one("calibration"))
        self.of: dict[str, int] = result["of"]

    def __getitem__(self, linear: str) -> Tensor:
        if linear not in self.of:
            raise UserError("no calibration sample reached this linear")
        return self.tensors[f"hessian.{self.of[linear]}"]


class _Total:
    """Sums over weights from which the stage's figures follow."""

    def __init__(self) -> None:
        self.weights = self.bits = 0
        self.signal = self.noise = 0.0
        self.finite = True

    def add(self, w: Tensor, q: Tensor, bits: int) -> None:
        """Add the weights ``w``, quantized to ``q`` (float32) in ``bits`` bits."""
        import torch

        self.weights += w.numel()
        self.bits += bits
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
            "finite": self.finite,
        }


STAGE: Stage = Quantize()
