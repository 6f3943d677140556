"""Laws fitted to a table and compared on what they did not see, as the report shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitlaw.laws import LAWS
from bitlaw.laws.compare import compare
from bitlaw.laws.fit import fit

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd


def run(
    table: pd.DataFrame, settings: Mapping[str, Mapping[str, Any]], *, seed: int, bootstraps: int
) -> dict[str, Any]:
    """Return the record of every law: ``{"laws": {name: record}, "comparison", "seed", "bootstraps"}``.

    Args:
        table: a results table.
        settings: of each law, by its name; what is not there has its default.
        seed: of starts, resamples and draws.
        bootstraps: resamples behind an interval.

    Raises:
        UserError: a law is unknown, the table lacks what it needs, or no law may be fitted to it.
    """
    records = {}
    for name, own in sorted(settings.items()):
        law = LAWS[name]
        declared = {"title": law.title, "formula": law.formula, "source": law.source, "target": law.target}
        fitted = fit(law, table, law.settings(**own), seed=seed, bootstraps=bootstraps)
        records[name] = {**declared, "inputs": list(law.inputs), **fitted}
    comparison = compare(table, {name: LAWS[name] for name in records}, seed=seed)
    return {"laws": records, "comparison": comparison, "seed": seed, "bootstraps": bootstraps}
