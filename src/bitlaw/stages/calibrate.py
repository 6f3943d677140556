"""What the linears of a model see: second moments of their inputs on calibration text, as GPTQ needs them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bitlaw.artifacts import read_json, write_tensors
from bitlaw.stage import Job


class CalibrateStage:
    """Spec ``{"text": {"sha256"}, "samples", "length", "seed"}``; parent ``model``.

    Tensors ``hessian.<i>``: (in, in) float32, one for each distinct input; result ``{"of": {linear: i}, "tokens": n}``.
    """

    suffix = ".safetensors"

    def code(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        """Return nothing: all code is imported here."""
        return ()

    def run(self, job: Job) -> None:
        """Write the second moments.

        Raises:
            UserError: another text than the spec says, or one that is too short.
        """
        from bitlaw.models.calibration import hessians, sample_windows
        from bitlaw.models.linears import quantizable
        from bitlaw.models.load import load_model, load_tokenizer
        from bitlaw.models.tokens import check_fits, read_text

        spec, location = job.spec, job.hints["model"]
        text = read_text(Path(job.hints["text"]), spec["text"]["sha256"])
        windows = sample_windows(load_tokenizer(location), text, spec["samples"], spec["length"], spec["seed"])
        check_fits(windows, read_json(job.one("model")), spec["length"], "length")
        model = load_model(location, device=str(job.hints.get("device", "cpu")))
        of, found = hessians(model, quantizable(model), windows)
        tensors = {f"hessian.{i}": hessian for i, hessian in enumerate(found)}
        write_tensors(job.out, job.header, tensors, {"of": of, "tokens": windows.numel()})


STAGE = CalibrateStage()
