"""The comparison of laws as Markdown: what each law gets wrong on what it did not see, and which to trust where."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from bitlaw.laws.situations import CELL, CURVES, SITUATIONS
from bitlaw.methods import METHODS
from bitlaw.report import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SHORT = {"family": "new family", "size": "larger models", "bits": "fewer bits", "kind": "new kind of format"}
WHERE = ("source", "text", "method", "granularity")


def markdown(comparison: Mapping[str, Any]) -> str:
    """Return the comparison of one table (``bitlaw.laws.compare.compare``) in Markdown; errors in nats per token."""
    parts = [comparison["rule"]]
    for group in comparison["groups"]:
        parts += [f"**{where(group['by'])}**, {words.plural(group['cells'], 'cell')}:", _laws(group)]
        if group["absent"]:
            parts.append(f"Not compared: {'; '.join(f'`{name}`, {why}' for name, why in group['absent'].items())}.")
    if comparison["groups"]:
        parts += ["Which law to trust where:", trust([comparison])]
    for entry in comparison["not_compared"]:
        parts.append(f"{where(entry['by'])}: not compared, {entry['reason']}.")
    return "\n\n".join(parts)


def digest(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """Return each law's error as a share of that of the same cell of other models: geometric means over all groups."""
    rows = []
    groups = [group for comparison in comparisons for group in comparison["groups"]]
    for name in sorted({name for group in groups for name in group["laws"]} - {CELL}):
        row = [name if name == CURVES else f"`{name}`"]
        for situation in SITUATIONS:
            shares = [
                group["laws"][name]["held_out"][situation]["mae"] / group["laws"][CELL]["held_out"][situation]["mae"]
                for group in groups
                if name in group["laws"] and _known(group["laws"][name], situation)
            ]
            mean = math.exp(sum(map(math.log, shares)) / len(shares)) if shares else None
            row.append(words.MISSING if mean is None else f"{mean:.2f} ({len(shares)})")
        rows.append(row)
    return table(("law", *(SHORT[situation] for situation in SITUATIONS)), rows)


def trust(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """Return the table that says which law to trust where, over all groups of ``comparisons``."""
    rows = []
    for group in (group for comparison in comparisons for group in comparison["groups"]):
        for entry in group["trust"]:
            other = words.MISSING if entry["next"] is None else f"{entry['next']} ({_error(entry['next_mae'])})"
            clear = {None: words.MISSING, True: "yes", False: "no"}[entry["clear"]]
            rows.append(
                (where(group["by"]), SITUATIONS[entry["situation"]], entry["best"], _error(entry["mae"]), other, clear)
            )
    return table(("cells", "asked for", "least error", "nats", "next", "clear"), rows)


def where(by: Mapping[str, str]) -> str:
    """Return in words what the cells of a group have in common."""
    said = [words.method(by[name]) if name == "method" else by[name] for name in WHERE if name in by]
    said += _settings(by)
    if by.get("mix", "none") != "none":
        said.append(f"mixed by {words.MIXED.get(by['mix'], by['mix'])}, {by.get('select', 'none')}")
    return ", ".join([*said, *([f"windows of {by['window']}"] if by.get("window", "<NA>") != "<NA>" else [])])


def _settings(by: Mapping[str, str]) -> list[str]:
    """Return the settings of a group's method that are not its defaults."""
    given = json.loads(by.get("settings", "{}"))
    known = METHODS[by["method"]].Settings().model_dump() if by.get("method") in METHODS else {}
    own = {name: value for name, value in given.items() if name not in known or known[name] != value}
    return [name if value is True else f"{name} {json.dumps(value)}" for name, value in own.items()]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _laws(group: Mapping[str, Any]) -> str:
    situations = [name for name in SITUATIONS if any(name in law["held_out"] for law in group["laws"].values())]
    least = {
        name: min((law["held_out"][name]["mae"] for law in group["laws"].values() if _known(law, name)), default=None)
        for name in situations
    }
    rows = []
    for name, law in group["laws"].items():
        fitted = "constants" in law
        inside = (
            [str(law["constants"]), _plain(law["r2"]), _whole(law["aic"]), _whole(law["bic"]), _error(law["mae"])]
            if fitted
            else [words.MISSING] * 5
        )
        rows.append([f"`{name}`" if fitted else name, *inside, *(_held(law, key, least[key]) for key in situations)])
    head = ("law", "constants", "R²", "AIC", "BIC", "fitted to", *(SHORT[name] for name in situations))
    return table(head, rows)


def _known(law: Mapping[str, Any], situation: str) -> bool:
    return situation in law["held_out"] and law["held_out"][situation]["mae"] is not None


def _held(law: Mapping[str, Any], situation: str, least: float | None) -> str:
    if not _known(law, situation):
        return "cannot say"
    value = law["held_out"][situation]["mae"]
    return f"**{_error(value)}**" if value == least else _error(value)


def _error(value: float) -> str:
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}"


def _plain(value: float | None) -> str:
    return words.MISSING if value is None else f"{value:.3f}".replace("-", words.MINUS)


def _whole(value: float | None) -> str:
    return words.MISSING if value is None else f"{value:.0f}".replace("-", words.MINUS)
