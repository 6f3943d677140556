"""A format for each linear of a model, for a budget: two formats, and which linears get the better one.

Where the project's study measured what each linear costs in nats (stage ``sensitivity``), linears are told apart by
that. Otherwise all that is known is what rounding to nearest does to their weights: a linear costs its weights times
the share of noise in them. The mean of that over all weights is the SQNR that the noise law predicts the loss from, so
the assignment with the least noise is the one that the law likes best. The noise itself, not as a share, tells less
(docs/advise.md): linears with large weights would count for more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bitlaw.advise import memory
from bitlaw.advise.alike import ALIKE
from bitlaw.advise.choices import READ
from bitlaw.advise.engine import PACKED, is_format
from bitlaw.artifacts import read_json
from bitlaw.errors import UserError
from bitlaw.formats import grammar
from bitlaw.mixing.choose import cheapest, frontier, steps
from bitlaw.predictor.features import features, format_db
from bitlaw.predictor.fitted import Asked, fit, queries, without
from bitlaw.table import UNQUANTIZED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from bitlaw.advise.advise import Advice
    from bitlaw.advise.question import Choice, Question
    from bitlaw.predictor.known import Known

SELECTS_IN_NATS = ("loss", "curvature")
"""Selections whose costs are nats per token, so that those of two formats compare; the better one first."""
MOST = 8
"""Formats that are tried with each other, at most: those with least noise at their size."""
WEIGHTS = "the share of noise in each linear's weights, rounded to nearest"
NORMAL = "noise of normal numbers: the weights are not on this machine or too large to read, so all linears count alike"


@dataclass(frozen=True)
class Linear:
    """A linear of the model: its name and its shape (out, in)."""

    name: str
    shape: tuple[int, int]

    @property
    def size(self) -> int:
        """How many weights it has."""
        return self.shape[0] * self.shape[1]


@dataclass(frozen=True)
class Assignment:
    """A format for each linear.

    Attributes:
        model: its name.
        low: the format of most linears.
        high: the better one; ``unquantized`` for 16 bits.
        method: the rounding method that the loss is predicted for.
        linears: format by linear, in the model's order.
        share: of the weights in ``low``.
        effective_bits: stored bits per quantizable weight.
        bytes: of weights, keys and values.
        noise_db: SQNR of the weights, the mean share of noise in dB.
        delta: predicted loss added in nats per token, and the ends of its interval.
        uniform: the best choice in one format.
        by: what the linears were told apart by.
    """

    model: str
    low: str
    high: str
    method: str
    linears: Mapping[str, str]
    share: float
    effective_bits: float
    bytes: float
    noise_db: float
    delta: tuple[float, float, float]
    uniform: Choice
    by: str

    def as_json(self) -> dict[str, Any]:
        """Return plain values; ``mix`` is the entry of a study's ``mixes`` with this share of these formats."""
        high = {} if self.high == UNQUANTIZED else {"high": self.high}
        mix = {"q_ratio": [round(self.share, 4)], "granularity": "matmul", "select": "loss", **high}
        return {
            "model": self.model,
            "low": self.low,
            "high": self.high,
            "method": self.method,
            "share": self.share,
            "effective_bits": self.effective_bits,
            "bytes": round(self.bytes),
            "noise_db": self.noise_db,
            **dict(zip(("delta_nll", "delta_low", "delta_high"), self.delta, strict=True)),
            "uniform_format": self.uniform.format,
            "uniform_delta_nll": self.uniform.delta_nll,
            "by": self.by,
            "mix": {**mix, "formats": [self.low], "methods": [self.method]},
            "linears": [{"linear": name, "format": fmt} for name, fmt in self.linears.items()],
        }


def assign(found: Advice, question: Question, results: Path | None = None) -> Assignment:
    """Return the best mix of two formats for the recommended model within the budget.

    Args:
        found: the advice; its best choice says the model and the method.
        question: what was asked, with a budget.
        results: the folder of a project's artifacts, whose study may have measured what each linear costs.

    Raises:
        UserError: no budget, a model whose linears are not known, an engine that unpacks weights, or no two formats.
    """
    best = _of_one_format(found)
    known = best.known
    if question.budget is None:
        raise UserError("a format for each linear is chosen for a memory; give --budget", place="--mixed")
    if not known.shapes or known.folder is None:
        raise UserError(f"the linears of '{known.name}' are not known; give its folder as --model", place="--mixed")
    linears, noise, by = _noise(known, _formats(question, best.method))
    bits = {name: [stored_bits(name, one) for one in linears] for name in noise}
    rest = question.budget - best.cache - (known.n_total - sum(one.size for one in linears)) * memory.HIGH / 8
    costs, measured_by = _measured(results, known, best.method, [one.name for one in linears], list(noise))
    low, high, taken = best_pair(linears, costs or noise, bits, 8 * rest)
    by = measured_by or by
    chosen = [low if at in taken else high for at in range(len(linears))]
    total = sum(bits[name][at] for at, name in enumerate(chosen))
    size = sum(one.size for one in linears)
    ratio = sum(noise[name][at] for at, name in enumerate(chosen)) / size
    noise_db = -10.0 * math.log10(ratio) if ratio > 0 else format_db(high)
    held = known.n_total * memory.HIGH / 8 - size * memory.HIGH / 8 + total / 8
    return Assignment(
        known.name, low, high, best.method, {one.name: name for one, name in zip(linears, chosen, strict=True)},
        sum(linears[at].size for at in taken) / size, total / size, held + best.cache, noise_db,
        _loss(found, question, best, low, total / size, noise_db), best, by,
    )  # fmt: skip


def _of_one_format(found: Advice) -> Choice:
    """Return the best choice in a format that bitlaw can mix."""
    one = next((one for one in found.ranked if is_format(one.format)), None)
    if one is None:
        raise UserError("nothing that fits is in a format of bitlaw, so there is nothing to mix", place="--mixed")
    return one


def _formats(question: Question, method: str) -> list[str]:
    """Return the packed formats that the engine loads and that have least noise at their size, the smallest first."""
    names = [name for name in question.formats or question.engine.names() if is_format(name)]
    names = [name for name in names if (way := question.engine.way(name, method)) and way.memory == PACKED]
    if not names:
        raise UserError(
            f"{question.engine.title} keeps no format of bitlaw packed, so a mix saves nothing", place="--mixed"
        )
    shape = (4096, 4096)
    by_bits = sorted(names, key=lambda name: (grammar.parse(name).effective_bits(shape), -format_db(name)))
    kept: list[str] = []
    for name in by_bits:
        if not kept or format_db(name) > format_db(kept[-1]) + 1.0:
            kept.append(name)
    every = max(1, -(-len(kept) // MOST))
    return kept[::every]


def _noise(known: Known, names: Sequence[str]) -> tuple[list[Linear], dict[str, list[float]], str]:
    """Return the linears, and by format what each costs: its weights times the share of noise in them."""
    assert known.folder is not None
    files = list(known.folder.glob("*.safetensors"))
    if files and sum(file.stat().st_size for file in files) <= READ:
        linears, noise = weight_costs(known.folder, names)
        by = WEIGHTS
    else:
        linears = [Linear(name, shape) for name, shape in _shapes(known)]
        noise = {name: [one.size * 10.0 ** (-format_db(name) / 10) for one in linears] for name in names}
        by = NORMAL
    return linears, {**noise, UNQUANTIZED: [0.0] * len(linears)}, by


def _measured(
    results: Path | None, known: Known, method: str, linears: Sequence[str], formats: Sequence[str]
) -> tuple[dict[str, list[float]], str]:
    """Return what each linear costs in nats in the formats that the project's study measured, and how; or nothing.

    Several artifacts for one format, of other texts or settings, do not compare, so that format is passed over.
    """
    for select in SELECTS_IN_NATS if results is not None else ():
        assert results is not None
        found: dict[str, list[float]] = {}
        for name in formats:
            folder = results / "sensitivity" / known.name / f"{name}-{method}-{select}"
            files = sorted(folder.glob("*.json"))
            costs = read_json(files[0])["costs"] if len(files) == 1 else {}
            if set(costs) == set(linears) and all(map(math.isfinite, costs.values())):
                found[name] = [float(costs[linear]) for linear in linears]
        if found:
            whole = {UNQUANTIZED: [0.0] * len(linears)}
            return {
                **found,
                **whole,
            }, f"what each linear adds to the loss by itself, as the study measured it ({select})"
    return {}, ""


def _shapes(known: Known) -> Iterator[tuple[str, tuple[int, int]]]:
    from bitlaw.models.linears import quantizable
    from bitlaw.models.load import skeleton

    model = skeleton({"pretrained": str(known.folder), "revision": None, "trust_remote_code": False})
    for one in quantizable(model):
        yield one.name, one.shape


def weight_costs(folder: Path, names: Sequence[str]) -> tuple[list[Linear], dict[str, list[float]]]:
    """Return the linears of the model in ``folder``, and by format what rounding each to nearest costs.

    A linear costs its weights times the share of noise in them: the sum of its squared errors over its mean square.

    Args:
        folder: the model's.
        names: of the formats.

    Raises:
        UserError: there is no model, or its weights cannot be read.
    """
    from bitlaw.models.linears import quantizable
    from bitlaw.models.load import load_model

    model = load_model({"pretrained": str(folder), "revision": None, "trust_remote_code": False})
    linears: list[Linear] = []
    costs: dict[str, list[float]] = {name: [] for name in names}
    for one in quantizable(model):
        weight = one.weight().contiguous()
        linears.append(Linear(one.name, one.shape))
        power = float(weight.double().square().mean())
        for name in names:
            error = grammar.parse(name).fake_quantize(weight) - weight
            costs[name].append(float(error.double().square().sum()) / power if power > 0 else 0.0)
    return linears, costs


def stored_bits(name: str, one: Linear) -> float:
    """Return the bits that a linear takes in a format, or in 16 bits if it is not quantized."""
    return float(memory.HIGH * one.size if name == UNQUANTIZED else grammar.parse(name).storage_bits(one.shape))


def best_pair(
    linears: Sequence[Linear], costs: Mapping[str, list[float]], bits: Mapping[str, list[float]], budget: float
) -> tuple[str, str, frozenset[int]]:
    """Return two formats and the places of the linears in the smaller one, at the least cost that fits.

    For two formats the linears that lose least by the smaller one are found exactly, as a knapsack over their sizes.

    Args:
        linears: of the model.
        costs: of each linear, by format.
        bits: that each linear takes, by format.
        budget: bits for all of them.

    Raises:
        UserError: no two formats fit.
    """
    names = sorted(costs, key=lambda name: sum(bits[name]))
    sizes = steps([one.size for one in linears])
    found: tuple[float, str, str, frozenset[int]] | None = None
    for at, low in enumerate(names):
        for high in names[at + 1 :]:
            if sum(bits[low]) > budget:
                continue
            gains = [a - b for a, b in zip(costs[low], costs[high], strict=True)]
            taken = _fewest(sizes, gains, bits[low], bits[high], budget)
            total = sum(costs[low if one in taken else high][one] for one in range(len(linears)))
            if found is None or total < found[0]:
                found = total, low, high, taken
    if found is None:
        raise UserError("no two formats fit the budget", place="--mixed")
    return found[1], found[2], found[3]


def _fewest(
    sizes: Sequence[int], costs: Sequence[float], low: Sequence[float], high: Sequence[float], budget: float
) -> frozenset[int]:
    """Return the linears to be in the smaller format: those of least cost that bring all within ``budget`` bits."""
    everything = frozenset(range(len(sizes)))
    sums = frontier(sizes, costs)
    first, last = 0, len(sums) - 1
    found = everything
    while first <= last:  # more weights in the smaller format never take more bits, but for rounding of the steps
        middle = (first + last) // 2
        taken = frozenset(cheapest(sizes, costs, sums[middle]))
        if sum(low[at] if at in taken else high[at] for at in everything) <= budget:
            found, last = taken, middle - 1
        else:
            first = middle + 1
    return found


def _loss(
    found: Advice, question: Question, best: Choice, low: str, bits: float, noise_db: float
) -> tuple[float, float, float]:
    """Return what the mix is predicted to add, from its SQNR and effective bits."""
    import numpy as np

    asked = Asked(best.known, grammar.parse(low), best.method, best.base_nll, best.base_spread)
    query = queries(found.cells, [asked], largest=0)
    # The profile and the bits of an element are those of one format, which a mix does not have.
    query = query.assign(noise_db=noise_db, effective_bits=bits, bits=round(bits), log_radial=math.nan)
    fitted = fit(found.cells, without(features(found.cells), query), {ALIKE.name: ALIKE}, question.seed)
    value, lowest, highest = fitted.intervals(query, np.array([best.base_spread]))
    return float(value[0]), float(lowest[0]), float(highest[0])
