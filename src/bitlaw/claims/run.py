"""All claims on one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitlaw.claims import CLAIMS
from bitlaw.claims.rows import prepared

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

MOST_POINTS = 1000


def run(table: pd.DataFrame, seed: int, names: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """Return for each claim (all by default) what it says and what came out, as plain JSON values.

    A figure keeps at most ``MOST_POINTS`` points, evenly chosen; the statistic is that of all.

    Raises:
        UserError: a claim that is not known, or a table that no claim can be tested on.
    """
    rows = prepared(table)
    found = []
    for name in CLAIMS if names is None else names:
        claim = CLAIMS[name]
        outcome = claim.test(rows, seed).as_json()
        if outcome["figure"] is not None:
            points = outcome["figure"]["points"]
            step = -(-len(points) // MOST_POINTS)
            outcome["figure"]["points"] = list(points[:: max(1, step)])
        says = {"title": claim.title, "paper": claim.paper, "measure": claim.statistic, "rule": claim.rule}
        found.append({"name": name, **says, **outcome})
    return found
