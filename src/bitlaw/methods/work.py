"""What a method may look at: a model's linears, and what is known of their inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bitlaw.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

    from bitlaw.methods.gptq_factor import Factor
    from bitlaw.models.linears import Linear


@dataclass(frozen=True, eq=False)
class Inputs:
    """What is known of a linear's inputs x; what a method did not ask for is ``None``.

    Attributes:
        hessian: ``2/n sum x x^T``, ``(in, in)`` float32; not to be changed.
        absmean: ``1/n sum |x|``, ``(in,)`` float32.
        factor: the Cholesky factor that GPTQ works with.
        energy: ``tr(W H W^T)`` of the linear's weights.
    """

    hessian: Tensor | None = None
    absmean: Tensor | None = None
    factor: Factor | None = None
    energy: float | None = None

    def to(self, device: torch.device) -> Inputs:
        """Return the same with all tensors on ``device``."""
        hessian = None if self.hessian is None else self.hessian.to(device)
        absmean = None if self.absmean is None else self.absmean.to(device)
        factor = None if self.factor is None else self.factor.to(device)
        return Inputs(hessian, absmean, factor, self.energy)


@dataclass(frozen=True, eq=False)
class Work:
    """A model to be quantized.

    Attributes:
        model: the model in float32, never changed for longer than a method's own ``with`` block.
        linears: its quantizable linears, in the order of the modules.
        inputs: returns what is known of a linear's inputs, by its name; it may read or unpack them anew at each call.
        groups: names of linears that get the same tensor, one tuple a tensor; empty without calibration.
        windows: ``(samples, length)`` int64 tokens; for methods that need windows.
    """

    model: PreTrainedModel
    linears: Sequence[Linear]
    inputs: Callable[[str], Inputs] = lambda name: Inputs()
    groups: Sequence[tuple[str, ...]] = ()
    windows: Tensor | None = None


def index_of(result: Mapping[str, Any], linear: str) -> int:
    """Return the number of the input that ``linear`` gets, by the ``result`` of a calibration or of its factors.

    Raises:
        UserError: no calibration sample reached the linear.
    """
    index: int | None = result["of"].get(linear)
    if index is None:
        raise UserError("no calibration sample reached this linear")
    return index


def groups_of(result: Mapping[str, Any], linears: Sequence[Linear]) -> tuple[tuple[str, ...], ...]:
    """Return ``Work.groups`` by the ``result`` of a calibration or of its factors."""
    groups: dict[int, list[str]] = {}
    for linear in linears:
        if linear.name in result["of"]:
            groups.setdefault(result["of"][linear.name], []).append(linear.name)
    return tuple(map(tuple, groups.values()))
