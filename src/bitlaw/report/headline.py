"""What a table and its laws say, in a few plain lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bitlaw.report import mixed, words
from bitlaw.table import UNQUANTIZED, element_kind, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

MANY = 8
"""Fits of a law that have a line each in the summary."""


def headline(table: pd.DataFrame, laws: Mapping[str, Any]) -> list[str]:
    """Return plain sentences: what was run, what four bits cost, what is best at a budget, what the laws say.

    Args:
        table: the results table.
        laws: the result of the laws stage.
    """
    lines = [scope(table)]
    rows = whole(table)
    for text in sorted(rows["text"].unique()):
        own = rows[rows["text"] == text]
        where = f" ({text})" if rows["text"].nunique() > 1 else ""
        lines += [line + where for line in (*four_bits(own), *budgets(own))]
    return [*lines, *mixed.verdicts(table), *of_laws(laws), *broken(table)]


def scope(table: pd.DataFrame) -> str:
    """Return what the table holds."""
    models, named = table.drop_duplicates("model"), table["family"].dropna().nunique()
    sizes = sorted({words.count(n) for n in (models["n_params"].min(), models["n_params"].max())})
    low, high = words.count(models["n_params"].min()), words.count(models["n_params"].max())
    span = f"{low} non-embedding parameters" if len(sizes) == 1 else f"{low} to {high} non-embedding parameters"
    quantized = table[table["format"] != UNQUANTIZED]
    methods = words.several([words.method(name) for name in sorted(quantized["method"].unique())])
    families = f" of {words.plural(named, 'family', 'families')}" if named else ""
    by = f" by {methods}" if methods else ""
    return (
        f"{words.plural(len(table), 'cell')}: {words.plural(len(models), 'model')}{families} ({span}), "
        f"{words.plural(quantized['format'].nunique(), 'format')}{by}."
    )


class Cost(NamedTuple):
    """What one format costs: its mean ``delta_nll`` by method, over the models that are finite by all methods."""

    format: str
    kind: str
    bits: int
    block: str
    effective: float
    models: int
    nats: dict[str, float]

    @property
    def methods(self) -> list[str]:
        """The methods, RTN first."""
        return sorted(self.nats, key=lambda name: (name != "rtn", name))

    def distance(self) -> tuple[float, float, str]:
        """Return how far the format is from four bits in blocks of 64; for sorting."""
        return abs(self.bits - 4), abs(self.effective - 4.25), self.format


def costs(table: pd.DataFrame) -> list[Cost]:
    """Return what each format of ``table`` (of one text) costs, leaving out formats that no model is finite in."""
    import numpy as np

    rows = table[table["format"] != UNQUANTIZED].assign(kind=element_kind)
    found = []
    for name, part in rows.groupby("format", sort=True):
        each = part.pivot_table(index="model", columns="method", values="delta_nll", aggfunc="mean", dropna=False)
        whole = each[np.isfinite(each.to_numpy("float64")).all(axis=1)]
        if len(whole):
            one = part.iloc[0]
            nats = {str(method): float(mean) for method, mean in whole.mean().items()}
            effective = float(part["effective_bits"].mean())
            found.append(Cost(str(name), one["kind"], int(one["bits"]), one["block"], effective, len(whole), nats))
    return found


def four_bits(table: pd.DataFrame) -> list[str]:
    """Return, for each kind of element, what its format nearest to four bits costs by each method."""
    every = costs(table)
    kinds = sorted({cost.kind for cost in every})
    return [_one(min((cost for cost in every if cost.kind == kind), key=Cost.distance)) for kind in kinds]


def _one(cost: Cost) -> str:
    parts = [f"{words.loss(cost.nats[name])} nats with {words.method(name)}" for name in cost.methods]
    what = f"{cost.bits}-bit {cost.kind}, {words.block(cost.block)} ({cost.effective:.2f} effective bits)"
    line = f"{what}: {words.several(parts)}, on average over {words.plural(cost.models, 'model')}"
    for name, share in recovered(cost).items():
        line += f"; {words.method(name)} "
        line += f"recovers {share:.0%} of what RTN loses" if share >= 0 else f"loses {-share:.0%} more than RTN"
    return line + "."


def recovered(cost: Cost) -> dict[str, float]:
    """Return, by method, the share of RTN's loss that it takes back; nothing where RTN loses nothing."""
    rtn = cost.nats.get("rtn", 0.0)
    return {name: 1.0 - cost.nats[name] / rtn for name in cost.methods if name != "rtn"} if rtn > 0 else {}


def budgets(table: pd.DataFrame) -> list[str]:
    """Return the format and method with the lowest mean loss at or below 3.5, 4.5 and 5.5 effective bits."""
    found: list[str] = []
    last = None
    every = costs(table)
    # Only formats that the same, largest number of models survive: a mean without its worst models is no mean.
    every = [cost for cost in every if cost.models == max(other.models for other in every)]
    for budget in (3.5, 4.5, 5.5):
        fitting = [cost for cost in every if cost.effective <= budget]
        options = [(cost.nats[name], cost.format, name) for cost in fitting for name in cost.methods]
        if options and min(options) != last:
            last = min(options)
            found.append(f"{last[1]} by {words.method(last[2])} up to {budget:g} bits ({words.loss(last[0])} nats)")
    return [f"Lowest mean loss: {words.several(found)}."] if found else []


def of_laws(laws: Mapping[str, Any]) -> list[str]:
    """Return a line for each fit, one for each law that could not be fitted, and one for a law of very many fits."""
    lines = []
    for record in laws["laws"].values():
        if len(record["fits"]) > MANY:
            fitting = sum(fit["r2"] is not None and fit["r2"] > 0.0 for fit in record["fits"])
            lines.append(f"{record['title']}: {len(record['fits'])} fits, {fitting} of them better than a constant.")
            continue
        lines += [f"{record['title']}{label(record, fit['by'])}: {_said(fit)}." for fit in record["fits"]]
        if not record["fits"]:
            reasons = sorted({entry["reason"] for entry in record["not_fitted"]})
            lines.append(f"{record['title']}: not fitted ({'; '.join(reasons)}).")
    return lines


def label(record: Mapping[str, Any], by: Mapping[str, str]) -> str:
    """Return in brackets what tells a fit from the law's others; empty if it is the only one."""
    every = [entry["by"] for entry in (*record["fits"], *record["not_fitted"])]
    told = {name: value for name, value in by.items() if len({other.get(name) for other in every}) > 1}
    values = [words.method(value) if name == "method" else value for name, value in told.items()]
    return f" ({', '.join(values)})" if values else ""


def _said(fit: Mapping[str, Any]) -> str:
    """Return what the fit tells: the law's words or else the constants, what the data leave open, and how well it fits.

    A fit that is no better than a constant tells nothing, whatever its constants are.
    """
    r2 = "" if fit["r2"] is None else f"R² {_r2(fit['r2'])}, "
    quality = f"({r2}{words.plural(fit['n'], 'point')}, {words.plural(fit['df'], 'degree')} of freedom)"
    if fit["r2"] is None or fit["r2"] <= 0.0:
        return f"tells nothing, it fits no better than a constant {quality}"
    said = _constants(fit) if fit["plain"] is None else fit["plain"]
    return "; ".join(part for part in (said, _open(fit)) if part) + f" {quality}"


def _open(fit: Mapping[str, Any]) -> str:
    """Return which fitted constants the data do not determine; empty if they determine all."""
    names: dict[str, list[str]] = {}
    for constant in fit["constants"]:
        if not constant["held"] and not constant["determined"]:
            names.setdefault(constant["name"], []).append(constant["group"] or "")
    parts = [name + (f" of {words.several(groups)}" if groups[0] else "") for name, groups in names.items()]
    return f"not determined by the data: {words.several(parts)}" if parts else ""


def _r2(value: float) -> str:
    return "> 0.999" if 0.9995 <= value < 1.0 else f"{value:.3f}".replace("-", words.MINUS)


def _constants(fit: Mapping[str, Any]) -> str:
    parts: list[str] = []
    groups: dict[str, list[float]] = {}
    for constant in (c for c in fit["constants"] if c["determined"]):
        if constant["group"] is not None:
            groups.setdefault(constant["name"], []).append(constant["value"])
        elif constant["low"] is not None:
            low, high = words.number(constant["low"], 3), words.number(constant["high"], 3)
            parts.append(
                f"{constant['name']} = {words.number(constant['value'], 3)} ({fit['interval']:.0%}: {low} to {high})"
            )
        else:
            parts.append(f"{constant['name']} = {words.number(constant['value'], 3)}")
    for name, values in groups.items():
        low, high = words.number(min(values), 3), words.number(max(values), 3)
        parts.append(f"{name} = {low} to {high} over {len(values)} groups" if len(values) > 1 else f"{name} = {low}")
    return ", ".join(parts)


def broken(table: pd.DataFrame) -> list[str]:
    """Return a line if there are cells whose loss is not a finite number."""
    count = int((~table["finite"]).sum())
    verb = "has" if count == 1 else "have"
    return [f"{count} of {words.plural(len(table), 'cell')} {verb} no finite loss."] if count else []
