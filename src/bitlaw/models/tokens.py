"""Text as tokens, with the place of every token in the UTF-8 bytes of the text."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bitlaw.errors import UserError
from bitlaw.models.load import cache_key, load_tokenizer, local_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


KEPT_TEXTS = 16
CHARS_PER_TOKEN = 8
"""More than most texts have: how much of a text is tokenized at first for a number of tokens."""


@dataclass(frozen=True)
class Tokens:
    """A tokenized text.

    Attributes:
        ids: (n,) int64, the token ids; no special token is added.
        ends: (n,) int64, where each token ends in the UTF-8 bytes of the text; never falls. Token ``i`` stands for
            the bytes from ``ends[i - 1]`` (0 for the first) to ``ends[i]``.
    """

    ids: torch.Tensor
    ends: torch.Tensor

    def __len__(self) -> int:
        return self.ids.shape[0]

    def n_bytes(self, first: int, last: int) -> int:
        """Return the bytes of the tokens ``first`` up to and without ``last``."""
        if last <= first:
            return 0
        return int(self.ends[last - 1]) - (int(self.ends[first - 1]) if first else 0)


_kept: dict[tuple[str, str, int | None], Tokens] = {}


def read_text(path: Path, sha256: str) -> str:
    """Return the UTF-8 text at ``path``, whose bytes must have the given SHA-256.

    Raises:
        UserError: another text than the spec says, not UTF-8, or nothing but blanks.
    """
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise UserError(
            f"the text has changed: its SHA-256 is {found[:12]}..., expected {sha256[:12]}...", place=str(path)
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8: {error}", place=str(path)) from None
    if not text.strip():
        raise UserError("the text is empty", place=str(path))
    return text


def encode(tokenizer: PreTrainedTokenizerBase, text: str, max_tokens: int | None = None) -> Tokens:
    """Return the first ``max_tokens`` tokens (null: all) of ``text``, without special tokens.

    Args:
        tokenizer: a fast tokenizer.
        text: any text; one that is all in one piece, not line by line.
        max_tokens: how many tokens to keep.
    """
    n_chars = len(text) if max_tokens is None else CHARS_PER_TOKEN * max_tokens
    while True:
        encoded = tokenizer(text[:n_chars], add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        # A long text is not read whole for a few tokens; one token more than is kept, as the last may have been cut.
        if n_chars >= len(text) or len(encoded["input_ids"]) > (max_tokens or 0):
            break
        n_chars *= 2
    ids = torch.tensor(encoded["input_ids"][:max_tokens], dtype=torch.int64)
    ends = torch.tensor([end for _, end in encoded["offset_mapping"][:max_tokens]], dtype=torch.int64)
    points = torch.frombuffer(bytearray(text.encode("utf-32-le")), dtype=torch.int32)
    widths = 1 + (points >= 0x80).long() + (points >= 0x800).long() + (points >= 0x10000).long()
    positions = torch.cat([torch.zeros(1, dtype=torch.int64), widths.cumsum(0)])
    # Byte-level tokenizers may cut blanks off an offset; a token never ends before the one before it.
    return Tokens(ids, positions[ends].cummax(0).values if len(ends) else ends)


def tokens_of(location: Mapping[str, Any], path: Path, sha256: str, max_tokens: int | None = None) -> Tokens:
    """Return ``encode`` of the text at ``path`` with the tokenizer of the model at ``location``; a few are kept.

    Raises:
        UserError: as ``read_text`` and ``load_tokenizer``.
    """
    key = (cache_key(local_folder(location)), sha256, max_tokens)
    if key not in _kept:
        while len(_kept) >= KEPT_TEXTS:
            _kept.pop(next(iter(_kept)))
        _kept[key] = encode(load_tokenizer(location), read_text(path, sha256), max_tokens)
    return _kept[key]


def check_fits(ids: torch.Tensor, model: Mapping[str, Any], length: int, what: str) -> None:
    """Check that a model can read tokens in pieces of ``length``.

    Args:
        ids: the tokens, int64, any shape.
        model: result of the model stage.
        length: tokens that the model reads at once.
        what: the name of the parameter that says so.

    Raises:
        UserError: longer than the model's context, or a token that the model does not have.
    """
    if model["context"] is not None and length > model["context"]:
        raise UserError(f"{what} is {length} tokens, but the model's context is {model['context']}")
    if ids.numel() and int(ids.max()) >= model["vocab_size"]:
        raise UserError(
            f"the tokenizer made token {int(ids.max())}, but the model has {model['vocab_size']}; "
            "it belongs to another model"
        )
