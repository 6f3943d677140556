"""The quantize stage: a model's linears rounded to a format by a method, as packed codes and scales."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
        import torch

        from bitlaw.artifacts import write_tensors

        fmt = grammar.parse(job.spec["format"])
        method = METHODS[job.spec["method"]]
        settings = method.Settings.model_validate(job.spec["settings"])
        work, calibration = _work(job, method, settings)
        tensors: dict[str, Tensor] = {}
        known: dict[str, tuple[int, int, Tensor, dict[str, Any]]] = {}
        for linear, stored, info in method.quantize_model(work, fmt, settings):
            tensors |= {f"{linear.name}/{part}": tensor for part, tensor in stored.tensors().items()}
            kept = 0 if stored.kept is None else stored.kept.numel()
            known[linear.name] = stored.storage_bits(), kept, _squares(linear.weight(), stored), info
        missing = [linear.name for linear in work.linears if linear.name not in known]
        if missing:
            raise UserError(f"{job.spec['method']} left {len(missing)} linears out", place=missing[0])
        _fetch([info for *_, info in known.values()])
        linears, sums = {}, []
        squares = torch.stack([known[linear.name][2] for linear in work.linears]).tolist()  # a GPU is waited for once
        for linear, (signal, noise, finite) in zip(work.linears, squares, strict=True):
            bits, kept, _, info = known[linear.name]
            sums.append(_Sums(linear.weight().numel(), bits, kept, signal, noise, bool(finite)))
            linears[linear.name] = {"shape": list(linear.shape), **sums[-1].told(), **info}
        result = {**_Sums.of(sums).told(), "calibration": calibration, "linears": linears}
        write_tensors(job.out, job.header, tensors, result)


def _fetch(infos: Sequence[dict[str, Any]]) -> None:
    """Put numbers in the place of tensors without dimensions among the values of ``infos``."""
    import torch

    waiting = [(info, name) for info in infos for name, value in info.items() if isinstance(value, torch.Tensor)]
    if waiting:
        numbers = torch.stack([info[name].double() for info, name in waiting]).tolist()
        for (info, name), number in zip(waiting, numbers, strict=True):
            info[name] = number


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


class _Sums(NamedTuple):
    """Sums over weights, from which the stage's figures follow: counts, and squares of weights and of errors."""

    weights: int
    bits: int
    kept: int
    signal: float
    noise: float
    finite: bool

    @classmethod
    def of(cls, parts: Sequence[_Sums]) -> _Sums:
        """Return the sums over all of ``parts``."""
        return cls(
            sum(part.weights for part in parts),
            sum(part.bits for part in parts),
            sum(part.kept for part in parts),
            sum(part.signal for part in parts),
            sum(part.noise for part in parts),
            all(part.finite for part in parts),
        )

    def told(self) -> dict[str, Any]:
        """Return the figures; ``sqnr_db`` is 10 log10(sum w^2 / sum (w - q)^2), infinite if nothing was lost."""
        ratio = self.signal / self.noise if self.noise else math.inf
        return {
            "effective_bits": self.bits / self.weights,
            "sqnr_db": 10 * math.log10(ratio) if ratio else -math.inf,
            "weights": self.weights,
            "kept": self.kept,
            "finite": self.finite,
        }


def _squares(w: Tensor, stored: StoredLinear) -> Tensor:
    """Return signal, noise and 1 for finite weights, (3,) float64 on the weights' device, of ``w`` as ``stored``."""
    import torch

    parts, q = [], stored.weight()
    # Summed in float64, where no square overflows; a few rows at a time, so that no copy of a matrix is made, which a
    # GPU has room for.
    rows = 256 if w.device.type == "cpu" else max(256, 2**25 // w.shape[1])
    for exact, rounded in zip(w.split(rows), q.split(rows), strict=True):
        double = exact.to(torch.float64, copy=True)
        signal, finite = double.square().sum(), rounded.isfinite().all().double()
        parts.append(torch.stack([signal, double.sub_(rounded).square().sum(), finite]))
    sums = torch.stack(parts)
    return torch.cat([sums[:, :2].sum(0), sums[:, 2:].amin(0)])


STAGE: Stage = Quantize()
