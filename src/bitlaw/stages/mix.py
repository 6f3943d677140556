"""A mix: which linears of a model are quantized to the low format of a cell, the others being left in a higher one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitlaw.artifacts import read_json, write_json
from bitlaw.mixing import SELECTS
from bitlaw.stage import Job, Stage


class MixStage:
    """``spec``: ``granularity``, ``q_ratio`` (the share to quantize), ``select``, ``settings``, ``trial``.

    ``settings`` have no number of trials, and ``trial`` is null for a selection without trials.

    Parents: ``model``; ``costs`` of the low format for a selection that needs them, and ``high``, those of the high
    format, if that is not 16 bits.

    Result: ``low`` (names of the linears to quantize), ``q_ratio`` (the share that they really hold), ``weights`` (all
    quantizable ones), ``units`` and ``low_units`` (how many there are to choose from, and were chosen), ``ways`` (sets
    of units that hold this share) and ``cost`` (summed over the chosen; null without costs).
    """

    suffix = ".json"

    def code(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the module of the selection."""
        return (SELECTS.module(spec["select"]),)

    def run(self, job: Job) -> None:
        """Write the mix.

        Raises:
            UserError: a cost that is not a finite number, or names of linears that say no block.
        """
        from bitlaw.mixing.choose import nearest, steps, ways
        from bitlaw.mixing.units import unit_costs, units_of

        spec = job.spec
        select = SELECTS[spec["select"]]
        units = units_of(read_json(job.one("model"))["linears"], spec["granularity"])
        known = [read_json(path)["costs"] for role in ("costs", "high") for path in job.inputs.get(role, ())]
        costs = unit_costs(units, *known) if known else []
        sizes = steps([unit.weights for unit in units])
        total = nearest(sizes, spec["q_ratio"])
        settings = select.Settings.model_validate(spec["settings"])
        chosen = select.choose(sizes, costs, total, settings, spec["trial"])
        weights = sum(unit.weights for unit in units)
        result = {
            "low": [name for i in chosen for name in units[i].linears],
            "q_ratio": sum(units[i].weights for i in chosen) / weights,
            "weights": weights,
            "units": len(units),
            "low_units": len(chosen),
            "ways": ways(sizes, total),
            "cost": sum(costs[i] for i in chosen) if costs else None,
        }
        write_json(job.out, job.header, result)


STAGE: Stage = MixStage()
