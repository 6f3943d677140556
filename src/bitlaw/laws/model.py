"""A law on the rows of one problem: its unknowns as a vector, and what it predicts for them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bitlaw.laws.base import Constant, Law, Problem
from bitlaw.laws.solver import Setup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bitlaw.laws.base import Array


@dataclass(frozen=True)
class Slot:
    """One unknown of a problem: a constant, of one group where it has groups."""

    constant: Constant
    group: str | None


class Layout:
    """The unknowns of a problem as one vector, and back.

    Attributes:
        slots: what each unknown is.
        groups: names of the groups; one empty name if there are none.
        member: index of its group for each row.
        setup: bounds of the unknowns, logarithms where ``Constant.log``, and Huber's threshold.
    """

    def __init__(self, problem: Problem, threshold: float) -> None:
        import numpy as np

        self.problem = problem
        labels = problem.rows[problem.group].astype(str).tolist() if problem.group else [""] * len(problem.rows)
        self.groups = sorted(set(labels))
        self.member = np.array([self.groups.index(label) for label in labels])
        self.slots = [
            Slot(constant, group)
            for constant in problem.constants
            if constant.held is None
            for group in (self._free(constant) if constant.per_group else [None])
        ]
        bounds = np.array([_inner(s.constant, s.constant.bounds) for s in self.slots]).reshape(-1, 2)
        self.setup = Setup(bounds[:, 0], bounds[:, 1], threshold, self._blocks(self.member))

    def on(self, some: Any) -> Setup:
        """Return the setup for the rows ``some`` (indices) instead of all."""
        return replace(self.setup, blocks=self._blocks(self.member[some]))

    def _blocks(self, member: Any) -> tuple[tuple[Any, Any], ...]:
        """Return which unknowns belong to groups: of each constant a row has the one of its group."""
        import numpy as np

        found = []
        for constant in (c for c in self.problem.constants if c.per_group and c.held is None):
            slots = [i for i, slot in enumerate(self.slots) if slot.constant is constant]
            place = {self.slots[i].group: k for k, i in enumerate(slots)}
            own = np.array([place.get(group, -1) for group in self.groups])
            found.append((np.array(slots, dtype=int), own[member]))
        return tuple(found)

    def _free(self, constant: Constant) -> list[str]:
        """Return the groups whose value of ``constant`` is not known beforehand."""
        return [group for group in self.groups if group not in constant.fixed]

    def values(self, theta: Array, member: Any) -> dict[str, Array]:
        """Return each constant, (..., n) or (..., 1), for unknowns (..., p) and rows of the groups ``member`` (n,)."""
        import numpy as np

        values, at = {}, 0
        for constant in self.problem.constants:
            if constant.held is not None:
                values[constant.name] = np.full((*theta.shape[:-1], 1), constant.held)
                continue
            free = self._free(constant) if constant.per_group else [""]
            part = theta[..., at : at + len(free)]
            part = np.exp(part) if constant.log else part
            values[constant.name] = self._spread(constant, part, free)[..., member] if constant.per_group else part
            at += len(free)
        return values

    def _spread(self, constant: Constant, part: Array, free: list[str]) -> Array:
        """Return the values of all groups (..., groups), those that are fitted and those that are fixed."""
        import numpy as np

        if len(free) == len(self.groups):
            return part
        every = np.empty((*part.shape[:-1], len(self.groups)))
        for index, group in enumerate(self.groups):
            every[..., index] = part[..., free.index(group)] if group in free else constant.fixed[group]
        return every

    def candidates(self, count: int, rng: Any) -> Array:
        """Return ``count`` random points (count, p) of the starting ranges; groups start alike."""
        import numpy as np

        drawn = {c.name: rng.uniform(*_inner(c, c.start), size=count) for c in self.problem.constants}
        return np.stack([drawn[slot.constant.name] for slot in self.slots], axis=1)


def _inner(constant: Constant, limits: tuple[float, float]) -> tuple[float, float]:
    return (math.log(limits[0]), math.log(limits[1])) if constant.log else limits


class Model:
    """A law on the rows of one problem: log predictions for vectors of unknowns."""

    def __init__(self, law: Law, layout: Layout) -> None:
        import numpy as np

        rows = layout.problem.rows
        self.law, self.layout = law, layout
        self.inputs = {name: rows[name].to_numpy("float64") for name in law.inputs}
        self.target = np.log(rows[law.target].to_numpy("float64"))

    def log(self, theta: Array, inputs: Mapping[str, Array] | None = None, member: Any = None) -> Array:
        """Return log predictions (..., n) for unknowns (..., p), on the problem's rows or on other ``inputs``."""
        import numpy as np

        inputs = self.inputs if inputs is None else inputs
        member = self.layout.member if member is None else member
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            predicted = self.law.function(inputs, self.layout.values(theta, member))
        return np.log(np.nan_to_num(np.clip(predicted, 1e-300, 1e300), nan=1e300))

    def residuals(self, theta: Array, target: Array) -> Array:
        """Return log predicted - ``target`` (..., n)."""
        return self.log(theta) - target
