"""bitlaw run: make what is missing, here, without Snakemake."""

from __future__ import annotations

import argparse

from bitlaw.cli.base import Command, add_study
from bitlaw.cli.plan import open_plan
from bitlaw.study.make import make_missing
from bitlaw.study.publish import VIEWS, publish


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    parser.add_argument("--missing", action="store_true", help="accepted for clarity: only what is missing is ever made")


def _run(options: argparse.Namespace) -> int:
    plan = open_plan(options)
    made = make_missing(plan)
    publish(plan.grid, plan.root)
    print(f"made {made} artifacts; see {plan.root / VIEWS['report']}")
    return 0


COMMAND = Command(
    summary="make what is missing in this process, without Snakemake",
    description="""\
Make every artifact of the study that is missing, one after the other in this process. This is for machines that
have neither Snakemake nor DVC, such as a lent GPU machine: copy results/ back, and Snakemake finds the work done.
Anywhere else `snakemake --cores N` does the same in parallel.""",
    epilog="""\
examples:
  bitlaw run --missing        fill results/ for the study of params.yaml""",
    arguments=_arguments,
    run=_run,
)
