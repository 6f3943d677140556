"""laws: the scaling laws of a study fitted to its results table and compared on what they did not see, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitlaw.artifacts import read_table, write_json
from bitlaw.laws import LAWS
from bitlaw.laws.compare import compare
from bitlaw.laws.fit import fit

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
        """Write the record of every law: ``{"laws": {name: record}, "comparison", "seed", "bootstraps"}``.

        Raises:
            UserError: a law is unknown, the table lacks what it needs, or no law may be fitted to it.
        """
        table = read_table(job.one("table"))
        seed, bootstraps = job.spec["seed"], job.spec["bootstraps"]
        records = {}
        for name, settings in sorted(job.spec["laws"].items()):
            law = LAWS[name]
            declared = {"title": law.title, "formula": law.formula, "source": law.source, "target": law.target}
            fitted = fit(law, table, law.settings(**settings), seed=seed, bootstraps=bootstraps)
            records[name] = {**declared, "inputs": list(law.inputs), **fitted}
        comparison = compare(table, {name: LAWS[name] for name in records}, seed=seed)
        result = {"laws": records, "comparison": comparison, "seed": seed, "bootstraps": bootstraps}
        write_json(job.out, job.header, result)


STAGE = Laws()
