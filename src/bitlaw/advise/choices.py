"""Everything that can be chosen, with what was measured or is predicted of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bitlaw.advise.alike import ALIKE
from bitlaw.advise.effort import seconds
from bitlaw.advise.engine import PACKED, canonical, is_format
from bitlaw.advise.gguf import METHOD as GGUF
from bitlaw.advise.gguf import own_cells, own_choices
from bitlaw.advise.measured import Measured, measured
from bitlaw.advise.memory import HIGH, cache_bytes, weight_bytes
from bitlaw.advise.question import Choice
from bitlaw.errors import UserError, unknown
from bitlaw.formats import grammar
from bitlaw.methods import METHODS
from bitlaw.predictor.cells import collect
from bitlaw.predictor.explain import beyond
from bitlaw.predictor.features import features
from bitlaw.predictor.fitted import Asked, base_loss, fit, queries, without
from bitlaw.table import UNQUANTIZED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from bitlaw.advise.engine import Loads
    from bitlaw.advise.question import Question
    from bitlaw.predictor.cells import Cells
    from bitlaw.predictor.known import Known

WINDOW = 0.05
"""Nats by which a loss may differ for each doubling of the window: 0.04 for Llama-2-7B on WikiText-2, 512 to 4,096."""
READ = 2**25
"""Weight files of at most so many bytes are read to see what each format does to them."""


@dataclass(frozen=True)
class Considered:
    """What can be chosen.

    Attributes:
        choices: all of it, whether it fits or not.
        evaluation: what losses are of, ``LABEL@WINDOW``.
        cells: what was learned from.
        notes: what was assumed.
    """

    choices: list[Choice]
    evaluation: str
    cells: Cells
    notes: list[str]


@dataclass(frozen=True)
class _Cell:
    """A cell that an engine loads, before anything is known of its loss."""

    known: Known
    format: str
    method: str
    way: Loads


def consider(table: pd.DataFrame, question: Question) -> Considered:
    """Return everything that the question's engine loads of its models, with losses.

    Args:
        table: the results that are learned from.
        question: what is asked.

    Raises:
        UserError: a table that cannot be learned from, or a format or method that there is not.
    """
    cells = collect(table, text=question.text)
    whole: Any = (cells.rows["q_ratio"].astype("float64") == 1.0).to_numpy("bool")
    cells = cells.take(whole)
    learned = set(cells.rows["method"].astype(str))
    own = own_cells(table)
    _check(question, cells, own)
    bases, notes = _bases(table, cells, question)
    there = measured(cells.rows, cells.y)
    wanted = list(_wanted(question, cells, learned))
    asked = [one for one in wanted if (one.known.name, one.format, one.method) not in there]
    found = [_unquantized(question, known, *bases[known.name], cells.evaluation) for known in question.models]
    for one in wanted:
        cell = there.get((one.known.name, one.format, one.method))
        found += [_of_measured(question, one, cell, bases[one.known.name], cells.evaluation)] if cell else []
    found += _predicted(question, cells, asked, bases)
    if not question.methods or GGUF in question.methods:
        names = {canonical(name) for name in question.formats}
        found += [one for one in own_choices(question, cells, own, bases) if not names or one.format in names]
    if all(one.format == UNQUANTIZED for one in found):
        notes.append(f"{question.engine.title} loads none of these formats by these methods, so nothing is quantized")
    return Considered(found, cells.evaluation, cells, notes)


def _check(question: Question, cells: Cells, own: pd.DataFrame) -> None:
    """Raise ``UserError`` for a format or a method that nothing is known of."""
    methods = {*METHODS, *cells.rows["method"].astype(str), GGUF}
    for method in question.methods:
        if method not in methods:
            raise unknown("method", method, methods)
    loads, own_names = question.engine.names(), set(own["format"].astype(str))
    for name in question.formats:
        one = canonical(name)
        if one not in own_names:
            grammar.parse(name)
        if one not in loads and not question.engine.every:
            raise UserError(f"{question.engine.title} does not load '{name}'; it loads {', '.join(loads[:12])}, ...")


def _bases(table: pd.DataFrame, cells: Cells, question: Question) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """Return by model the unquantized loss and how far it may be off; and what was assumed of the models."""
    bases: dict[str, tuple[float, float]] = {}
    notes: list[str] = []
    for known in question.models:
        value, spread, said = _base(table, cells, known, question.nll.get(known.name))
        bases[known.name] = value, spread
        _, guessed = cache_bytes(known, question.context, question.batch, question.cache_bits)
        # Of a model that has other cells, a number that looks wrong in its source matters little.
        flagged = 0
        if "flag" in table and known.name not in set(cells.rows["model"]):
            flagged = int(((table["model"] == known.name) & table["flag"].fillna("").ne("")).sum())
        notes += [f"{known.name}: {line}" for line in (*known.notes, *said, *([guessed] if guessed else []))]
        if flagged:
            notes.append(f"{known.name}: {flagged} of its measured cells are flagged in their source and left out")
    return bases, notes


def _base(table: pd.DataFrame, cells: Cells, known: Known, nll: float | None) -> tuple[float, float, list[str]]:
    """Return as ``base_loss``, but prefer a loss that was measured on the same text in other windows to an estimate."""
    import numpy as np

    text, _, window = cells.evaluation.partition("@")
    if nll is not None or known.name in set(cells.rows["model"]) or not window:
        return base_loss(cells, known, nll)
    mask = (table["model"] == known.name) & (table["format"] == UNQUANTIZED) & (table["text"] == text)
    others = table[mask.fillna(False).to_numpy("bool") & table["nll"].notna().to_numpy("bool")]
    others = others[others["window"].notna().to_numpy("bool")]
    if others.empty:
        return base_loss(cells, known, nll)
    away = np.abs(np.log2(others["window"].astype("float64").to_numpy() / float(window)))
    nearest: Any = others.iloc[int(away.argmin())]
    other = f"windows of {nearest['window']} tokens" if away.min() > 0 else "cells that are left out"
    said = f"unquantized loss {nearest['nll']:.3f} as measured in {other}"
    return float(nearest["nll"]), max(0.02, WINDOW * float(away.min())), [said]


def _wanted(question: Question, cells: Cells, learned: set[str]) -> Iterator[_Cell]:
    """Yield the cells that the engine loads, in formats of bitlaw, by methods that something was learned of."""
    engine = question.engine
    methods = [name for name in question.methods or METHODS if name in learned]
    for known in question.models:
        for name in _formats(question, cells, known):
            for method in methods:
                way = engine.way(name, method)
                if way is not None and _is_possible(name, method):
                    yield _Cell(known, name, method, way)


def _formats(question: Question, cells: Cells, known: Known) -> list[str]:
    """Return the formats of bitlaw that may be chosen for a model, canonical, each once."""
    names = [canonical(name) for name in question.formats] or question.engine.names()
    if question.engine.every and not question.formats:
        names += [str(name) for name in cells.rows.loc[cells.rows["model"] == known.name, "format"]]
    return [name for name in dict.fromkeys(names) if is_format(name)]


def _is_possible(name: str, method: str) -> bool:
    """Return whether a method of bitlaw rounds to a format; one that bitlaw does not have may."""
    if method not in METHODS:
        return True
    try:
        METHODS[method].check(grammar.parse(name), METHODS[method].Settings())
    except UserError:
        return False
    return True


def _unquantized(question: Question, known: Known, base: float, spread: float, evaluation: str) -> Choice:
    cache, _ = cache_bytes(known, question.context, question.batch, question.cache_bits)
    return Choice(
        known, UNQUANTIZED, "none", "{}", HIGH, weight_bytes(known, HIGH), cache, base, spread, 0.0, 0.0, 0.0,
        spread == 0.0, evaluation, 0.0, "16 bits",
    )  # fmt: skip


def _of_measured(question: Question, one: _Cell, cell: Measured, base: tuple[float, float], evaluation: str) -> Choice:
    weights, cache = _memory(question, one, cell.effective_bits)
    return Choice(
        one.known, one.format, one.method, cell.settings, cell.effective_bits, weights, cache, *base,
        cell.value, cell.low, cell.high, True, evaluation, seconds(one.known, one.method), one.way.how, one.way.rounds,
    )  # fmt: skip


def _memory(question: Question, one: _Cell, bits: float) -> tuple[float, float]:
    held = bits if one.way.memory == PACKED else float(one.way.memory)
    cache, _ = cache_bytes(one.known, question.context, question.batch, question.cache_bits)
    return weight_bytes(one.known, held), cache


def _predicted(
    question: Question, cells: Cells, wanted: Sequence[_Cell], bases: dict[str, tuple[float, float]]
) -> Iterator[Choice]:
    """Yield the cells that were not measured, as a fit to ``cells`` predicts them.

    Cells of models whose radial profile is known are predicted along it, and all others by a fit that does not use it.
    """
    import numpy as np

    if not wanted:
        return
    asked = [Asked(one.known, grammar.parse(one.format), one.method, *bases[one.known.name]) for one in wanted]
    rows, every = features(cells), queries(cells, asked, largest=READ)
    radial = every["log_radial"].notna().to_numpy("bool")
    for part in (radial, ~radial):
        if not part.any():
            continue
        query, places = every[part], np.flatnonzero(part).tolist()
        fitted = fit(cells, without(rows, query), {ALIKE.name: ALIKE}, question.seed)
        spread = np.array([asked[at].spread for at in places])
        values = np.stack(fitted.intervals(query, spread), axis=1).tolist()
        stored = query["effective_bits"].astype("float64").tolist()
        further = beyond(fitted.rows, query)
        for at, (value, low, high), bits, beyond_it in zip(places, values, stored, further, strict=True):
            one = wanted[at]
            weights, cache = _memory(question, one, bits)
            yield Choice(
                one.known, one.format, one.method, "{}", bits, weights, cache, *bases[one.known.name], value, low, high,
                False, cells.evaluation, seconds(one.known, one.method), one.way.how, one.way.rounds, tuple(beyond_it),
            )  # fmt: skip
