"""What the linears of a model see: moments of their inputs on calibration text, as GPTQ and AWQ need them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bitlaw import held
from bitlaw.artifacts import read_json, write_tensors
from bitlaw.stage import Job


class CalibrateStage:
    """Spec ``{"text": {"sha256"}, "samples", "length", "seed"}``; parent ``model``.

    Tensors ``hessian.<i>``, (in, in) float32, and ``absmean.<i>``, (in,) float32, one of each for each distinct
    input; result ``{"of": {linear: i}, "tokens": n}``.
    """

    suffix = ".safetensors"

    def code(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        """Return nothing: all code is imported here."""
        return ()

    def run(self, job: Job) -> None:
        """Write the moments.

        Raises:
            UserError: another text than the spec says, or one that is too short.
        """
        from bitlaw.models.calibration import moments, windows_of
        from bitlaw.models.linears import quantizable
        from bitlaw.models.load import load_model

        location = job.hints["model"]
        windows = windows_of(location, Path(job.hints["text"]), job.spec, read_json(job.one("model")))
        model = load_model(location)
        of, found = moments(model, quantizable(model), windows)
        tensors = {f"hessian.{i}": one.hessian for i, one in enumerate(found)}
        tensors |= {f"absmean.{i}": one.absmean for i, one in enumerate(found)}
        if not held.stays_live(job.out, sum(tensor.numel() for tensor in tensors.values())):
            # Those of a large model, held, would take the room of its weights on a GPU.
            tensors = {name: tensor.cpu() for name, tensor in tensors.items()}
        write_tensors(job.out, job.header, tensors, {"of": of, "tokens": windows.numel()})


STAGE = CalibrateStage()
