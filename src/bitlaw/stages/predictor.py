"""predictor: how well the losses of a study are predicted where they were left out, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitlaw.artifacts import read_table, write_json
from bitlaw.predictor import MODELS
from bitlaw.predictor.report import report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bitlaw.stage import Job


class Predictor:
    """Spec: ``seed``. Parents: ``table``."""

    suffix = ".json"

    def code(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the modules of the predictor's models."""
        return tuple(MODELS.module(name) for name in MODELS)

    def run(self, job: Job) -> None:
        """Write ``{"evaluations": [...], "seed"}``: what ``bitlaw.predictor.report`` says of each evaluation.

        A table that cannot be learned from gives the reason instead of a fit.
        """
        table = read_table(job.one("table"))
        write_json(job.out, job.header, {"evaluations": report(table, job.spec["seed"]), "seed": job.spec["seed"]})


STAGE = Predictor()
