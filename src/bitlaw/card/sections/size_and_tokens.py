"""The unquantized loss against size and training tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitlaw.card.base import SEED, Drawing, Made, Section, Study, number, table
from bitlaw.card.charts import Axis, Look, lines
from bitlaw.laws import LAWS
from bitlaw.laws.fit import fit
from bitlaw.report import words
from bitlaw.series import series

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES = ("chinchilla", "kaplan_nd", "power_offset")
BOOTSTRAPS = 500
LEAST = 3
"""Degrees of freedom of a fit that is shown: of fewer an R² says nothing."""


def make(study: Study) -> Made | None:
    """Return the constants of the laws of the unquantized loss, for each text."""
    rows: list[tuple[str, ...]] = []
    drawn: list[Drawing] = []
    for name in NAMES:
        law = LAWS[name]
        found = fit(law, study.plain, law.settings.model_validate({}), seed=SEED, bootstraps=BOOTSTRAPS)
        fits = [one for one in found["fits"] if one["df"] >= LEAST]
        rows += [_line(name, one) for one in fits]
        own = [one for one in fits if one["by"]["text"] == study.text]
        if name == "chinchilla" and own:
            drawn.append(_figure(study, max(own, key=lambda one: one["n"])))
    return Made(table(("law", "text", "family", "models", "R²", "constants"), rows), tuple(drawn)) if rows else None


def _line(name: str, one: Mapping[str, Any]) -> tuple[str, ...]:
    said = []
    for constant in one["constants"]:
        what = constant["name"] + (f" of {constant['group']}" if constant["group"] else "")
        ends = "" if constant["low"] is None else f" ({number(constant['low'])} to {number(constant['high'])})"
        doubt = "" if constant["determined"] or constant["held"] else ", not determined"
        said.append(f"{what} {number(constant['value'])}{ends}{doubt}")
    r2 = words.number(one["r2"], 4)
    return f"`{name}`", one["by"]["text"], one["by"]["family"], str(one["n"]), r2, "; ".join(said)


def _figure(study: Study, one: Mapping[str, Any]) -> Drawing:
    import pandas as pd

    law = LAWS["chinchilla"]
    points = pd.DataFrame(one["points"]).merge(study.plain, on="key", how="left").assign(series=series)
    constants = {constant["name"]: constant["value"] for constant in one["constants"]}
    inputs = {name: points[name].to_numpy("float64") for name in law.inputs}
    fitted = points.assign(nll=law.function(inputs, constants), measured=False)
    both = pd.concat([points.assign(measured=True), fitted], ignore_index=True).sort_values(["series", "n_params"])
    look = Look("series", "", dots="measured")
    x, y = Axis("n_params", "parameters", log=True), Axis("nll", "loss, nats per token")
    below = "points are measured, lines the law that was fitted to all of them"
    chart = lines(both, x, y, look, title="Size and training tokens", below=below)
    return Drawing(
        "fit", "Unquantized loss against size, measured and by the fitted law, for each number of tokens", chart
    )


SECTION = Section(
    order=110,
    title="Size and training tokens",
    says=(
        "Laws of the unquantized loss, with 90 % bootstrap intervals. A law of size and tokens is fitted to "
        "families whose tokens vary independently of the size; a law of the size alone to sizes that were trained "
        "alike. Fits with fewer than three degrees of freedom are left out; `bitlaw laws` has all."
    ),
    make=make,
    slow=True,
)
