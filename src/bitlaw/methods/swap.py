"""The weights of a cell, put into the model that is in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitlaw import held
from bitlaw.artifacts import read_header, read_tensors
from bitlaw.formats.grammar import parse
from bitlaw.held import Live
from bitlaw.methods.stored import stored_linears
from bitlaw.models.linears import Swap, swapped

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.held import Content
    from bitlaw.methods.stored import StoredLinear
    from bitlaw.models.linears import Linear

_last: list[tuple[Path, Content, dict[str, Tensor], dict[str, Any]]] = []
"""The weights that were read last from an artifact in memory: a cell is measured on several texts in a row."""


def read_linears(
    path: Path, linears: Sequence[Linear], only: Collection[str] | None = None
) -> tuple[dict[str, StoredLinear], dict[str, Any]]:
    """Return the linears that an artifact of the quantize stage holds, by name, and its result.

    Args:
        path: the artifact.
        linears: those of the model, on whose device they come.
        only: names of linears; others are left out.

    Raises:
        DamagedArtifactError: it is not whole.
    """
    tensors, result = read_tensors(path)
    if isinstance(tensors, Live):
        return {name: one for name, one in tensors.objects.items() if only is None or name in only}, result
    device = linears[0].parameter.device
    wanted = {
        name: tensor.to(device) for name, tensor in tensors.items() if only is None or name.rpartition("/")[0] in only
    }
    fmt = parse(read_header(path)["spec"]["format"])
    return stored_linears(wanted, fmt, {linear.name: linear.shape for linear in linears}), result


def read_weights(path: Path, linears: Sequence[Linear]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the weights that an artifact of the quantize stage holds, (out, in) float32, and what it says of itself.

    Args:
        path: the artifact.
        linears: those of the model, on whose device the weights come.

    Returns:
        The weights, and the artifact's result without its list of linears, with ``format``, ``method`` and
        ``settings``.

    Raises:
        DamagedArtifactError: it is not whole.
    """
    device, content = linears[0].parameter.device, held.get(path)
    if _last and content is not None and _last[0][:2] == (path, content):
        weights, about = _last[0][2:]
        if next(iter(weights.values())).device == device:
            return dict(weights), dict(about)
    stored, result = read_linears(path, linears)
    spec = read_header(path)["spec"]
    about = {name: value for name, value in result.items() if name != "linears"}
    about |= {name: spec[name] for name in ("format", "method", "settings")}
    weights = {name: one.weight().to(device) for name, one in stored.items()}
    _last[:] = [(path, content, dict(weights), dict(about))] if content is not None else []
    return weights, about


def read_swap(path: Path, linears: Sequence[Linear]) -> tuple[Swap, dict[str, Any]]:
    """Return what lets the model of ``linears`` compute with the weights in ``path``, and what these say of themselves.

    Raises:
        DamagedArtifactError: as ``read_weights``.
    """
    weights, about = read_weights(path, linears)
    return partial(swapped, linears, weights), about
