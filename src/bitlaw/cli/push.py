"""bitlaw push: put finished artifacts on a DVC remote, one by one."""

from __future__ import annotations

import argparse
from pathlib import Path

from bitlaw.cli.base import Command
from bitlaw.cli.exchanging import add_exchange, chosen, settle, size
from bitlaw.exchange import Remote, stored
from bitlaw.study.load import find_root
from bitlaw.study.plan import present


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_exchange(parser)
    parser.add_argument("--root", metavar="FOLDER", help="the project folder (default: the nearest with a params.yaml)")


def _run(options: argparse.Namespace) -> int:
    root = find_root(Path(options.root) if options.root else None)
    stages = chosen(options)
    remote = Remote(root, options.remote)
    settle(root)
    there = remote.cells(stages)
    own = [cell for cell in stored(present(root)) if cell.stage in stages]
    new = [cell for cell in own if (cell.stage, cell.key) not in there]
    remote.send(root, new)
    print(f"sent {size(root, new)} to remote '{remote.name}'; {len(own) - len(new)} were there")
    return 0


COMMAND = Command(
    summary="put finished artifacts on a DVC remote, for others to pull",
    description="""\
Put the artifacts in results/ that a DVC remote lacks under cells/ on that remote, one by one, whatever study they
belong to. Others get what they need of them with `bitlaw pull`; nobody overwrites anybody's, for equal names have
equal content. Versions of whole folders go with `dvc push`. The table, the laws and the report are not sent: they
follow from the rest in seconds. When it is stopped, run it again: what has arrived is not sent twice.""",
    epilog="""\
examples:
  bitlaw push                          all of results/, to DVC's default remote
  bitlaw push --remote team            to another one
  bitlaw push --stage evaluate         losses without the weights, which are large""",
    arguments=_arguments,
    run=_run,
)
