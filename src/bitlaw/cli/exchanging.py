"""What the commands that exchange artifacts with a DVC remote share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from bitlaw.errors import unknown
from bitlaw.exchange import Cell
from bitlaw.lockfile import keep_in_merges
from bitlaw.stages import STAGES
from bitlaw.study.plan import FINAL


def add_exchange(parser: argparse.ArgumentParser) -> None:
    """Add ``--remote`` and ``--stage``, which they all have."""
    parser.add_argument("--remote", metavar="NAME", help="the DVC remote (default: DVC's default)")
    parser.add_argument("--stage", metavar="STAGE", action="append", help="only of this stage; may be given again")


def chosen(options: argparse.Namespace) -> list[str]:
    """Return the stages that the options name, by default all whose artifacts are exchanged.

    Raises:
        UserError: a stage that is none of these.
    """
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
