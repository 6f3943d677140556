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
from bitlaw.models.tokens import CHARS_PER_TOKEN

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Tokens at a time. Fixed, so that sums are made in the same order everywhere.
BATCH_TOKENS = 4096
_MARGIN = 64


def sample_windows(tokenizer: PreTrainedTokenizerBase, text: str, samples: int, length: int, seed: int) -> torch.Tensor:
    """Return ``samples`` windows of ``length`` tokens, (samples, length) int64, at places chosen with ``seed``.

    The text is cut into as many equal stretches as there are samples, and a window begins at a word in each, anywhere
    with equal chance. Only the windows are tokenized, so the text may be as long as C4.

    Raises:
        UserError: the text is shorter than one window.
    """
    last = _last_start(tokenizer, text, length)
    chance = random.Random(seed)  # noqa: S311 (no secret)
    rows = []
    for i in range(samples):
        start = chance.randint(last * i // samples, last * (i + 1) // samples)
        rows.append(_tokens_from(tokenizer, text, _word_start(text, start), length))
    return torch.tensor(rows, dtype=torch.int64)


def _last_start(tokenizer: PreTrainedTokenizerBase, text: str, length: int) -> int:
    """Return a place after which the text still holds a window."""
    n_chars = CHARS_PER_TOKEN * length
    while (found := len(_ids(tokenizer, text[-n_chars:]))) < length + _MARGIN and n_chars < len(text):
        n_chars *= 2
    if found < length:
        raise UserError(f"the calibration text has {found} tokens; it takes {length} for one window")
    return max(0, len(text) - n_chars)


def _word_start(text: str, place: int) -> int:
    before = text[max(0, place - _MARGIN) : place]
    blank = max(before.rfind(" "), before.rfind("\n"))
    return place - len(before) + blank + 1 if blank >= 0 else place


def _tokens_from(tokenizer: PreTrainedTokenizerBase, text: str, start: int, length: int) -> list[int]:
    n_chars = CHARS_PER_TOKEN * length
    # One token more than is used: the last one may have been cut.
    while len(ids := _ids(tokenizer, text[start : start + n_chars])) <= length and start + n_chars < len(text):
        n_chars *= 2
    if len(ids) < length:
        raise UserError(
            f"the calibration text has {len(ids)} tokens after place {start}; it takes {length} for a window"
        )
    return ids[:length]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


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
