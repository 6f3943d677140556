"""bitlaw run: make what is missing, here, without Snakemake."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Mapping

from bitlaw.cli.base import Command, add_study
from bitlaw.cli.plan import open_plan
from bitlaw.errors import UserError, unknown
from bitlaw.failures import Failure, Orders, last_line, log_of, summary
from bitlaw.stages import STAGES
from bitlaw.study.make import make_missing
from bitlaw.study.plan import Plan, order
from bitlaw.study.publish import VIEWS, publish


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    parser.add_argument(
        "--missing", action="store_true", help="accepted for clarity: only what is missing is ever made"
    )
    parser.add_argument("--until", metavar="STAGE", help="make nothing that comes after this stage")
    parser.add_argument(
        "--workers",
        metavar="N",
        type=int,
        default=1,
        help="processes, each of which makes whole models; they take the GPUs in turn (default: 1)",
    )
    parser.add_argument(
        "--hold",
        metavar="STAGE,...",
        default="",
        help="keep what these stages make in memory only, until nothing needs it: such as calibrate,factorize,quantize",
    )


def _run(options: argparse.Namespace) -> int:
    plan = open_plan(options)
    stages = [stage for stage, *_ in plan.counts()]
    if options.until is not None and options.until not in stages:
        raise unknown("stage", options.until, stages, place="--until")
    wanted = stages[: stages.index(options.until) + 1] if options.until else stages
    hold = [name for name in options.hold.split(",") if name]
    fit = [name for name in STAGES if STAGES[name].suffix == ".safetensors"]
    for name in hold:
        if name not in STAGES:
            raise unknown("stage", name, fit, place="--hold")
        if name not in fit:
            found = ", ".join(fit)
            raise UserError(f"what {name} makes is small and always written; to be held are {found}", place="--hold")
    if options.workers < 1:
        raise UserError(f"at least 1, not {options.workers}", place="--workers")
    if plan.missing:
        plan.write()  # for `bitlaw why`: a page carries no header, and what artifacts were made from may be deleted
    orders = {path: order(artifact) for path, artifact in plan.missing.items() if artifact.stage in wanted}
    errors = make_missing(plan, set(wanted), hold=hold, workers=options.workers)
    publish(plan.grid, plan.root)
    made = len(orders) - len(errors)
    if errors:
        print(f"made {made} artifacts")
        _complain(orders, errors, plan)
        return 1
    print(f"made {made} artifacts" + ("" if options.until else f"; see {plan.root / VIEWS['report']}"))
    return 0


def _complain(orders: Orders, errors: Mapping[str, Exception], plan: Plan) -> None:
    """Write a log for each artifact that failed, where the workflow's jobs have theirs, and say what is to be done."""
    failed = {}
    for path, error in errors.items():
        if any(parent in errors for group in orders[path]["inputs"].values() for parent in group):
            continue  # it waits for one that failed
        text = f"bitlaw: {error}\n" if isinstance(error, UserError) else "".join(traceback.format_exception(error))
        log = plan.root / log_of(path)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(text, "utf-8")
        failed[path] = Failure(last_line(text), log_of(path))
    file = os.path.relpath(plan.write())
    for line in summary(orders, failed, plan.root, lambda path: f"bitlaw make {path} --plan {file}"):
        print(line, file=sys.stderr)


COMMAND = Command(
    summary="make what is missing in this process, without Snakemake",
    description="""\
Make every artifact of the study that is missing, one after the other in this process. This is for machines that
have neither Snakemake nor DVC, such as a GPU machine: copy results/ back, and Snakemake finds the work done.
It may be interrupted at any time: what is made stays, and the next run goes on.
Anywhere else `snakemake --cores N` does the same in parallel.""",
    epilog="""\
examples:
  bitlaw run --missing            fill results/ for the study of params.yaml
  bitlaw run --until evaluate     leave the table, the laws and the report to another machine
  bitlaw run --workers 8 --hold calibrate,factorize,quantize
                                  fill all GPUs, and write no weights: a study of tens of thousands of cells""",
    arguments=_arguments,
    run=_run,
)
