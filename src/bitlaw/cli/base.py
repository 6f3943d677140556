"""What a sub-command is."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One sub-command; each module in ``bitlaw.cli`` that is one assigns it to ``COMMAND``.

    Attributes:
        summary: one line for the list of commands.
        description: what it does, for somebody who has never used it.
        epilog: examples.
        arguments: adds its arguments to the parser.
        run: does it and returns the exit code.
    """

    summary: str
    description: str
    epilog: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def add_study(parser: argparse.ArgumentParser) -> None:
    """Add ``--study``, ``--scale`` and ``--root``, which most commands take."""
    parser.add_argument("--study", metavar="NAME", help="take studies/NAME.yaml as it is, not what params.yaml selects")
    parser.add_argument("--scale", metavar="NAME", help="a scale of the study, such as zoo; full: as it stands")
    parser.add_argument("--root", metavar="FOLDER", help="the project folder (default: the nearest with a params.yaml)")
