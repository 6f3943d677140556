"""bitlaw make: the job behind each rule of the workflow."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from bitlaw.cli.base import Command
from bitlaw.errors import UserError, unknown
from bitlaw.study.make import make, make_each
from bitlaw.study.plan import read_orders

_orders = lru_cache(maxsize=4)(read_orders)  # a plan file is named by its content, so it never changes


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "artifact", nargs="?", help="path of the artifact below the project folder, as the plan has it (default: all)"
    )
    parser.add_argument("--plan", required=True, metavar="FILE", help="plan file that holds the artifact's order")
    parser.add_argument("--root", default=".", metavar="FOLDER", help="the project folder (default: here)")


def _run(options: argparse.Namespace) -> int:
    orders, root = _orders(Path(options.plan).resolve()), Path(options.root).resolve()
    if options.artifact is None:
        return _make_all(orders, root, options.plan)
    if options.artifact not in orders:
        raise unknown("artifact", options.artifact, orders, place=options.plan)
    make(orders[options.artifact], root)
    return 0


def _make_all(orders: Mapping[str, Mapping[str, Any]], root: Path, plan: str) -> int:
    """Make all ``orders``; say at once what fails, for the process may not live to the end."""
    failed = 0
    for path, error in make_each(orders.values(), root):
        if not isinstance(error, (UserError, OSError)):
            traceback.print_exception(error)
        reason = str(error).removeprefix(f"{path}: ") or type(error).__name__
        print(f"bitlaw: failed: {path}: {reason}", file=sys.stderr, flush=True)
        failed += 1
    if failed:
        print(f"bitlaw: {failed} of {len(orders)} failed; again: bitlaw make ARTIFACT --plan {plan}", file=sys.stderr)
    return 1 if failed else 0


COMMAND = Command(
    summary="make one artifact of a plan, or all (what the workflow's jobs call)",
    description="""\
Make the one artifact at that path, or without a path all of the plan file, one after the other: what exists is left
alone, and what fails stops only what is made from it. The plan file, which a run writes under .bitlaw/, says how. You
seldom need this: it is what each job of the workflow calls, and a way to run a failed job again by hand.""",
    epilog="""\
examples:
  bitlaw make results/model/gpt2-0.1m/KEY.json --plan .bitlaw/plans/HASH.jsonl""",
    arguments=_arguments,
    run=_run,
)
