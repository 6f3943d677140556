"""The tables that a predictor learns from and claims are tested on: those that come with bitlaw, or files.

This is the one place to add a further table that comes with bitlaw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bitlaw.errors import UserError
from bitlaw.predictor.cells import evaluations
from bitlaw.reference import shipped as reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pandas as pd

PUBLISHED, REFERENCE = "published", "reference"
EVALUATION = "wikitext-2@2048"
"""The evaluation that the published tables have most cells of."""


def shipped() -> pd.DataFrame:
    """Return the published results that come with bitlaw, one row a cell."""
    from bitlaw.published.load import load

    return load()


def _reference() -> pd.DataFrame:
    return reference.plain(reference.load())


SHIPPED: Mapping[str, Callable[[], pd.DataFrame]] = {PUBLISHED: shipped, REFERENCE: _reference}
"""The tables that come with bitlaw, by the name that a user gives."""


def read(names: Sequence[str]) -> pd.DataFrame:
    """Return the rows of the tables ``names`` as one: Parquet files, or names of ``SHIPPED``.

    A cell that is in several of them with the same loss, such as a model's unquantized loss, is taken once.

    Raises:
        UserError: a file that is not there, is no Parquet file, or is no results table.
    """
    return _joined([_table(name) for name in names])


@dataclass(frozen=True)
class Usual:
    """What is learned from where no table is named: the tables that come with bitlaw, and the project's own.

    Losses on different texts, windows and tokenizers do not compare, and what a format costs a model of 10 M
    parameters says little about one of 10 B: put into one fit, small models make answers about large ones worse. So
    an answer comes from the evaluation that has the models nearest in size.

    Attributes:
        own: the results table of the project, if it has one.
    """

    own: str | None

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables, by name."""
        names = [PUBLISHED, *([REFERENCE] if reference.is_there() else []), *([self.own] if self.own else [])]
        return {name: _table(name) for name in names}

    @cached_property
    def whole(self) -> pd.DataFrame:
        """All rows, in which models are looked up."""
        return _joined(list(self.tables.values()))

    def for_sizes(self, sizes: Sequence[float], text: str | None) -> tuple[pd.DataFrame, str]:
        """Return the rows to learn from, and the evaluation.

        Args:
            sizes: non-embedding parameters of the models that are asked about; none for whatever there is.
            text: the evaluation if the user chose one.
        """
        if text is not None:
            return self.whole, text
        if REFERENCE not in self.tables or not (own := self._of_reference(sizes)):
            own_tables = [_compared(table) for name, table in self.tables.items() if name not in SHIPPED]
            return _joined([self.tables[PUBLISHED], *own_tables]), EVALUATION
        rows = self.tables[REFERENCE]
        same = rows[_is(rows, own)].iloc[0]
        beside = [_alike(table, same) for name, table in self.tables.items() if name not in SHIPPED]
        return _joined([rows[_is(rows, own)].reset_index(drop=True), *beside]), own

    def _of_reference(self, sizes: Sequence[float]) -> str | None:
        """Return the evaluation of the reference study to answer from; ``None`` if published models are as near."""
        rows, published = self.tables[REFERENCE], self.tables[PUBLISHED]
        known = evaluations(rows)
        text = EVALUATION.partition("@")[0]
        best = next((name for name in known.index if name.partition("@")[0] == text), known.index[0])
        near = [_distance(table[_is(table, name)], sizes) for table, name in ((rows, best), (published, EVALUATION))]
        return str(best) if near[0] < near[1] else None


def _table(name: str) -> pd.DataFrame:
    return SHIPPED[name]() if name in SHIPPED else _file(name)


def _joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    if len(tables) == 1:
        return tables[0]
    if any("metric" in table for table in tables):  # published tables have accuracies in rows of their own
        tables = [table if "metric" in table else table.assign(metric="perplexity") for table in tables]
    joined = pd.concat(tables, ignore_index=True)
    same = [name for name, kind in joined.dtypes.items() if not str(kind).startswith("float") and name != "key"]
    same = [name for name in same if not str(name).startswith("landscape")]
    return joined.drop_duplicates([*same, "nll"], ignore_index=True)


def _is(table: pd.DataFrame, evaluation: str) -> pd.Series[bool]:
    """Return which rows are of ``evaluation``, ``LABEL@WINDOW``."""
    text, _, window = evaluation.partition("@")
    found: pd.Series[bool] = (table["text"].astype("string") == text).fillna(False)
    return found & (table["window"].astype("Int64").astype("string") == window).fillna(False) if window else found


def _compared(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``table`` without rows of ``EVALUATION`` in other strides than papers take, whose losses are lower."""
    other = table["stride"] != table["window"] if "stride" in table else False
    return table[~(_is(table, EVALUATION) & other).fillna(False).to_numpy("bool")]


def _alike(table: pd.DataFrame, row: pd.Series[str]) -> pd.DataFrame:
    """Return the rows of ``table`` that were measured on the very text of ``row``, in the same way."""
    kept = table
    for name in ("text", "text_sha256", "window", "stride", "dtype"):
        kept = kept[(kept[name] == row[name]).fillna(False).to_numpy("bool")] if name in kept else kept.iloc[:0]
    return kept


def _distance(rows: pd.DataFrame, sizes: Iterable[float]) -> float:
    """Return how far the nearest models of ``rows`` are from ``sizes``, in e-folds, summed."""
    import numpy as np

    known = np.log(rows["n_params"].dropna().astype("float64").unique())
    return math.fsum(float(np.abs(known - math.log(size)).min()) for size in sizes) if len(known) else math.inf


def _file(name: str) -> pd.DataFrame:
    if not Path(name).is_file():
        raise UserError(f"no such table; give a Parquet file, '{PUBLISHED}' or '{REFERENCE}'", place=name)
    table = reference.read(Path(name))
    missing = [column for column in ("model", "format", "method", "nll", "text") if column not in table.columns]
    if missing:
        raise UserError(f"not a results table: it has no column '{missing[0]}'", place=name)
    return table.drop(columns=[column.name for column in reference.MADE if column.name in table.columns])
