"""The tables that a predictor learns from and claims are tested on: published ones, a study's own, or files.

This is the one place to add a further table that comes with bitlaw.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bitlaw.artifacts import read_table
from bitlaw.errors import UserError

if TYPE_CHECKING:
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

    A cell that is in several of them with the same loss, such as a model's unquantized loss, is taken once.

    Raises:
        UserError: a file that is not there, is no Parquet file, or is no results table.
    """
    import pandas as pd

    tables = [shipped() if name == PUBLISHED else _file(name) for name in names]
    if len(tables) == 1:
        return tables[0]
    joined = pd.concat(tables, ignore_index=True)
    same = [name for name, kind in joined.dtypes.items() if not str(kind).startswith("float") and name != "key"]
    same = [name for name in same if not str(name).startswith("landscape")]
    return joined.drop_duplicates([*same, "nll"], ignore_index=True)


def _file(name: str) -> pd.DataFrame:
    if not Path(name).is_file():
        raise UserError(f"no such table; give a Parquet file, or '{PUBLISHED}'", place=name)
    table = read_table(Path(name))
    missing = [column for column in ("model", "format", "method", "nll", "text") if column not in table.columns]
    if missing:
        raise UserError(f"not a results table: it has no column '{missing[0]}'", place=name)
    return table
