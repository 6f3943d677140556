"""Advice tested on the published results: models of up to 13 B parameters are known, larger ones are advised on.

Nothing of a larger model is learned from, not even its unquantized loss: rows of all larger models are taken out of the
table first, and what is left of a model is its size. A case is a model, an evaluation and a budget, for each amount of
memory at which something more fits and there is a choice. What is recommended among the cells that were measured is
compared with the one of them that was measured to be best.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bitlaw.advise import engine
from bitlaw.advise.choices import consider
from bitlaw.advise.measured import measured
from bitlaw.advise.question import Question
from bitlaw.predictor.cells import collect
from bitlaw.predictor.known import find
from bitlaw.predictor.training import shipped
from bitlaw.table import UNQUANTIZED

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from bitlaw.advise.question import Choice

KNOWN_UP_TO = 13.5e9
"""Parameters, embeddings counted: larger models are not learned from."""
FROM = 29e9
"""Parameters from which models are advised on."""
FAMILIES = ("opt", "bloom")
EVALUATIONS = ("wikitext-2@2048", "ptb@2048", "c4-new@2048")
WITHIN = 0.01
"""Nats per token."""
WANTED = 0.8
"""Share of the cases in which the recommendation is to be within ``WITHIN`` of the best."""
OUTLIER = "outlier"


@dataclass(frozen=True)
class _Case:
    """One budget: what was recommended, what a rule of thumb takes, and what was measured of all that fits.

    Attributes:
        regret: measured loss of the recommendation less that of the best, nats per token.
        naive: the same of GPTQ in the most bits that fit.
    """

    regret: float
    naive: float


def check(seed: int = 0) -> dict[str, Any]:
    """Return how often advice is right: by evaluation and model, for one model at a time, and across a family's models.

    Args:
        seed: of the fits.

    Returns:
        ``groups``: for each ``evaluation`` and ``model`` the number of ``cases``, those where the recommendation is
        ``best`` and ``within`` ``WITHIN`` nats of it, the ``worst`` regret in nats, how often a rule of thumb is
        ``naive`` within, and whether the model is ``flagged`` in its source. ``across``: the same for budgets across
        all models of a family. ``share``: of the cases of models that are not flagged, within. ``share_all``: of all.
    """
    table = shipped()
    groups: list[dict[str, Any]] = []
    across: list[dict[str, Any]] = []
    for evaluation in EVALUATIONS:
        known = table[(table["n_total"].astype("float64") <= KNOWN_UP_TO).fillna(False).to_numpy("bool")]
        truth = _truth(table, evaluation)
        flagged = set(table.loc[table["flag"].eq(OUTLIER).to_numpy("bool"), "model"].astype(str))
        predicted = _predicted(known, truth, evaluation, seed)
        for name in dict.fromkeys(one.known.name for one in predicted):
            cells = [one for one in predicted if one.known.name == name and one.format != UNQUANTIZED]
            if found := list(_cases(cells, truth)):
                groups.append({"evaluation": evaluation, "model": name, "flagged": name in flagged, **_counted(found)})
        across += _across(known, truth, evaluation, flagged, seed)
    sound = [one for one in groups if not one["flagged"]]
    return {
        "known_up_to": KNOWN_UP_TO,
        "within_nats": WITHIN,
        "groups": groups,
        "across": across,
        "share": _share(sound),
        "share_all": _share(groups),
        "share_naive": _share(sound, "naive"),
        "share_across": _share(across),
    }


def _truth(table: pd.DataFrame, evaluation: str) -> dict[tuple[str, str, str], float]:
    """Return the measured loss of every cell, nats per token, by model, format and method: means over sources.

    Cells of models that are flagged as broken are there; a single number that looks wrong in its source is not.
    """
    rows = table.assign(flag=table["flag"].where(~table["flag"].eq(OUTLIER), ""))
    cells = collect(rows, text=evaluation)
    base = cells.rows.drop_duplicates("model").set_index("model")["base_nll"].astype("float64")
    found = {key: float(base[key[0]]) + one.value for key, one in measured(cells.rows, cells.y).items()}
    return {**found, **{(str(model), UNQUANTIZED, "none"): float(value) for model, value in base.items()}}


def _held_out(truth: dict[tuple[str, str, str], float], known: pd.DataFrame) -> list[Any]:
    """Return what is known of the models that are advised on: their sizes."""
    models = [find(name, known) for name in sorted({model for model, _, _ in truth})]
    return [one for one in models if one.n_total >= FROM and one.family in FAMILIES]


def _predicted(
    known: pd.DataFrame, truth: dict[tuple[str, str, str], float], evaluation: str, seed: int
) -> list[Choice]:
    """Return what advice knows of the cells of larger models that were measured."""
    models = _held_out(truth, known)
    names = {one.name for one in models}
    formats = tuple(sorted({fmt for model, fmt, _ in truth if model in names and fmt != UNQUANTIZED}))
    question = Question(tuple(models), engine("any"), formats=formats, context=1, text=evaluation, seed=seed)
    choices = consider(known, question).choices
    return [one for one in choices if (one.known.name, one.format, one.method) in truth]


def _cases(choices: Sequence[Choice], truth: dict[tuple[str, str, str], float]) -> Iterator[_Case]:
    """Yield a case for each amount of memory at which something more fits and there is a choice."""
    for budget in sorted({one.bytes for one in choices}):
        fitting = [one for one in choices if one.bytes <= budget]
        if len(fitting) < 2:
            continue
        losses = [truth[one.known.name, one.format, one.method] for one in fitting]
        least = min(losses)
        taken = min(range(len(fitting)), key=lambda at: (fitting[at].nll, fitting[at].bytes, fitting[at].method))
        thumb = max(range(len(fitting)), key=lambda at: (fitting[at].method in ("gptq", "none"), fitting[at].bytes))
        yield _Case(losses[taken] - least, losses[thumb] - least)


def _across(
    known: pd.DataFrame, truth: dict[tuple[str, str, str], float], evaluation: str, flagged: set[str], seed: int
) -> Iterator[dict[str, Any]]:
    """Yield, for each family, the cases of budgets across its models: small ones measured, larger ones predicted.

    Models that are flagged as broken are left out: their own unquantized loss is not that of their size.
    """
    for family in FAMILIES:
        names = sorted({model for model, _, _ in truth if find(model, known).family == family} - flagged)
        models = tuple(find(name, known) for name in names)
        larger = {one.name for one in models if one.n_total >= FROM}
        if not larger:
            continue
        formats = tuple(sorted({fmt for model, fmt, _ in truth if model in larger and fmt != UNQUANTIZED}))
        question = Question(models, engine("any"), formats=formats, context=1, text=evaluation, seed=seed)
        choices = consider(known, question).choices
        choices = [one for one in choices if (one.known.name, one.format, one.method) in truth]
        smallest = min(one.bytes for one in choices if one.known.name in larger)
        # Budgets below belong to models that are known.
        found = list(_cases_from(choices, truth, smallest))
        yield {"evaluation": evaluation, "family": family, **_counted(found)}


def _cases_from(choices: Sequence[Choice], truth: dict[tuple[str, str, str], float], least: float) -> Iterator[_Case]:
    budgets = sorted({one.bytes for one in choices})
    cases = _cases(choices, truth)
    yield from (case for budget, case in zip(budgets[1:], cases, strict=False) if budget >= least)


def _counted(found: Sequence[_Case]) -> dict[str, Any]:
    slack = 1e-9
    return {
        "cases": len(found),
        "best": sum(one.regret <= slack for one in found),
        "within": sum(one.regret <= WITHIN + slack for one in found),
        "worst": max((one.regret for one in found), default=0.0),
        "naive": sum(one.naive <= WITHIN + slack for one in found),
    }


def _share(groups: Sequence[dict[str, Any]], counted: str = "within") -> float:
    return float(sum(one[counted] for one in groups) / max(1, sum(one["cases"] for one in groups)))


def lines(found: dict[str, Any]) -> list[str]:
    """Return the result in words."""
    said = [f"models of up to {found['known_up_to']:.3g} parameters are known; nothing of larger ones"]
    for one in found["groups"]:
        broken = " (flagged as broken in its source)" if one["flagged"] else ""
        said.append(
            f"  {one['evaluation']}, {one['model']}{broken}: {one['within']} of {one['cases']} budgets within "
            f"{found['within_nats']} nats of the best, {one['best']} the best, at most {one['worst']:.4f} nats off"
        )
    said.append(
        f"one model at a time: {found['share']:.1%} within, {found['share_all']:.1%} with flagged models; "
        f"GPTQ in the most bits that fit: {found['share_naive']:.1%}; at least {WANTED:.0%} wanted"
    )
    said += [
        f"  {one['evaluation']}, all of {one['family']}: {one['within']} of {one['cases']} budgets, at most "
        f"{one['worst']:.4f} nats off"
        for one in found["across"]
    ]
    said.append(f"across the models of a family: {found['share_across']:.1%}")
    return said


def markdown(found: dict[str, Any]) -> str:
    """Return the result as a Markdown table."""
    head = [
        "| evaluation | model | budgets | best | within 0.01 nats | farthest off | rule of thumb within 0.01 nats |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    named = [(f"{one['model']}{', flagged' if one['flagged'] else ''}", one) for one in found["groups"]]
    named += [(f"all of {one['family']}", one) for one in found["across"]]
    rows = [
        f"| {one['evaluation']} | {name} | {one['cases']} | {one['best']} | {one['within']} | {one['worst']:.4f} "
        f"| {one['naive']} |"
        for name, one in named
    ]
    total = (
        f"One model at a time, {found['share']:.1%} of the budgets are within 0.01 nats ({found['share_all']:.1%} with "
        f"the flagged model); across the models of a family, {found['share_across']:.1%}."
    )
    return "\n".join([*head, *rows, "", total])
