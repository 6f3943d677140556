"""A model so small that its whole Hessian can be written down."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from bitlaw.landscape.surface import Surface, cut
from bitlaw.landscape.vectors import Weights
from bitlaw.models.linears import quantizable
from tiny import tiny_config, tiny_model

FIELDS = {
    "gpt2": {"n_layer": 1, "n_embd": 8, "n_head": 2, "n_inner": 8},
    "bloom": {"n_layer": 1, "hidden_size": 8, "n_head": 2},
    "llama": {"num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 8, "head_dim": 4},
}


def text(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 320, (n,), generator=torch.Generator().manual_seed(seed))


def surface_of(family: str, *, tokens: int = 96, window: int = 24, batch: int = 2, double: bool = True) -> Surface:
    """Return the surface of the two-layer model of ``tests/tiny.py``."""
    model = tiny_model(family).requires_grad_(False)
    return Surface(model.double() if double else model, cut(text(tokens), window), batch)


def smallest(family: str, *, spread: float = 0.3) -> Surface:
    """Return the surface, in float64, of a model with one block of width 8."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    config: Any = tiny_config(family)
    for name, value in FIELDS[family].items():
        setattr(config, name, value)
    model: Any = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(spread * torch.randn_like(parameter))
    return Surface(model.double(), cut(text(48), 16), 2)


def flat(weights: Weights) -> torch.Tensor:
    return torch.cat([w.reshape(-1) for w in weights.values()])


def unflat(vector: torch.Tensor, like: Weights) -> Weights:
    parts = vector.split([w.numel() for w in like.values()])
    return {name: part.reshape(w.shape) for (name, w), part in zip(like.items(), parts, strict=True)}


@cache
def exact(family: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return gradient and whole Hessian of ``smallest(family)``, row by row, of the loss that ``transformers`` returns.

    The model's own parameters are differentiated, with eager attention: of ``Surface`` only the text is used.
    """
    surface = smallest(family)
    model, linears = surface.model, quantizable(surface.model)
    model.set_attn_implementation("eager")
    parameters = [linear.parameter.requires_grad_() for linear in linears]

    def joined(parts: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return torch.cat([(g.T if li.transposed else g).reshape(-1) for li, g in zip(linears, parts, strict=True)])

    loss = model(surface.windows, labels=surface.windows, use_cache=False).loss
    gradient = joined(torch.autograd.grad(loss, parameters, create_graph=True))
    rows = [joined(torch.autograd.grad(g, parameters, retain_graph=True)) for g in gradient]
    return gradient.detach(), torch.stack(rows)
