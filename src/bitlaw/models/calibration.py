"""Calibration: windows of text chosen by a seed, and the second moments of what each linear sees on them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bitlaw.errors import UserError
from bitlaw.models.linears import Linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Tokens at a time. Fixed, so that sums are made in the same order everywhere.
BATCH_TOKENS = 4096


def sample_windows(token_ids: torch.Tensor, samples: int, length: int, seed: int) -> torch.Tensor:
    """Return ``samples`` windows of ``length`` tokens, (samples, length) int64, at places chosen with ``seed``.

    The windows do not overlap if the text is long enough for that (every such choice is equally likely); otherwise
    each begins anywhere, independently of the others.

    Raises:
        UserError: the text is shorter than one window.
    """
    n = token_ids.shape[0]
    if n < length:
        raise UserError(f"the calibration text has {n} tokens; it takes {length} for one window")
    chance = random.Random(seed)
    free = n - samples * length
    if free >= 0:
        # Order `samples` windows and `free` single tokens by chance.
        places = sorted(chance.sample(range(free + samples), samples))
        starts = [place + i * (length - 1) for i, place in enumerate(places)]
        chance.shuffle(starts)
    else:
        starts = [chance.randrange(n - length + 1) for _ in range(samples)]
    return torch.stack([token_ids[start : start + length] for start in starts])


@torch.no_grad()
def hessians(
    model: PreTrainedModel, linears: Sequence[Linear], windows: torch.Tensor
) -> tuple[dict[str, int], list[torch.Tensor]]:
    """Return H = (2 / n) sum x x^T of the inputs x of each linear (Frantar et al. 2022, equation 1).

    Args:
        model: a causal language model in evaluation mode.
        linears: whose inputs to sum up.
        windows: (samples, length) int64 token ids.

    Returns:
        Which matrix belongs to each linear, by its name, and the matrices, (in, in) float32 on the CPU. Linears
        that get the same tensor (queries, keys and values) share a matrix. n counts the inputs of that matrix.

    Raises:
        UserError: a linear that no token reaches.
    """
    of = _shared_inputs(model, linears, windows[:1, : min(8, windows.shape[1])])
    leaders: dict[int, Linear] = {}
    for linear in linears:
        leaders.setdefault(of[linear.name], linear)
    device = model.device
    sums = [torch.zeros(leaders[i].shape[1], leaders[i].shape[1], device=device) for i in range(len(leaders))]
    counts = [0] * len(leaders)

    def add(index: int, x: torch.Tensor) -> None:
        rows = x.reshape(-1, x.shape[-1]).float()
        sums[index].addmm_(rows.T, rows)
        counts[index] += rows.shape[0]

    step = max(1, BATCH_TOKENS // windows.shape[1])
    _watch(
        {linear.module: partial(add, i) for i, linear in leaders.items()},
        lambda: [model(input_ids=ids.to(device), use_cache=False, logits_to_keep=1) for ids in windows.split(step)],
    )
    return of, [(total * (2.0 / count)).cpu() for total, count in zip(sums, counts, strict=True)]


def _shared_inputs(model: PreTrainedModel, linears: Sequence[Linear], ids: torch.Tensor) -> dict[str, int]:
    """Return a number for each linear, equal for linears that get the same tensor in a short trial run."""
    seen: dict[str, torch.Tensor] = {}
    versions: dict[str, int] = {}

    def keep(name: str, x: torch.Tensor) -> None:
        # Kept alive, so that no two inputs can lie at the same address one after the other.
        seen[name], versions[name] = x, x._version

    _watch(
        {linear.module: partial(keep, linear.name) for linear in linears},
        lambda: model(input_ids=ids.to(model.device), use_cache=False),
    )
    numbers: dict[tuple[object, ...], int] = {}
    of: dict[str, int] = {}
    for linear in linears:
        if linear.name not in seen:
            raise UserError(f"no calibration token reaches {linear.name}")
        x = seen[linear.name]
        place = (x.data_ptr(), tuple(x.shape), x.stride(), versions[linear.name])
        of[linear.name] = numbers.setdefault(place, len(numbers))
    return of


def _watch(watchers: dict[nn.Module, Callable[[torch.Tensor], None]], run: Callable[[], Any]) -> None:
    """Call ``run`` while each module's watcher sees the module's input."""
    handles = [
        module.register_forward_pre_hook(lambda _, args, watcher=watcher: watcher(args[0]))
        for module, watcher in watchers.items()
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
