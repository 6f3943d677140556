"""What quantizing each linear of a model costs by itself, as a selection measures it: what mixes are ordered by."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitlaw.mixing import SELECTS
from bitlaw.mixing.base import SensitivitySelect
from bitlaw.stage import Job, Stage

if TYPE_CHECKING:
    from bitlaw.mixing.base import Errors


_CALIBRATION = "bitlaw.models.calibration"
"""The module that reads a calibration text."""


class Sensitivity:
    """``spec``: ``select`` (name) and ``settings`` (all of its settings but the number of trials).

    Parents: ``model`` and ``quantized``, and ``output_error`` for a selection that needs it. For one that needs the
    calibration text, ``spec["calibration"]`` is as the spec of the calibrate stage and ``hints["text"]`` the file.

    Result: ``costs``, a number by name of linear; may be NaN or infinite.
    """

    suffix = ".json"

    def code(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the module of the selection, and the one that reads a calibration text if one is read."""
        reads = (_CALIBRATION,) if "calibration" in spec else ()
        return (SELECTS.module(spec["select"]), *reads)

    def run(self, job: Job) -> None:
        """Write the costs.

        Raises:
            UserError: another text than the spec says, one that is too short, or a linear that no sample reached.
        """
        from bitlaw.artifacts import write_json

        select = SELECTS[job.spec["select"]]
        assert isinstance(select, SensitivitySelect)  # the plan asks no other for costs
        settings = select.Settings.model_validate(job.spec["settings"])
        costs = select.costs(_errors(job), settings)
        write_json(job.out, job.header, {"costs": {name: float(cost) for name, cost in costs.items()}})


def _errors(job: Job) -> Errors:
    """Return the model, its quantized weights and what is known of its inputs."""
    from bitlaw.artifacts import read_json
    from bitlaw.methods.swap import read_weights
    from bitlaw.mixing.base import Errors
    from bitlaw.models.linears import quantizable
    from bitlaw.models.load import load_model

    location = job.hints["model"]
    model = load_model(location, "float32")
    linears = quantizable(model)
    weights, _ = read_weights(job.one("quantized"), linears)
    if job.inputs.get("output_error"):
        return Errors(model, linears, weights.__getitem__, read_json(job.one("output_error"))["linears"])
    # Imported by its name, so that it is part of the keys of those artifacts alone that use it; see ``code``.
    reader = import_module(_CALIBRATION)
    about = read_json(job.one("model"))
    windows = reader.windows_of(location, Path(job.hints["text"]), job.spec["calibration"], about)
    return Errors(model, linears, weights.__getitem__, windows=windows)


STAGE: Stage = Sensitivity()
