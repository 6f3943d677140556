"""A study in a few numbers and points, for programs that compare runs: DVC's metrics and plots."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bitlaw.report.headline import label
from bitlaw.table import UNQUANTIZED, whole

if TYPE_CHECKING:
    import pandas as pd


def metrics(table: pd.DataFrame, laws: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers to compare between runs; what is not finite or not determined by the data is left out.

    Args:
        table: the results table.
        laws: the result of the laws stage.

    Returns:
        ``cells`` and those ``without_finite_loss``; ``nll`` of each model, unquantized; ``delta_nll`` by method and
        format, the mean over models (both in nats per token); ``laws``: by law and fit ``r2``, ``rmse_log`` and the
        fitted constants.
    """
    baselines = table[table["format"] == UNQUANTIZED]
    added: dict[str, dict[str, float]] = {}
    for method, points in losses(table).items():
        added[method] = {point["format"]: point["delta_nll"] for point in points}
    return {
        "cells": len(table),
        "without_finite_loss": int((~table["finite"]).sum()),
        "nll": _finite(dict(zip(_with_text(baselines, "model"), baselines["nll"].astype(float), strict=True))),
        "delta_nll": added,
        "laws": {name: _law(record) for name, record in laws["laws"].items()},
    }


def losses(table: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Return by method one point for each format: its name, mean ``effective_bits`` and mean ``delta_nll``.

    The means are over the models that are finite in that format by that method. A method that is there with several
    settings is named with them, and with the text if there are several.
    """
    rows = whole(table)
    rows = rows[(rows["format"] != UNQUANTIZED) & rows["finite"]]
    found: dict[str, list[dict[str, Any]]] = {}
    rows = rows.assign(named=_with_text(rows, "method"))
    for (method, named, settings, name), part in rows.groupby(["method", "named", "settings", "format"], sort=True):
        several = rows.loc[rows["method"] == method, "settings"].nunique() > 1
        means = {column: float(part[column].mean()) for column in ("effective_bits", "delta_nll")}
        if len(_finite(means)) == len(means):
            own = found.setdefault(f"{named} {settings}" if several else str(named), [])
            own.append({"format": str(name), **means})
    return found


def _with_text(table: pd.DataFrame, column: str) -> pd.Series[str]:
    """Return ``column``, with the evaluation text behind it if the table has several."""
    names = table[column].astype(str)
    return names + " " + table["text"].astype(str) if table["text"].nunique() > 1 else names


def fits(laws: Mapping[str, Any]) -> dict[str, list[dict[str, float]]]:
    """Return by law the measured and the predicted value of every point of its fits, those that are finite."""
    return {
        name: [
            {"measured": point["measured"], "predicted": point["predicted"]}
            for fit in record["fits"]
            for point in fit["points"]
            if math.isfinite(point["measured"]) and math.isfinite(point["predicted"])
        ]
        for name, record in laws["laws"].items()
    }


def _law(record: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for fit in record["fits"]:
        constants = {
            constant["name"] + (f" of {constant['group']}" if constant["group"] else ""): constant["value"]
            for constant in fit["constants"]
            if constant["determined"]
        }
        found[label(record, fit["by"]).strip(" ()") or "all"] = _finite(
            {"r2": fit["r2"], "rmse_log": fit["rmse_log"], **constants}
        )
    return found


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if isinstance(value, float) and math.isfinite(value)}
