"""The quantize stage: a model's linears rounded to a format by a method, as packed codes and scales."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bitlaw import held
from bitlaw.errors import UserError
from bitlaw.formats import grammar
from bitlaw.held import Live
from bitlaw.methods import METHODS
from bitlaw.methods.stored import packed
from bitlaw.methods.work import Work, groups_of
from bitlaw.stage import Job, Stage

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.methods.base import Method
    from bitlaw.methods.stored import StoredLinear
    from bitlaw.models.linears import Linear


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
        from bitlaw.methods.squares import SquareSums

        fmt = grammar.parse(job.spec["format"])
        method = METHODS[job.spec["method"]]
        settings = method.Settings.model_validate(job.spec["settings"])
        work, calibration = _work(job, method, settings)
        into, squares = _Into(job.out, work.linears), SquareSums()
        known: dict[str, tuple[int, int, dict[str, Any]]] = {}
        for linear, stored, info in method.quantize_model(work, fmt, settings):
            squares.add(linear.name, linear.weight(), into.add(linear.name, stored))
            kept = 0 if stored.kept is None else stored.kept.numel()
            known[linear.name] = stored.storage_bits(), kept, info
        missing = [linear.name for linear in work.linears if linear.name not in known]
        if missing:
            raise UserError(f"{job.spec['method']} left {len(missing)} linears out", place=missing[0])
        _fetch([info for *_, info in known.values()])
        linears, sums, found = {}, [], squares.found()
        for linear in work.linears:
            (bits, kept, info), one = known[linear.name], found[linear.name]
            sums.append(_Sums(math.prod(linear.shape), bits, kept, one.signal, one.noise, one.finite))
            linears[linear.name] = {"shape": list(linear.shape), **sums[-1].told(), **info}
        result = {**_Sums.of(sums).told(), "calibration": calibration, "linears": linears}
        write_tensors(job.out, job.header, into.tensors(), result)


class _Into:
    """Where quantized linears go: to tensors for a file, or into memory as they are.

    Args:
        path: of the artifact.
        linears: all of the model.
    """

    def __init__(self, path: Path, linears: Sequence[Linear]) -> None:
        self._size = sum(math.prod(linear.shape) for linear in linears)
        self._live = held.stays_live(path, self._size)
        self._linears: dict[str, StoredLinear] = {}
        self._tensors: dict[str, Tensor] = {}

    def add(self, name: str, stored: StoredLinear) -> Tensor:
        """Take a linear and return its weights, (out, in) float32."""
        if self._live:
            weight = stored.weight()
            self._linears[name] = replace(stored, known=weight)
            return weight
        self._tensors |= packed({name: stored})
        return stored.weight()

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the tensors of all linears, ``<linear>/<part>``."""
        return Live(self._linears, self._size, partial(packed, self._linears)) if self._live else self._tensors


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


STAGE: Stage = Quantize()
