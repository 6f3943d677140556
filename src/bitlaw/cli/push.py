"""bitlaw push: put finished artifacts on a DVC remote, one by one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from bitlaw.cli.base import Command
from bitlaw.errors import unknown
from bitlaw.exchange import FINAL, Cell, Remote, stored
from bitlaw.lockfile import keep_in_merges
from bitlaw.stages import STAGES
from bitlaw.study.load import find_root
from bitlaw.study.plan import present


def add_exchange(parser: argparse.ArgumentParser) -> None:
    """Add ``--remote`` and ``--stage``, which push and pull share."""
    parser.add_argument("--remote", metavar="NAME", help="the DVC remote (default: DVC's default)")
    parser.add_argument("--stage", metavar="STAGE", action="append", help="only of this stage; may be given again")


def chosen(options: argparse.Namespace) -> list[str]:
    """Return the stages that the options name, by default all whose artifacts are exchanged."""
    exchanged = [stage for stage in STAGES if stage not in FINAL]
    for stage in options.stage or []:
        if stage not in exchanged:
            raise unknown("stage", stage, exchanged, place="--stage")
    return options.stage or exchanged


def settle(root: Path) -> None:
    """Make merges of dvc.lock need no hand in this clone, and say so the first time."""
    if keep_in_merges(root):
        print("git: merges in this clone now keep its dvc.lock (merge.dvc-lock.driver); `dvc repro` updates it")


def size(root: Path, cells: Sequence[Cell]) -> str:
    """Return how many ``cells`` these are and their size, in words; files beside them are not counted."""
    total = sum((root / cell.path).stat().st_size for cell in cells)
    return f"{len(cells)} artifact{'' if len(cells) == 1 else 's'} ({total / 1e6:.1f} MB)"


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
