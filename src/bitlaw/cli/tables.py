"""What the commands on results tables share: which tables, and which evaluation."""

from __future__ import annotations

import argparse
from pathlib import Path

from bitlaw.errors import UserError
from bitlaw.predictor.training import PUBLISHED
from bitlaw.study.load import find_root
from bitlaw.study.publish import VIEWS


def add_tables(parser: argparse.ArgumentParser) -> None:
    """Add ``--table``, ``--text`` and ``--root``, which the commands on tables take."""
    parser.add_argument(
        "--table",
        metavar="FILE",
        action="append",
        help=f"a results table, or '{PUBLISHED}' for the results that come with bitlaw; may be given several times",
    )
    parser.add_argument(
        "--text", metavar="NAME", help="the evaluation text, as NAME or NAME@WINDOW, if there are several"
    )
    parser.add_argument("--root", metavar="FOLDER", help="the project folder (default: the nearest with a params.yaml)")


def own(root: str | None) -> str | None:
    """Return the results table of the project, if there is a project and it has one."""
    try:
        path = find_root(Path(root) if root else None) / VIEWS["table"]
    except UserError:
        if root is not None:
            raise
        return None
    return str(path) if path.is_file() else None


def named(options: argparse.Namespace) -> list[str]:
    """Return the tables that the options name: the project's own by default.

    Raises:
        UserError: none is named, and the project has none.
    """
    names = options.table or [one for one in [own(options.root)] if one is not None]
    if not names:
        raise UserError(f"no results yet; run `snakemake --cores N`, or give --table FILE or --table {PUBLISHED}")
    return list(names)
