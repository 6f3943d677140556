"""Losses predicted where nothing was measured."""

from __future__ import annotations

from typing import Any

from bitlaw.card.base import SEED, Drawing, Made, Section, Study, number, table
from bitlaw.card.charts import Axis, Look, lines
from bitlaw.errors import UserError
from bitlaw.predictor.cells import collect
from bitlaw.predictor.features import features
from bitlaw.predictor.protocols import CHOSEN, PROTOCOLS, run
from bitlaw.report import scales, words

MOST_POINTS = 400
LEAST = 1e-3


def make(study: Study) -> Made | None:
    """Return the errors of all models of the predictor in each protocol, and predicted against measured."""
    import pandas as pd

    try:
        cells = collect(study.plain, text=study.evaluation)
        rows = features(cells)
    except UserError as error:
        return Made(f"Nothing can be learned from these cells: {error}.")
    records: dict[str, dict[str, Any]] = {}
    refused = []
    for name in PROTOCOLS:
        try:
            records[name] = run(name, cells, rows, SEED)
        except UserError as error:
            refused.append(f"Not possible, {name}: {error}.")
    names = [CHOSEN, *sorted({model for record in records.values() for model in record["errors"]} - {CHOSEN})]
    lines_ = [(f"`{name}`", *(_errors(record["errors"].get(name)) for record in records.values())) for name in names]
    parts = [table(("model", *(f"{name} left out" for name in records)), lines_)] if records else []
    family = records.get("family")
    if family is not None:
        parts.append(f"Intervals that are to hold 90 % of an unseen family's cells hold {family['coverage']:.1%}.")
    drawn: tuple[Drawing, ...] = ()
    if family is not None:
        points = pd.DataFrame(family["points"])
        points = points[(points["measured"] > LEAST) & (points["predicted"] > LEAST)]
        some = scales.evenly(points, MOST_POINTS).assign(
            method=lambda part: [words.method(name) for name in part["method"]]
        )
        look = Look("method", "method", marks="points")
        x, y = (
            Axis("measured", "measured, nats per token", log=True),
            Axis("predicted", "predicted, nats per token", log=True),
        )
        chart = lines(some, x, y, look, title="Predicted and measured", below="each family by a fit to the others")
        drawn = (
            Drawing("measured", "Predicted against measured loss added, each family by fits to the others", chart),
        )
    return Made("\n\n".join([*parts, *refused]), drawn)


def _errors(errors: dict[str, Any] | None) -> str:
    if errors is None:
        return words.MISSING
    r2 = "none" if errors["r2"] is None else number(errors["r2"])
    return f"{number(errors['mae'])} (median {number(errors['median'])}, R² {r2})"


SECTION = Section(
    order=140,
    title="Predicted where nothing was measured",
    says=(
        "Mean absolute errors in nats per token of losses that were left out. `chosen` is the model that was "
        "chosen without what is left out; `forest` is the one of Xu et al. 2024. [The predictor](predictor.md) "
        "explains the others."
    ),
    make=make,
    slow=True,
)
