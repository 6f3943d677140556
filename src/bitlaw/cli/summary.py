"""bitlaw summary: the headline numbers of the last report."""

from __future__ import annotations

import argparse

from bitlaw.artifacts import read_json, read_table
from bitlaw.cli.base import Command, add_study
from bitlaw.cli.plan import open_plan
from bitlaw.errors import UserError
from bitlaw.study.publish import VIEWS


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)


def _run(options: argparse.Namespace) -> int:
    from bitlaw.report.headline import headline

    plan = open_plan(options)
    table, laws = (plan.root / artifact.path for artifact in (plan.grid.table, plan.grid.laws))
    if not table.is_file() or not laws.is_file():
        raise UserError("no results yet; run `snakemake --cores N`", place=str(plan.root))
    for line in headline(read_table(table), read_json(laws)):
        print(line)
    print(f"report: {plan.root / VIEWS['report']}")
    return 0


COMMAND = Command(
    summary="print the headline numbers and where the report is",
    description="Print what came out of the study in a few lines, and the path of its report.",
    epilog="""\
examples:
  bitlaw summary""",
    arguments=_arguments,
    run=_run,
)
