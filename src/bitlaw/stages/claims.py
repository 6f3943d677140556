"""claims: what the papers say, tested on the results table of a study, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitlaw.artifacts import read_table, write_json
from bitlaw.claims import CLAIMS
from bitlaw.claims.run import run
from bitlaw.errors import UserError
from bitlaw.predictor import MODELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bitlaw.stage import Job


class Claims:
    """Spec: ``seed``. Parents: ``table``."""

    suffix = ".json"

    def code(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the modules of the claims, and that of the forest that one of them is about."""
        return (*(CLAIMS.module(name) for name in CLAIMS), MODELS.module("forest"))

    def run(self, job: Job) -> None:
        """Write ``{"claims": [...], "refused", "seed"}``; ``refused`` says why a table cannot be tested at all."""
        table, seed, refused = read_table(job.one("table")), job.spec["seed"], None
        found: list[dict[str, Any]] = []
        try:
            found = run(table, seed)
        except UserError as error:
            refused = str(error)
        write_json(job.out, job.header, {"claims": found, "refused": refused, "seed": seed})


STAGE = Claims()
