"""bitlaw plan: what a study needs, has and misses."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bitlaw.cli.base import Command, add_study
from bitlaw.study.grid import expand
from bitlaw.study.load import find_root, load_study
from bitlaw.study.plan import Plan, present


def open_plan(options: argparse.Namespace) -> Plan:
    """Return the plan of the study that the options name."""
    root = find_root(Path(options.root) if options.root else None)
    return Plan(expand(load_study(root, options.study, options.scale)), present(root), root)


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    parser.add_argument("--missing", action="store_true", help="list the files that would be made")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")


def _run(options: argparse.Namespace) -> int:
    plan = open_plan(options)
    rows = plan.counts()
    if options.missing:
        for path in plan.missing:
            print(path)
        return 0
    if options.json:
        print(json.dumps({stage: {"needs": n, "has": has, "misses": miss} for stage, n, has, miss in rows}))
        return 0
    print(f"{'stage':<12}{'needs':>8}{'has':>8}{'misses':>8}")
    for stage, needs, has, misses in rows:
        print(f"{stage:<12}{needs:>8}{has:>8}{misses:>8}")
    print("nothing to do" if not plan.missing else f"{len(plan.missing)} to make: snakemake --cores N")
    return 0


COMMAND = Command(
    summary="show what a study needs, has and misses",
    description="""\
Count, stage by stage, how many artifacts the study needs, how many of them are in results/ and how many a run
would make. An artifact that only an existing one was made from is needed no more, so it can be absent and not missed.
Nothing is computed and nothing is changed.""",
    epilog="""\
examples:
  bitlaw plan                 the study that params.yaml selects
  bitlaw plan --study zoo     another one, as it stands in studies/
  bitlaw plan --missing       the files to come
  bitlaw plan --json          the counts, for a program""",
    arguments=_arguments,
    run=_run,
)
