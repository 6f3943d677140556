"""laws: the scaling laws of a study fitted to its results table and compared on what they did not see, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitlaw.artifacts import read_table, write_json
from bitlaw.laws import LAWS
from bitlaw.laws.run import run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bitlaw.stage import Job


class Laws:
    """Spec: ``laws`` (settings by law), ``seed``, ``bootstraps``. Parents: ``table``."""

    suffix = ".json"

    def code(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the modules of the laws that are fitted."""
        return tuple(LAWS.module(name) for name in sorted(spec["laws"]))

    def run(self, job: Job) -> None:
        """Write what ``bitlaw.laws.run`` says.

        Raises:
            UserError: a law is unknown, the table lacks what it needs, or no law may be fitted to it.
        """
        spec = job.spec
        result = run(read_table(job.one("table")), spec["laws"], seed=spec["seed"], bootstraps=spec["bootstraps"])
        write_json(job.out, job.header, result)


STAGE = Laws()
