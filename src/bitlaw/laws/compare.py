"""Which law to trust where: every law of the loss added, fitted to the same cells and asked for cells it did not see.

In-sample fit is not enough, so parts of the table are held out in turn (``bitlaw.laws.holdout``) and laws are judged by
the mean absolute error in nats on what was held out, beside two predictions without a law: the same cell of other
models, and bit-level curves.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bitlaw.artifacts import canonical
from bitlaw.errors import UserError
from bitlaw.laws import bitlevel
from bitlaw.laws.base import Law, Problem
from bitlaw.laws.damage import grouped
from bitlaw.laws.fit import optimum
from bitlaw.laws.holdout import Fold, folds
from bitlaw.laws.inputs import check, derive
from bitlaw.laws.intervals import CLUSTERS
from bitlaw.laws.model import Layout, Model
from bitlaw.laws.record import criteria
from bitlaw.laws.situations import CELL, CURVES, SITUATIONS
from bitlaw.laws.solver import refit
from bitlaw.table import UNQUANTIZED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from bitlaw.laws.base import Array

SATURATED_ABOVE = 1.0
LEAST = 15
MOST_CELLS = 1200
ABLE = 0.9
STARTS = 8
DRAWS = 1000
# A law that drifts off the table predicts anything; what is beyond a broken model counts as this many nats.
MOST = 20.0
LEAST_DAMAGE = 1e-6


@dataclass(frozen=True)
class Cells:
    """The cells of one text and method that all laws are compared on.

    Attributes:
        rows: quantized cells, with all inputs of the laws.
        baselines: the unquantized cells of their models.
        folds: what is held out in turn.
    """

    rows: pd.DataFrame
    baselines: pd.DataFrame
    folds: list[Fold]

    @property
    def damage(self) -> Array:
        """``delta_nll``, (n,)."""
        return self.rows["delta_nll"].to_numpy("float64")


def compare(
    table: pd.DataFrame, laws: Mapping[str, Law], *, seed: int, saturated_above: float = SATURATED_ABOVE
) -> dict[str, Any]:
    """Return how the ``laws`` of the loss added compare on ``table`` (plain JSON values).

    Args:
        table: a results table.
        laws: laws by name; those without ``pool`` are about something else and are passed over.
        seed: of starting points, of the draw of cells and of the test whether a difference is clear.
        saturated_above: cells that lose more (nats per token) are left out for all laws alike.

    Returns:
        ``rule``, what was left out, in words; ``groups``, one entry for each text and method: ``by``, ``cells``,
        ``laws`` (in sample and held out), ``absent`` (laws that lack an input, with the reason) and ``trust`` (for
        each situation the best and the next); ``not_compared``, groups with the reason.

    Raises:
        UserError: the table has a cell twice, or two texts under one label.
    """
    import numpy as np

    check(table)
    laws = {name: law for name, law in sorted(laws.items()) if law.pool is not None}
    for law in laws.values():
        table = derive(table, law.derived)
    quantized = table[(table["format"] != UNQUANTIZED) & table["finite"] & table["delta_nll"].notna()]
    kept = quantized[(quantized["delta_nll"] <= saturated_above) & quantized["n_params"].notna()]
    rule = (
        f"{len(quantized) - len(kept)} of {len(quantized)} quantized cells lose more than {saturated_above:g} nats or "
        f"belong to a model of unknown size and are left out; cells that lose nothing or less are predicted but not "
        f"fitted; of more than {MOST_CELLS} cells of a text and method as many are drawn."
    )
    groups, not_compared = [], []
    for by, part in grouped(kept):
        own = table[(table["format"] == UNQUANTIZED) & table["model"].isin(part["model"])]
        for name in ("text", "window", "stride"):
            own = own[own[name].astype("string").fillna("<NA>") == by[name]]
        rng = np.random.default_rng([seed, zlib.crc32(canonical(["compare", by]).encode())])
        if len(part) < LEAST:
            not_compared.append({"by": by, "reason": f"{len(part)} cells: fewer than {LEAST}"})
        else:
            groups.append({"by": by, **_group(part, own, laws, rng)})
    return {"rule": rule, "groups": groups, "not_compared": not_compared}


def _group(part: pd.DataFrame, baselines: pd.DataFrame, laws: Mapping[str, Law], rng: Any) -> dict[str, Any]:
    import numpy as np

    if len(part) > MOST_CELLS:
        part = part.iloc[np.sort(rng.choice(len(part), MOST_CELLS, replace=False))]
    rows, able, absent = _common(part, laws)
    cells = Cells(rows, baselines, folds(rows))
    found: dict[str, Any] = {}
    errors: dict[str, list[Array]] = {}
    for name in able:
        try:
            found[name], errors[name] = _judge(laws[name], cells, rng)
        except UserError as error:
            absent[name] = error.message
    for name, predicted in ((CELL, _same_cell), (CURVES, _curves)):
        errors[name] = [np.abs(predicted(cells, fold) - cells.damage[fold.held]) for fold in cells.folds]
        found[name] = {"held_out": _held_out(cells.folds, errors[name])}
    trust = [_trust(situation, cells, errors, rng) for situation in SITUATIONS]
    return {
        "cells": len(rows),
        "left_out": len(part) - len(rows),
        "laws": found,
        "absent": absent,
        "trust": [entry for entry in trust if entry is not None],
    }


def _common(part: pd.DataFrame, laws: Mapping[str, Law]) -> tuple[pd.DataFrame, list[str], dict[str, str]]:
    """Return the rows that all able laws have the inputs of; a law is able if ``ABLE`` of all rows have its inputs."""
    able, absent, keep = [], {}, part["n_params"].notna()
    for name, law in laws.items():
        has = part.reindex(columns=list(law.inputs)).notna()
        if has.all(axis=1).mean() >= ABLE:
            able.append(name)
            keep &= has.all(axis=1)
        else:
            lacking = ", ".join(column for column in law.inputs if not has[column].all())
            absent[name] = f"{lacking} not known for {int((~has.all(axis=1)).sum())} cells"
    return part[keep].reset_index(drop=True), able, absent


def _judge(law: Law, cells: Cells, rng: Any) -> tuple[dict[str, Any], list[Array]]:
    """Return what is recorded of ``law``, and its absolute errors for each fold; NaN where it cannot say anything.

    Raises:
        UserError: there are fewer cells than constants.
    """
    import numpy as np
    import pandas as pd

    assert law.pool is not None
    of_loss = law.target == "nll"
    train = cells.rows[cells.damage > 0.0]
    baselines = cells.baselines.dropna(subset=list(law.inputs)) if of_loss else cells.baselines.iloc[:0]
    both = pd.concat([train, baselines], ignore_index=True) if of_loss else train.reset_index(drop=True)
    constants, _ = law.pool(both)
    layout = Layout(Problem({}, both, constants, law.group), law.settings.model_fields["huber"].default)
    if len(both) <= len(layout.slots):
        raise UserError(f"{len(both)} cells for {len(layout.slots)} constants")
    model = Model(law, layout)
    theta = optimum(model, STARTS, rng)
    positive = np.flatnonzero(cells.damage > 0.0)
    record = _in_sample(_predict(model, theta, cells.rows.iloc[positive]), cells.damage[positive], len(layout.slots))
    place = {index: i for i, index in enumerate(positive)}
    weights = np.ones((len(cells.folds), len(both)))
    for f, fold in enumerate(cells.folds):
        weights[f, [place[index] for index in np.flatnonzero(fold.held) if index in place]] = 0.0
    targets = np.tile(model.target, (len(cells.folds), 1))
    thetas, _ = refit(model.residuals, theta, targets, weights, layout.setup)
    errors = []
    for fold, own, weight in zip(cells.folds, thetas, weights, strict=True):
        seen = {layout.groups[g] for g in np.unique(layout.member[weight > 0.0])}
        held = cells.rows[fold.held]
        predicted = _predict(model, own, held)
        if law.group:
            predicted = np.where(held[law.group].astype(str).isin(seen), predicted, np.nan)
        errors.append(np.abs(predicted - cells.damage[fold.held]))
    return {**record, "held_out": _held_out(cells.folds, errors)}, errors


def _in_sample(predicted: Array, measured: Array, constants: int) -> dict[str, Any]:
    """Return how well the cells are fitted that the law was fitted to; R^2, AIC and BIC are of the logarithms."""
    import numpy as np

    logs = np.log(measured)
    rest = logs - np.log(np.maximum(predicted, LEAST_DAMAGE))
    total = float(((logs - logs.mean()) ** 2).sum())
    r2 = None if total == 0.0 else 1.0 - float((rest**2).sum()) / total
    mae = float(np.abs(predicted - measured).mean())
    return {"constants": constants, "mae": mae, "r2": r2, **criteria(rest, constants)}


def _predict(model: Model, theta: Array, rows: pd.DataFrame) -> Array:
    """Return the loss added that the law predicts for ``rows`` (m,), at most ``MOST`` nats."""
    import numpy as np

    law, layout = model.law, model.layout
    place = {group: i for i, group in enumerate(layout.groups)}
    labels = rows[law.group].astype(str) if law.group else [""] * len(rows)
    member = np.array([place.get(label, 0) for label in labels], dtype=int)
    inputs = {name: rows[name].to_numpy("float64") for name in law.inputs}
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        predicted = (law.damage or law.function)(inputs, layout.values(theta, member))
    return np.asarray(np.clip(np.nan_to_num(np.broadcast_to(predicted, (len(rows),)), nan=MOST), -MOST, MOST))


def _same_cell(cells: Cells, fold: Fold) -> Array:
    """Return the mean over the other models of the same format, or of the format next to it in effective bits."""
    import numpy as np

    mean = cells.rows[~fold.held].groupby("format")[["delta_nll", "effective_bits"]].mean()
    held = cells.rows[fold.held]
    found = held["format"].map(mean["delta_nll"]).to_numpy("float64")
    bits = held["effective_bits"].to_numpy("float64")
    near = np.argmin(np.abs(bits[:, None] - mean["effective_bits"].to_numpy("float64")), axis=1)
    return np.asarray(np.where(np.isnan(found), mean["delta_nll"].to_numpy("float64")[near], found))


def _curves(cells: Cells, fold: Fold) -> Array:
    """Return what bit-level curves predict."""
    import numpy as np

    predicted = bitlevel.predict(cells.rows[~fold.held], cells.baselines, cells.rows[fold.held])
    return np.asarray(np.clip(predicted, -MOST, MOST))


def _held_out(held: Sequence[Fold], errors: Sequence[Array]) -> dict[str, Any]:
    """Return for each situation the mean and median absolute error over all that was held out in it."""
    import numpy as np

    found = {}
    for situation in SITUATIONS:
        own = [error for fold, error in zip(held, errors, strict=True) if fold.situation == situation]
        if own:
            every = np.concatenate(own)
            said = every[~np.isnan(every)]
            full = len(said) == len(every)
            found[situation] = {
                "folds": len(own),
                "cells": len(every),
                "silent": len(every) - len(said),
                "mae": float(said.mean()) if full else None,
                "median": float(np.median(said)) if full else None,
            }
    return found


def _trust(situation: str, cells: Cells, errors: Mapping[str, list[Array]], rng: Any) -> dict[str, Any] | None:
    """Return the best and the next in ``situation``, and whether models drawn anew nearly always agree (95 %).

    Fewer than ``CLUSTERS`` models cannot tell whether the difference is ``clear``.
    """
    import numpy as np

    at = [i for i, fold in enumerate(cells.folds) if fold.situation == situation]
    if not at:
        return None
    every = {name: np.concatenate([own[i] for i in at]) for name, own in errors.items()}
    every = {name: own for name, own in every.items() if not np.isnan(own).any()}
    if not every:
        return None
    order = sorted(every, key=lambda name: (float(every[name].mean()), name))
    # A law that predicts the same, such as one with a further input that does not vary, is no other law.
    best, others = order[0], [name for name in order[1:] if not np.allclose(every[name], every[order[0]], rtol=1e-3)]
    entry = {"situation": situation, "best": best, "mae": float(every[best].mean()), "next": None, "clear": None}
    if others:
        models = np.concatenate([cells.rows["model"].astype(str).to_numpy()[cells.folds[i].held] for i in at])
        names, member = np.unique(models, return_inverse=True)
        gain = np.bincount(member, every[others[0]] - every[best], len(names))
        draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
        clear = bool(np.mean(draws @ gain > 0.0) >= 0.95) if len(names) >= CLUSTERS else None
        entry |= {"next": others[0], "next_mae": float(every[others[0]].mean()), "clear": clear}
    return entry
