"""By curvature: linears whose error adds least to the loss by its second derivative are quantized first."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from bitlaw.mixing.base import Errors, Select, SelectSettings, SensitivitySelect

if TYPE_CHECKING:
    from torch import Generator, Tensor

BATCH_TOKENS = 4096
"""Tokens at a time. Fixed, so that sums are made in the same order everywhere."""


class CurvatureSettings(SelectSettings):
    """Settings.

    Attributes:
        draws: how often labels are drawn for each calibration sample.
        seed: of the labels.
    """

    draws: int = Field(default=4, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**63)


class Curvature(SensitivitySelect):
    """A linear costs half the quadratic form of the loss along its error, ``1/2 tr(dW^T F dW)``, in nats per token.

    F is the Fisher information, the Hessian of the loss without the part that the model's own errors make (Martens
    2020, *New insights on the natural gradient*, sections 5 and 9): it has no negative directions. Its quadratic form
    is the mean square of a gradient's product with dW, for labels drawn from the model's own predictions. One forward
    and one backward pass give it for all linears; by products with the Hessian each linear would take its own.
    """

    Settings = CurvatureSettings
    needs = "windows"

    def costs(self, errors: Errors, settings: CurvatureSettings) -> Mapping[str, float]:
        """Return the cost of each linear; see ``SensitivitySelect.costs``."""
        import torch

        assert errors.windows is not None
        chance = torch.Generator().manual_seed(settings.seed)
        change = {one.name: errors.quantized(one.name) - one.weight() for one in errors.linears}
        squares = torch.zeros(len(errors.linears), dtype=torch.float64)
        samples, length = errors.windows.shape
        for windows in errors.windows.split(max(1, BATCH_TOKENS // length)):
            for _ in range(settings.draws):
                slopes = _slopes(errors, change, windows, chance)
                squares += slopes.square().sum(dim=1)
        half = squares / (2 * settings.draws * samples * (length - 1))
        return {one.name: float(value) for one, value in zip(errors.linears, half, strict=True)}


def _slopes(errors: Errors, change: Mapping[str, Tensor], windows: Tensor, chance: Generator) -> Tensor:
    """Return by linear and window how the summed loss of labels drawn anew moves along ``change``, float64."""
    import torch
    from torch.nn.functional import cross_entropy

    # By name, for a model may ask its linears in another order than it lists them.
    outputs: dict[str, Tensor] = {}
    moves: dict[str, Tensor] = {}

    def note(name: str, module: object, args: tuple[Tensor, ...], output: Tensor) -> None:
        outputs[name] = output if output.requires_grad else output.requires_grad_()
        moves[name] = args[0].detach() @ change[name].T

    handles = [one.module.register_forward_hook(partial(note, one.name)) for one in errors.linears]
    try:
        with torch.enable_grad():
            logits = errors.model(input_ids=windows.to(errors.model.device), use_cache=False).logits[:, :-1].float()
    finally:
        for handle in handles:
            handle.remove()
    flat = logits.flatten(0, 1)
    labels = torch.multinomial(flat.detach().softmax(-1).cpu(), 1, generator=chance).squeeze(1)
    loss = cross_entropy(flat, labels.to(flat.device), reduction="sum")
    names = [one.name for one in errors.linears]
    slopes = torch.autograd.grad(loss, [outputs[name] for name in names])
    # Some models lay all tokens of a batch in one row of tokens before a linear.
    products = [(g * moves[name]).reshape(len(windows), -1) for name, g in zip(names, slopes, strict=True)]
    return torch.stack([product.sum(dim=1, dtype=torch.float64) for product in products]).cpu()


SELECT: Select = Curvature()
