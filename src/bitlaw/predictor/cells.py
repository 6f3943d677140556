"""The rows of a results table that can be learned from, checked: what is wrong is said, never fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bitlaw.errors import UserError, unknown
from bitlaw.table import UNQUANTIZED

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.predictor.base import Array

FEWEST = 5
TARGETS = {"delta_nll": "nats per token", "accuracy_drop": "share"}
_NEEDED = ("model", "family", "n_params", "format", "method", "effective_bits", "nll", "delta_nll", "text", "finite")
_EVALUATION = ("text", "text_sha256", "window", "stride", "dtype")
_NO_IDENTITY = ("key", "note", "flag", "reference", "finite")


@dataclass(frozen=True)
class Cells:
    """Quantized cells of one evaluation.

    Attributes:
        rows: rows of the results table, with ``base_nll``, the loss of the unquantized model.
        y: the target of each row.
        target: what the target is, a key of ``TARGETS``.
        evaluation: the evaluation text and its window, ``wikitext-2@2048``.
        excluded: number of rows left out by reason.
    """

    rows: pd.DataFrame
    y: Array
    target: str
    evaluation: str
    excluded: dict[str, int]

    def take(self, mask: Array) -> Cells:
        """Return the cells where ``mask``, (n,) bool, is true."""
        return Cells(self.rows[mask].reset_index(drop=True), self.y[mask], self.target, self.evaluation, self.excluded)


def collect(table: pd.DataFrame, *, text: str | None = None, target: str = "delta_nll") -> Cells:
    """Return the cells of ``table`` that ``target`` can be learned from.

    Args:
        table: a results table, perhaps with the columns of a published one.
        text: the evaluation, as ``LABEL`` or ``LABEL@WINDOW``; it may be left out if the table has one only.
        target: ``delta_nll``, or ``accuracy_drop``, the accuracy of the unquantized model minus that of the cell.

    Raises:
        UserError: a column that is absent or has no value, cells that are there twice, several evaluations mixed, or
            fewer than ``FEWEST`` cells.
    """
    if target not in TARGETS:
        raise unknown("target", target, TARGETS)
    for column in _NEEDED:
        if column not in table.columns:
            raise UserError(f"the table has no column '{column}'")
    if table.empty:
        raise UserError("the table has no rows")
    rows, excluded = table, dict[str, int]()

    def drop(mask: pd.Series[bool], reason: str) -> None:
        nonlocal rows
        if count := int(mask.fillna(True).sum()):
            excluded[reason] = count
            rows = rows[~mask.fillna(True).to_numpy("bool")]

    if "metric" in rows and target == "delta_nll":
        drop(rows["metric"] != "perplexity", "not a loss")
    rows = _of_evaluation(_with_target(rows, target), text)
    _refuse_duplicates(rows)
    for column in ("n_params", "effective_bits"):
        if rows[column].isna().all():
            raise UserError(f"the column '{column}' of the table has no value")
    if rows.loc[rows["format"] != UNQUANTIZED, "y"].isna().all() and (rows["format"] != UNQUANTIZED).any():
        raise UserError(f"no cell has a {target}: there is no unquantized cell to compare with, or no loss is finite")
    drop(rows["format"] == UNQUANTIZED, "the baseline itself")
    if "flag" in rows:
        drop(rows["flag"].fillna("") != "", "flagged in its source")
    if "activation_bits" in rows:
        drop(rows["activation_bits"].fillna(16) < 16, "activations are quantized too")
    for column in ("n_params", "effective_bits", "family"):
        drop(rows[column].isna(), f"{column} is missing")
    drop(~_finite(rows["y"]) | ~_finite(rows["base_nll"]), "no finite loss, or none of the unquantized model")
    if len(rows) < FEWEST:
        raise UserError(f"{len(rows)} cells to learn from are too few; it takes {FEWEST}")
    rows = rows.reset_index(drop=True)
    return Cells(rows.drop(columns="y"), rows["y"].to_numpy("float64"), target, evaluations(rows).index[0], excluded)


def evaluations(table: pd.DataFrame) -> pd.Series[int]:
    """Return the number of rows by evaluation, ``LABEL@WINDOW``, the one with most rows first."""
    return (
        _label(table).rename("evaluation").to_frame().assign(at=range(len(table)))
        .groupby("evaluation", sort=True)["at"].size().sort_values(ascending=False, kind="stable")
    )  # fmt: skip


def _label(table: pd.DataFrame) -> pd.Series[str]:
    text = table["text"].astype("string").fillna("unnamed")
    if "window" not in table:
        return text
    window = table["window"].astype("Int64").astype("string")
    return text.where(window.isna(), text + "@" + window.fillna(""))


def _of_evaluation(rows: pd.DataFrame, text: str | None) -> pd.DataFrame:
    counts = evaluations(rows)
    if text is not None:
        labels = _label(rows)
        known = {label.partition("@")[0] for label in counts.index} | set(counts.index)
        if text not in known:
            raise unknown("evaluation text", text, counts.index)
        rows = rows[((labels == text) | (rows["text"] == text)).fillna(False).to_numpy("bool")]
        counts = evaluations(rows)
    # What a source does not state differs from nothing.
    if any(name in rows and rows[name].nunique() > 1 for name in _EVALUATION):
        shown = ", ".join(f"{name} ({count} cells)" for name, count in counts.items())
        raise UserError(f"the table mixes evaluations, whose losses do not compare: {shown}; choose one with --text")
    return rows


def _with_target(rows: pd.DataFrame, target: str) -> pd.DataFrame:
    """Return ``rows`` with the target as ``y`` and the loss of the unquantized model as ``base_nll``."""
    base = rows["nll"] - rows["delta_nll"]
    if "baseline_nll" in rows:
        base = rows["baseline_nll"].fillna(base)
    if target == "delta_nll":
        return rows.assign(y=rows["delta_nll"].astype("float64"), base_nll=base.astype("float64"))
    if "accuracy" not in rows or rows["accuracy"].isna().all():
        raise UserError("the table has no zero-shot accuracy")
    rows = rows[rows["accuracy"].notna()].copy()
    whole = rows[rows["format"] == UNQUANTIZED].drop_duplicates(["model", "text"]).set_index(["model", "text"])
    best = whole["accuracy"].reindex(list(zip(rows["model"], rows["text"], strict=True))).astype("float64")
    best.index = rows.index
    if "baseline_accuracy" in rows:
        best = rows["baseline_accuracy"].astype("float64").fillna(best)
    # A task has no loss of its own: what the model starts from is what it gets wrong unquantized.
    base = base[rows.index].astype("float64").fillna(1.0 - best)
    return rows.assign(y=best - rows["accuracy"].astype("float64"), base_nll=base)


def _refuse_duplicates(rows: pd.DataFrame) -> None:
    names = [
        str(name)
        for name, kind in rows.dtypes.items()
        if name == "q_ratio" or (not str(kind).startswith("float") and name not in _NO_IDENTITY)
    ]
    twice = rows.duplicated(names, keep=False)
    if twice.any():
        first = rows[twice].iloc[0]
        name = ", ".join(str(first[column]) for column in ("model", "format", "method"))
        raise UserError(f"{int(twice.sum())} rows are the same cell as another, the first is {name}; keep each once")


def _finite(values: pd.Series[float]) -> pd.Series[bool]:
    import numpy as np

    return values.astype("float64").map(np.isfinite)
