"""report: the table and the laws of a study as one HTML page, and the page's figures as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitlaw.artifacts import read_json, read_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bitlaw.stage import Job


class Report:
    """Spec: ``title``, ``study``. Parents: ``table``, ``laws``, and perhaps ``predictor`` and ``claims``.

    If there are parents ``landscapes``, the spec's ``landscapes`` are the names of their models, in the same order.
    """

    suffix = ".html"

    def code(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        """Return nothing: the page's modules are imported by this one."""
        return ()

    def run(self, job: Job) -> None:
        """Write the page, equal bytes for equal inputs, and its figures to ``job.payload``."""
        from bitlaw.report import pictures
        from bitlaw.report.page import report

        table, laws = read_table(job.one("table")), read_json(job.one("laws"))
        keys = {"report": job.header.key, **job.header.parents}
        found = map(read_json, job.inputs.get("landscapes", ()))
        more = {
            "landscapes": dict(zip(job.spec.get("landscapes", ()), found, strict=True)),
            "more": {name: read_json(job.one(name)) for name in ("predictor", "claims") if name in job.inputs},
        }
        made = report(table, laws, title=job.spec["title"], study=job.spec["study"], keys=keys, **more)
        pictures.write(made.figures, job.payload)
        job.out.write_text(made.html, "utf-8")


STAGE = Report()
