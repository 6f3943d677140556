"""The advice as a table for a terminal, and in words."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

from bitlaw.advise import effort, memory
from bitlaw.table import UNQUANTIZED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from bitlaw.advise.advise import Advice
    from bitlaw.advise.question import Choice, Question

WIDTH = 170
"""Columns where the output is no terminal."""
WIDE = 150
"""Columns from which the whole table fits; a narrower terminal gets the columns that decide."""


def show(
    found: Advice, question: Question, made: Mapping[str, Any], mixed: Mapping[str, Any] | None, *, top: int
) -> None:
    """Print the advice: the first ``top`` rows, the recommendation, and what to keep in mind."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    console.print(_title(found, question), markup=False)
    console.print(table(found, top, console.width))
    for line in (*_legend(found, top), *_best(found, question), *_making(made), *_mixing(mixed), *_notes(found)):
        console.print(line, markup=False)


def table(found: Advice, top: int, width: int) -> Table:
    """Return the first ``top`` rows (at least one) as a table for a terminal of ``width`` columns."""
    from rich.table import Table

    names = list(_COLUMNS) if width >= WIDE else [name for name in _COLUMNS if name not in _LESS]
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        made.add_column(name, justify="left" if name in _WORDS else "right", no_wrap=True)
    for at, one in enumerate(found.ranked[: max(top, 1)]):
        cells = dict(zip(_COLUMNS, _row(at, one, at in found.frontier), strict=True))
        made.add_row(*(cells[name] for name in names), style="bold" if at == 0 else None)
    return made


_COLUMNS = (
    "#", "model", "format", "method", "bits", "memory", "keys, values", "loss", "90 %", "added", "accuracy (90 %)",
    "quantizing", "from",
)  # fmt: skip
_WORDS = ("model", "format", "method", "from")
_LESS = ("bits", "keys, values", "90 %", "accuracy (90 %)", "quantizing")
"""Columns that a narrow terminal goes without."""


def _title(found: Advice, question: Question) -> str:
    limits = []
    if question.budget is not None:
        limits.append(f"{memory.shown(question.budget)} for weights and {question.context:,} x {question.batch} tokens")
    if question.tolerance is not None:
        limits.append(f"at most {question.tolerance:g} nats above the best candidate")
    if question.seconds is not None:
        limits.append(f"quantized in {effort.shown(question.seconds)}")
    return f"{'; '.join(limits)}; engine: {question.engine.title}; loss in nats per token on {found.evaluation}"


def _row(at: int, one: Choice, on_frontier: bool) -> list[str]:
    low, high = one.nll_interval
    accuracy = "" if one.accuracy is None else "{:.2f} ({:.2f}-{:.2f})".format(*one.accuracy)
    said = "measured" if one.measured else "beyond" if one.extrapolates else "predicted"
    return [
        f"{at + 1}{'*' if on_frontier else ' '}",
        one.known.name,
        one.format,
        one.method,
        f"{one.effective_bits:.2f}",
        memory.shown(one.bytes),
        memory.shown(one.cache),
        f"{one.nll:.3f}",
        f"{_number(low)}-{_number(high)}",
        f"{one.delta_nll:+.3f}",
        accuracy,
        effort.shown(one.seconds),
        said,
    ]


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "?"


def _legend(found: Advice, top: int) -> list[str]:
    more = len(found.ranked) - top
    said = "*: nothing takes less memory and loses less."
    return [f"{said} {more} more rows: --top, --csv or --json." if more > 0 else said]


def _best(found: Advice, question: Question) -> list[str]:
    best = found.best
    low, high = best.nll_interval
    source = f"measured on {best.evaluation}" if best.measured else f"predicted from {len(found.cells.rows)} cells"
    said = [
        "",
        f"Take {best.known.name} in {best.format} by {best.method}: {memory.shown(best.bytes)}, loss {best.nll:.3f} "
        f"({_number(low)} to {_number(high)}), {best.delta_nll:+.3f} nats by quantization, {source}.",
    ]
    if best.how and not question.engine.every:
        said.append(f"  {question.engine.title} computes with it by: {best.how}")
    if found.rivals:
        said.append(f"  {found.rivals} others have intervals that reach below its loss: they may be as good.")
    said += [f"  extrapolated: {line}" for line in best.extrapolates]
    return said


def _making(made: Mapping[str, Any]) -> list[str]:
    import yaml

    said: list[str] = []
    if made["params"]:
        study = _indented(yaml.safe_dump(made["params"], sort_keys=False))
        said += ["  put into params.yaml, beside `study:`:", *study]
    if made["command"]:
        said.append(f"  make it: {made['command']}")
    return [*said, *([f"  {made['note']}"] if made["note"] else [])]


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.splitlines()]


def _mixing(mixed: Mapping[str, Any] | None) -> list[str]:
    if mixed is None:
        return []
    import yaml

    high = [one["linear"] for one in mixed["linears"] if one["format"] == mixed["high"]]
    rest = "16 bits" if mixed["high"] == UNQUANTIZED else mixed["high"]
    share = f"{mixed['share']:.1%} of the weights of {mixed['model']} in {mixed['low']}, the rest in {rest}"
    size = f"{memory.shown(mixed['bytes'])}, {mixed['effective_bits']:.3f} bits"
    added = f"{mixed['delta_nll']:+.4f} ({mixed['delta_low']:+.4f} to {mixed['delta_high']:+.4f})"
    return [
        "",
        f"Mixed: {share}: {size}, {added} nats added, predicted.",
        f"  the best that fits in one format: {mixed['uniform_format']}, {mixed['uniform_delta_nll']:+.4f} nats",
        f"  chosen by {mixed['by']}",
        f"  in {rest}: {', '.join(high) or 'none'}",
        "  as a mix of a study, which orders linears by its own selection:",
        *_indented(yaml.safe_dump({"mixes": [mixed["mix"]]}, sort_keys=False)),
    ]


def _notes(found: Advice) -> list[str]:
    return ["", *(f"note: {line}" for line in found.notes)] if found.notes else []
