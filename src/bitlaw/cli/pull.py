"""bitlaw pull: get what a study lacks from a DVC remote, artifact by artifact."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bitlaw.cli.base import Command, add_study
from bitlaw.cli.exchanging import add_exchange, chosen, settle, size
from bitlaw.cli.plan import open_plan
from bitlaw.exchange import CELLS, Cell, Remote, lacking, stored
from bitlaw.study.load import find_root
from bitlaw.study.plan import present


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    add_exchange(parser)
    parser.add_argument("--all", action="store_true", help="all that the remote has, not only what the study lacks")


def _run(options: argparse.Namespace) -> int:
    root = find_root(Path(options.root) if options.root else None)
    stages = chosen(options)
    remote = Remote(root, options.remote)
    settle(root)
    there = remote.cells(stages)
    if options.all:
        own = {(cell.stage, cell.key) for cell in stored(present(root))}
        wanted: list[Cell] = [cell for where, cell in there.items() if where not in own]
    else:
        wanted = lacking(open_plan(options), there)
    refused = remote.fetch(root, wanted, there)
    got = [cell for cell in wanted if cell not in refused]
    print(f"received {size(root, got)} from remote '{remote.name}'")
    for cell in refused:
        name = there[cell.stage, cell.key].name + cell.suffix
        print(f"bitlaw: {CELLS}/{cell.stage}/{name} on the remote is damaged and was left out", file=sys.stderr)
    return 1 if refused else 0


COMMAND = Command(
    summary="get from a DVC remote the artifacts that a study lacks",
    description="""\
Get the artifacts that others put on a DVC remote with `bitlaw push` and that the study still lacks; the next run
computes the rest. What is only needed to make something that is there (weights, when the loss is there) is left out.
Each artifact is checked against its own checksum before it counts. Only JSON and safetensors files are read.""",
    epilog="""\
examples:
  bitlaw pull                          what the study of params.yaml lacks, from DVC's default remote
  bitlaw pull --study zoo --remote team
  bitlaw pull --all --stage evaluate   every loss that anybody has pushed""",
    arguments=_arguments,
    run=_run,
)
