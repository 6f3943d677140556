"""The table of all cells: its rows, which the explorer shares, and its place in the page with filters."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

from bitlaw.report import words
from bitlaw.report.charts import packed
from bitlaw.table import UNQUANTIZED, element_kind

if TYPE_CHECKING:
    import pandas as pd

# Name, heading, and how it is shown: text, a count, a loss, or any number.
SHOWN = (
    ("model", "model", "text"),
    ("family", "family", "text"),
    ("n_params", "parameters", "count"),
    ("format", "format", "text"),
    ("method", "method", "text"),
    ("effective_bits", "bits/weight", "number"),
    ("q_ratio", "share", "number"),
    ("select", "mix by", "text"),
    ("sqnr_db", "SQNR, dB", "number"),
    ("nll", "loss, nats", "loss"),
    ("delta_nll", "added, nats", "number"),
    ("perplexity", "perplexity", "number"),
    ("accuracy", "zero-shot", "number"),
    ("bits_per_byte", "bits/byte", "number"),
    ("model_bits", "model, bits", "count"),
    ("text", "text", "text"),
    ("settings", "settings", "text"),
)


def shown(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return the columns that are shown: those of ``SHOWN``, but no zero-shot accuracy where there is none."""
    return [one for one in SHOWN if one[0] != "accuracy" or table["accuracy"].notna().any()]


def cells(table: pd.DataFrame) -> dict[str, Any]:
    """Return the rows of ``table`` in columns: those shown, and the ``kind`` of element, which the explorer draws.

    ``None`` is missing; ``"NaN"`` and ``"∞"`` are losses.
    """
    names = [name for name, _, _ in shown(table)]
    found = []
    for record, kind in zip(table[names].to_dict("records"), element_kind(table), strict=True):
        baseline = record["format"] == UNQUANTIZED
        values = {name: _cell(record[name], missing=baseline and name == "sqnr_db") for name in names}
        found.append({**values, "kind": str(kind)})
    return packed(found, digits=8)  # they are read, and compared with the file


def columns(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what a script must know of the columns shown: name, kind, and whether they are numbers."""
    return [{"name": name, "kind": kind, "numeric": kind != "text"} for name, _, kind in shown(table)]


def section(table: pd.DataFrame) -> str:
    """Return the HTML of the section; a script fills the body of its table."""
    heads = "".join(
        f'<th scope="col"{"" if kind == "text" else " class=n"}><button type="button">{escape(title)}</button></th>'
        for _, title, kind in shown(table)
    )
    selects = "".join(_select(table, name) for name in ("family", "format", "method", "text"))
    return (
        '<section id="results"><h2>Results</h2><div class="card"><div class="controls">'
        '<label class="grow">Filter<input id="find" type="search" placeholder="words such as gptq int4"></label>'
        f"{selects}</div>"
        '<p class="soft" id="shown" aria-live="polite"></p>'
        '<div class="scroll" tabindex="0" role="region" aria-label="All cells"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody></tbody></table></div>"
        '<p><button id="more" type="button" hidden>Show more</button></p></div></section>'
    )


def _cell(value: Any, *, missing: bool) -> Any:
    import pandas as pd

    if missing or value is None or value is pd.NA:
        return None
    if isinstance(value, float):
        return value if math.isfinite(value) else words.number(value)
    return value if isinstance(value, str) else int(value)


def _select(table: pd.DataFrame, name: str) -> str:
    values = sorted(str(value) for value in table[name].dropna().unique())
    if len(values) < 2:
        return ""
    options = "".join(f'<option value="{escape(value)}">{escape(value)}</option>' for value in values)
    every = f'<option value="">every {name}</option>'
    return f'<label>{name.capitalize()}<select name="{name}">{every}{options}</select></label>'
