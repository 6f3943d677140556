"""The weights of a mixed cell: some linears from one quantized model, the others from another or as they are."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitlaw.artifacts import read_header, read_json
from bitlaw.methods.swap import read_linears, read_swap
from bitlaw.models.linears import Swap, swapped

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.models.linears import Linear

UNTOUCHED_BITS = 16
"""Bits of a weight that no format holds."""


@dataclass
class _Sum:
    """What the figures of a mix are made from."""

    bits: int = 0
    kept: int = 0
    noise: float = 0.0
    finite: bool = True
    weights: dict[str, Tensor] = field(default_factory=dict)


def cell_swap(inputs: Mapping[str, tuple[Path, ...]], linears: Sequence[Linear]) -> tuple[Swap, dict[str, Any]]:
    """Return what lets the model of ``linears`` compute with a cell's weights, and what these say of themselves.

    Args:
        inputs: the files of the cell's parents, by role: ``quantized``, and ``mix`` for a mixed cell.
        linears: of the model as it is.

    Returns:
        The swap, and what ``read_swap`` says of an unmixed cell; of a mixed one what ``mixed`` says, with ``mix``: the
        spec of its mix.

    Raises:
        DamagedArtifactError: an artifact is not whole.
    """
    if not inputs.get("mix"):
        return read_swap(inputs["quantized"][0], linears)
    (mix,) = inputs["mix"]
    weights, about = mixed(linears, inputs["quantized"], read_json(mix)["low"])
    return partial(swapped, linears, weights), {**about, "mix": read_header(mix)["spec"]}


def mixed(
    linears: Sequence[Linear], quantized: Sequence[Path], low: Collection[str]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the weights that differ from the model's, ``(out, in)`` float32 by linear, and what is known of the mix.

    Args:
        linears: of the model as it is.
        quantized: artifacts of the quantize stage: the one that holds ``low``, and the one that holds the rest, if it
            is not to stay in 16 bits.
        low: names of the linears in the low format.

    Returns:
        Besides the weights ``effective_bits`` and ``sqnr_db`` over all linears, ``weights``, ``kept`` (how many of
        these are not in the low format), ``finite``, ``calibration``, and ``format``, ``method`` and ``settings`` of
        the low artifact; ``high``: the format of the rest, or null.
    """
    total = _Sum()
    names = {linear.name for linear in linears}
    heads = [read_header(path) for path in quantized]
    parts = [set(low), names - set(low)][: len(quantized)]
    energies = _energies(linears)
    abouts = [_add(total, linears, energies, *pair) for pair in zip(quantized, parts, strict=True)]
    total.kept = sum(abouts[0]["linears"][name]["kept"] for name in low)
    for linear in linears:
        size = math.prod(linear.shape)
        total.kept += 0 if linear.name in low else size
        total.bits += 0 if linear.name in total.weights else UNTOUCHED_BITS * size
    weights = sum(math.prod(linear.shape) for linear in linears)
    ratio = sum(energies.values()) / total.noise if total.noise else math.inf
    known = {name: heads[0]["spec"][name] for name in ("format", "method", "settings")}
    return total.weights, {
        "effective_bits": total.bits / weights,
        "sqnr_db": 10 * math.log10(ratio) if ratio else -math.inf,
        "weights": weights,
        "kept": total.kept,
        "finite": total.finite,
        "calibration": abouts[0]["calibration"],
        **known,
        "high": heads[1]["spec"]["format"] if len(heads) > 1 else None,
    }


def _add(
    total: _Sum, linears: Sequence[Linear], energies: Mapping[str, float], path: Path, chosen: Collection[str]
) -> dict[str, Any]:
    """Add the linears ``chosen`` of the artifact ``path`` to ``total``; return the artifact's result.

    The noise follows from each linear's SQNR, which the artifact has: the model may be in 16 bits here.
    """
    stored, result = read_linears(path, linears, chosen)
    for linear in linears:
        if linear.name in stored:
            one = stored[linear.name]
            about = result["linears"][linear.name]
            total.weights[linear.name] = one.weight()
            total.bits += one.storage_bits()
            total.noise += energies[linear.name] / 10 ** (about["sqnr_db"] / 10) if energies[linear.name] else 0.0
            total.finite = total.finite and about["finite"]
    return dict(result)


def _energies(linears: Sequence[Linear]) -> dict[str, float]:
    """Return the sum of squares of the weights of each linear, by name."""
    from bitlaw.methods.squares import SquareSums

    sums = SquareSums()
    for linear in linears:
        sums.add(linear.name, linear.weight(), linear.weight())
    return {name: found.signal for name, found in sums.found().items()}
