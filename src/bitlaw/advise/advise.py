"""The advice: what fits, ranked, with the best first and the frontier marked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bitlaw.advise import effort, memory
from bitlaw.advise.accuracy import accuracies
from bitlaw.advise.choices import consider
from bitlaw.advise.question import WORKS
from bitlaw.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from bitlaw.advise.question import Choice, Question
    from bitlaw.predictor.cells import Cells

TIE = 1e-9
CLOSE = 0.01
"""Nats per token by which a measured loss may lie above a predicted one to be preferred."""


@dataclass(frozen=True)
class Advice:
    """What is recommended.

    Attributes:
        ranked: what meets the question, the best first.
        frontier: places in ``ranked`` of what nothing undercuts in both memory and loss.
        rivals: how many others have an interval that reaches below the best one's loss.
        evaluation: what losses are of, ``LABEL@WINDOW``.
        cells: what was learned from.
        notes: what was assumed, and what to keep in mind.
    """

    ranked: list[Choice]
    frontier: frozenset[int]
    rivals: int
    evaluation: str
    cells: Cells
    notes: list[str]

    @property
    def best(self) -> Choice:
        """The recommendation."""
        return self.ranked[0]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        rows = [
            {"rank": at + 1, "frontier": at in self.frontier, **one.as_json()} for at, one in enumerate(self.ranked)
        ]
        learned = {"cells": len(self.cells.rows), "models": int(self.cells.rows["model"].nunique())}
        return {
            "evaluation": self.evaluation,
            "learned_from": learned,
            "rivals": self.rivals,
            "choices": rows,
            "notes": self.notes,
        }


def advise(table: pd.DataFrame, question: Question) -> Advice:
    """Return what meets the question, ranked.

    With a tolerance the least memory is best, otherwise the least loss. A cell that was measured is never predicted,
    and is put before the predicted ones that it can't be told from.

    Args:
        table: the results that are learned from.
        question: what is asked.

    Raises:
        UserError: nothing meets it; it says what would. Or a table, format or method that cannot be used.
    """
    found = consider(table, question)
    fitting = _meeting(question, found.choices)
    if question.tolerance is None:
        ranked = _measured_first(
            sorted(fitting, key=lambda one: (one.nll, one.bytes, one.known.name, one.format, one.method))
        )
    else:
        ranked = sorted(fitting, key=lambda one: (one.bytes, one.nll, one.known.name, one.format, one.method))
    accuracy, said = accuracies(table, ranked, question.task, found.evaluation, question.seed)
    ranked = [replace(one, accuracy=value) for one, value in zip(ranked, accuracy, strict=True)]
    rivals = sum(one.nll_interval[0] < ranked[0].nll for one in ranked[1:])
    notes = [*found.notes, said, *_warnings(ranked)]
    return Advice(ranked, frontier(ranked), rivals, found.evaluation, found.cells, notes)


def _measured_first(ranked: list[Choice]) -> list[Choice]:
    """Put the best measured choice first if the interval of the best one, a prediction, holds its loss, and closely."""
    best = ranked[0]
    limit = min(best.nll_interval[1], best.nll + CLOSE)
    at = next((at for at, one in enumerate(ranked) if one.measured and one.nll <= limit), 0)
    return [ranked[at], *ranked[:at], *ranked[at + 1 :]]


def frontier(choices: Sequence[Choice]) -> frozenset[int]:
    """Return the places of the choices that no other one undercuts in memory without having more loss."""
    order = sorted(range(len(choices)), key=lambda at: (choices[at].bytes, choices[at].nll))
    found, least = [], float("inf")
    for at in order:
        if choices[at].nll < least - TIE:
            found.append(at)
            least = choices[at].nll
    return frozenset(found)


def _meeting(question: Question, choices: Sequence[Choice]) -> list[Choice]:
    """Return the choices that meet the question. Raises ``UserError`` if none does, and says what would."""
    working = [one for one in choices if one.works] or list(choices)
    if question.seconds is not None:
        quick = [one for one in working if one.seconds is not None and one.seconds <= question.seconds]
        if not quick:
            least = min((one.seconds for one in working if one.seconds is not None), default=None)
            given, needs = effort.shown(question.seconds), effort.shown(least)
            raise UserError(f"nothing can be quantized in {given}; the quickest that works takes {needs}")
        working = quick
    if question.tolerance is not None:
        limit = min(one.nll for one in working) + question.tolerance
        working = [one for one in working if one.nll <= limit + TIE]
    if question.budget is None:
        return working
    fitting = [one for one in working if one.bytes <= question.budget]
    if not fitting:
        raise UserError(_too_large(question, working))
    return fitting


def _too_large(question: Question, working: Sequence[Choice]) -> str:
    least = min(working, key=lambda one: (one.bytes, one.nll))
    needs = (
        f"{least.known.name} in {least.format} by {least.method}, {memory.shown(least.bytes)} "
        f"({memory.shown(least.weights)} weights, {memory.shown(least.cache)} keys and values of "
        f"{question.context:,} x {question.batch} tokens), {least.delta_nll:+.3g} nats"
    )
    what = "nothing within the tolerance fits" if question.tolerance is not None else "nothing that works fits"
    return f"{what} {memory.shown(question.budget or 0.0)}: the smallest that works is {needs}"


def _warnings(ranked: Sequence[Choice]) -> list[str]:
    said = []
    best = ranked[0]
    if len({one.known.family for one in ranked}) > 1:
        said.append(
            "losses per token of models with other tokenizers do not compare: prefer one family, or trust accuracies"
        )
    if not best.works:
        said.append(f"all that fits loses more than {WORKS:g} nats per token: expect a broken model")
    if best.rounds:
        said.append(f"{best.format}: {best.rounds}; the loss here does not count it")
    return said
