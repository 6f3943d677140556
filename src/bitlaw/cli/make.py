"""bitlaw make: the job behind each rule of the workflow."""

from __future__ import annotations

import argparse
from functools import lru_cache
from pathlib import Path

from bitlaw.cli.base import Command
from bitlaw.errors import unknown
from bitlaw.study.make import make
from bitlaw.study.plan import read_orders

_orders = lru_cache(maxsize=4)(read_orders)  # a plan file is named by its content, so it never changes


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", help="path of the artifact below the project folder, as the plan has it")
    parser.add_argument("--plan", required=True, metavar="FILE", help="plan file that holds the artifact's order")
    parser.add_argument("--root", default=".", metavar="FOLDER", help="the project folder (default: here)")


def _run(options: argparse.Namespace) -> int:
    orders = _orders(Path(options.plan).resolve())
    if options.artifact not in orders:
        raise unknown("artifact", options.artifact, orders, place=options.plan)
    make(orders[options.artifact], Path(options.root).resolve())
    return 0


COMMAND = Command(
    summary="make one artifact of a plan (what the workflow's jobs call)",
    description="""\
Make the one artifact at that path. The plan file, which a run writes under .bitlaw/plans/, says how. You seldom need
this: it is what each job of the workflow calls, and a way to run a failed job again by hand.""",
    epilog="""\
examples:
  bitlaw make results/model/gpt2-0.1m/KEY.json --plan .bitlaw/plans/HASH.jsonl""",
    arguments=_arguments,
    run=_run,
)
