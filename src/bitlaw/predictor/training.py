"""The tables that a predictor learns from and claims are tested on: published ones, a study's own, or files.

This is the one place to add a further table that comes with bitlaw.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bitlaw.artifacts import read_table
from bitlaw.errors import UserError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    import pandas as pd

PUBLISHED = "published"
EVALUATION = "wikitext-2@2048"
"""The evaluation that the published tables have most cells of."""


def shipped() -> pd.DataFrame:
    """Return the table that comes with bitlaw: the published results."""
    from bitlaw.published.load import load

    return load()


def read(names: Sequence[str]) -> pd.DataFrame:
    """Return the rows of the tables ``names`` as one: Parquet files, or ``published`` for what comes with bitlaw.

    Raises:
        UserError: a file that is not there, is no Parquet file, or is no results table.
    """
    import pandas as pd

    tables = [shipped() if name == PUBLISHED else _file(name) for name in names]
    return tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True)


def _file(name: str) -> pd.DataFrame:
    if not Path(name).is_file():
        raise UserError(f"no such table; give a Parquet file, or '{PUBLISHED}'", place=name)
    table = read_table(Path(name))
    missing = [column for column in ("model", "format", "method", "nll", "text") if column not in table.columns]
    if missing:
        raise UserError(f"not a results table: it has no column '{missing[0]}'", place=name)
    return table


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
    from bitlaw.study.load import find_root
    from bitlaw.study.publish import VIEWS

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
