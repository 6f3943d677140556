"""Calibration: windows of text chosen by a seed, and the moments of what each linear sees on them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bitlaw.errors import UserError
from bitlaw.models.linears import Linear
from bitlaw.models.load import load_tokenizer
from bitlaw.models.tokens import CHARS_PER_TOKEN, check_fits, read_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Tokens at a time. Fixed, so that sums are made in the same order everywhere.
BATCH_TOKENS = 4096
_MARGIN = 64


def windows_of(
    location: Mapping[str, Any], text: Path, protocol: Mapping[str, Any], model: Mapping[str, Any]
) -> torch.Tensor:
    """Return the windows of a calibration, (samples, length) int64.

    Args:
        location: where the model is; see ``load_tokenizer``.
        text: the file of the text.
        protocol: ``{"text": {"sha256"}, "samples", "length", "seed"}``.
        model: result of the model stage.

    Raises:
        UserError: another text than the protocol says, one that is too short, or windows that the model cannot read.
    """
    whole = read_text(text, protocol["text"]["sha256"])
    windows = sample_windows(load_tokenizer(location), whole, protocol["samples"], protocol["length"], protocol["seed"])
    check_fits(windows, model, protocol["length"], "length")
    return windows


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


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of the inputs x of the linears that get them; n counts these inputs.

    Attributes:
        hessian: ``2/n sum x x^T`` (Frantar et al. 2022, equation 1), (in, in) float32, where the linears are.
        absmean: ``1/n sum |x|``, (in,) float32, likewise.
    """

    hessian: torch.Tensor
    absmean: torch.Tensor


def moments(
    model: PreTrainedModel, linears: Sequence[Linear], windows: torch.Tensor
) -> tuple[dict[str, int], list[Moments]]:
    """Return the moments of what each linear sees.

    Args:
        model: a causal language model in evaluation mode.
        linears: whose inputs to sum up.
        windows: (samples, length) int64 token ids.

    Returns:
        Which moments belong to each linear, by its name, and the moments. Linears that get the same tensor (queries,
        keys and values) share them.

    Raises:
        UserError: a linear that no token reaches.
    """

    def run(ids: torch.Tensor) -> Any:
        return model(input_ids=ids.to(model.device), use_cache=False, logits_to_keep=1)

    return moments_of(
        linears, partial(run, windows[:1, :8]), [partial(run, ids) for ids in batches(windows)], model.device
    )


def batches(windows: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return ``windows`` (n, length) cut along n into batches of about ``BATCH_TOKENS`` tokens."""
    parts: tuple[torch.Tensor, ...] = windows.split(max(1, BATCH_TOKENS // windows.shape[1]))
    return parts


@torch.no_grad()
def moments_of(
    linears: Sequence[Linear],
    trial: Callable[[], Any],
    runs: Iterable[Callable[[], Any]],
    device: torch.device | str = "cpu",
) -> tuple[dict[str, int], list[Moments]]:
    """Return the moments of what each linear sees while ``runs`` are called; see ``moments``.

    Args:
        linears: whose inputs to sum up.
        trial: a short run that shows which linears get the same tensor.
        runs: each runs the linears on some of the inputs.
        device: where the linears are.

    Raises:
        UserError: a linear that no token reaches.
    """
    of = _shared_inputs(linears, trial)
    leaders: dict[int, Linear] = {}
    for linear in linears:
        leaders.setdefault(of[linear.name], linear)
    widths = [leaders[i].shape[1] for i in range(len(leaders))]
    squares = [torch.zeros(width, width, device=device) for width in widths]
    sizes = [torch.zeros(width, dtype=torch.float64, device=device) for width in widths]
    counts = [0] * len(leaders)

    def add(index: int, x: torch.Tensor) -> None:
        rows = x.reshape(-1, x.shape[-1]).float()
        squares[index].addmm_(rows.T, rows)
        sizes[index] += rows.abs().sum(0)
        counts[index] += rows.shape[0]

    with _watched({linear.module: partial(add, i) for i, linear in leaders.items()}):
        for run in runs:
            run()
    return of, [
        Moments(square * (2.0 / count), (size / count).float())
        for square, size, count in zip(squares, sizes, counts, strict=True)
    ]


def _shared_inputs(linears: Sequence[Linear], trial: Callable[[], Any]) -> dict[str, int]:
    """Return a number for each linear, equal for linears that get the same tensor in a trial run."""
    seen: dict[str, torch.Tensor] = {}
    versions: dict[str, int] = {}

    def keep(name: str, x: torch.Tensor) -> None:
        # Kept alive, so that no two inputs can lie at the same address one after the other.
        seen[name], versions[name] = x, x._version

    with _watched({linear.module: partial(keep, linear.name) for linear in linears}):
        trial()
    numbers: dict[tuple[object, ...], int] = {}
    of: dict[str, int] = {}
    for linear in linears:
        if linear.name not in seen:
            raise UserError(f"no calibration token reaches {linear.name}")
        x = seen[linear.name]
        place = (x.data_ptr(), tuple(x.shape), x.stride(), versions[linear.name])
        of[linear.name] = numbers.setdefault(place, len(numbers))
    return of


@contextmanager
def _watched(watchers: dict[nn.Module, Callable[[torch.Tensor], None]]) -> Iterator[None]:
    """Show each module's input to its watcher inside the ``with`` block."""
    handles = [
        module.register_forward_pre_hook(lambda _, args, watcher=watcher: watcher(args[0]))
        for module, watcher in watchers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
