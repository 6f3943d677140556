"""Verdicts in words."""

from __future__ import annotations

from typing import Any


def interval(one: dict[str, Any]) -> str:
    """Return the statistic with its interval."""
    return f"{one['statistic']:.3g} ({one['low']:.3g} to {one['high']:.3g}), n = {one['n']:,}"


def markdown(found: list[dict[str, Any]]) -> str:
    """Return the verdicts as a Markdown table."""
    head = [
        "| claim | verdict | statistic | value, 95 % interval | holds if | what it rests on |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in found:
        value = "" if one["statistic"] is None else interval(one)
        cells = (
            f"{one['title']} ({one['paper']})",
            f"**{one['verdict']}**",
            one["measure"],
            value,
            one["rule"],
            one["why"],
        )
        head.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(head)
