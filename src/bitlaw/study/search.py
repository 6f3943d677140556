"""The largest share of a model's weights that can be quantized within a given loss.

Cao et al. 2024 (arXiv 2410.06722v1, law 1) ask it of each model at a fixed loss budget: it grows with size. Here
it is found by bisection along an order of sensitivity. Each probe is an ordinary mixed cell with its key, so a search
that is repeated, or continued at another loss, makes nothing twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bitlaw.artifacts import read_json
from bitlaw.errors import UserError, unknown
from bitlaw.mixing.choose import frontier, steps
from bitlaw.mixing.units import unit_costs, units_of
from bitlaw.study.grid import expand
from bitlaw.study.make import make
from bitlaw.study.plan import order

if TYPE_CHECKING:
    from bitlaw.study.artifact import Artifact
    from bitlaw.study.load import Loaded


@dataclass(frozen=True)
class Probe:
    """One cell that was looked at.

    Attributes:
        share: of the quantizable weights in the format, as it was reached.
        nll: nats per token.
        delta_nll: ``nll`` minus that of the unquantized model.
        effective_bits: bits a quantizable weight takes.
        path: of the cell's artifact.
        meets: whether its loss is within what was asked.
    """

    share: float
    nll: float
    delta_nll: float
    effective_bits: float
    path: str
    meets: bool


def search(
    loaded: Loaded, model: str, mix: Any, *, nll: float = math.inf, delta_nll: float = math.inf
) -> Iterator[Probe]:
    """Yield the probes of a search, in the order in which they were made; the best that meets the loss is the answer.

    The shares that are tried are those along which the costs of the order only rise, so the losses should too; the
    first and the last are nothing and everything.

    Args:
        loaded: the study; its models, calibration and evaluation count.
        model: name of one of its models.
        mix: an entry of ``mixes`` with one format and one method, and a selection by cost; its shares do not count.
        nll: loss that is not to be exceeded, nats per token.
        delta_nll: loss added to the unquantized model that is not to be exceeded, nats per token.

    Raises:
        UserError: no such model, a selection by chance, an unquantized model whose loss is above ``nll`` already, or
            what a stage says.
    """
    probe = _Prober(loaded, model, mix, nll, delta_nll)
    nothing = probe.cell(0.0)
    yield nothing
    if not nothing.meets:
        raise UserError(f"the unquantized model's loss, {nothing.nll:.4f}, is above what is asked")
    whole = probe.cell(1.0)
    yield whole
    if whole.meets:
        return
    shares = probe.shares()
    low, high = 0, len(shares) - 1  # the first meets the loss, the last does not
    while high - low > 1:
        middle = (low + high) // 2
        found = probe.cell(shares[middle])
        yield found
        low, high = (middle, high) if found.meets else (low, middle)


class _Prober:
    """Makes the cells of one search."""

    def __init__(self, loaded: Loaded, model: str, mix: Any, nll: float, delta_nll: float) -> None:
        self._loaded, self._model, self._mix = loaded, model, mix
        self._limit, self._added = nll, delta_nll
        self._base = math.nan

    def shares(self) -> list[float]:
        """Return the shares to try, rising from 0 to 1."""
        artifacts = self._artifacts(0.5)
        mix = next(one for one in artifacts if one.stage == "mix")
        if "costs" not in mix.parents:
            raise UserError(f"a search goes along an order, and '{self._mix.select}' gives none", place="--select")
        costs = [self._result(mix.parents[role][0])["costs"] for role in ("costs", "high") if role in mix.parents]
        units = units_of(self._result(mix.parents["model"][0])["linears"], self._mix.granularity)
        sizes = steps([unit.weights for unit in units])
        sums = [total for total in frontier(sizes, unit_costs(units, *costs)) if 0 < total < sum(sizes)]
        return [0.0, *(total / sum(sizes) for total in sums), 1.0]

    def cell(self, share: float) -> Probe:
        """Return the cell with ``share`` of the weights in the format, made if it is not there."""
        cells = [one for one in self._artifacts(share or 0.5) if one.stage == "evaluate"]
        if share in (0.0, 1.0):
            mixed = [one for one in cells if "mix" not in one.parents]
            cell = next(one for one in mixed if ("quantized" in one.parents) == (share == 1.0))
        else:
            cell = next(one for one in cells if "mix" in one.parents)
        result = self._result(cell)
        quantized = result["quantized"]
        if share == 0.0:
            self._base = result["nll"]
        added = result["nll"] - self._base
        return Probe(
            share=1.0 - quantized["kept"] / quantized["weights"] if quantized else 0.0,
            nll=result["nll"],
            delta_nll=added,
            effective_bits=quantized["effective_bits"] if quantized else 16.0,
            path=cell.path,
            meets=result["nll"] <= self._limit and added <= self._added,
        )

    def _artifacts(self, share: float) -> list[Artifact]:
        """Return the artifacts of the model in a study of one format, one method and one mix."""
        share = share if share < 1.0 else 0.5  # no mix; the cells that have none are there in any case
        mix = self._mix.model_copy(update={"q_ratio": (share,)})
        only = {"formats": mix.formats, "methods": mix.methods, "mixes": (mix,), "laws": ()}
        grid = expand(replace(self._loaded, study=self._loaded.study.model_copy(update=only)))
        names = list(dict.fromkeys(one.label for one in grid.artifacts if one.stage == "model"))
        if self._model not in names:
            raise unknown("model", self._model, names, place="--model")
        return [one for one in grid.artifacts if one.label.split("/")[0] == self._model]

    def _result(self, artifact: Artifact) -> Any:
        _ensure(artifact, self._loaded)
        return read_json(self._loaded.root / artifact.path)


def _ensure(artifact: Artifact, loaded: Loaded, making: Callable[..., bool] = make) -> None:
    """Make ``artifact`` and what it is made from, where that is missing."""
    if (loaded.root / artifact.path).is_file():
        return
    for parents in artifact.parents.values():
        for parent in parents:
            _ensure(parent, loaded)
    making(order(artifact), loaded.root)
