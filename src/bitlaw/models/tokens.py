"""Text as tokens, with the place of every token in the UTF-8 bytes of the text."""

from __future__ import annotations

import hashlib
import io
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import torch

from bitlaw.errors import UserError
from bitlaw.models.load import cache_key, load_tokenizer, local_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


KEPT_TEXTS, KEPT_FORMS = 16, 128
CHARS_PER_TOKEN = 8
"""More than most texts have: how much of a text is tokenized at first for a number of tokens."""

PIECE = 2**20
"""Characters that are read and tokenized at a time."""

OVERLAP = 2048
"""Characters that two pieces share at first."""

MARGIN = 256
"""Characters before the cut end of a piece whose tokens may be others in the whole text."""

RUN = 16
"""Tokens that two pieces must see alike, so that one can take over from the other."""


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

    def n_bytes(self, first: int | Sequence[int], last: int | Sequence[int]) -> int:
        """Return the bytes of the tokens ``first`` up to and without ``last``; of several stretches all together."""
        begins, ends = torch.as_tensor(first).reshape(-1), torch.as_tensor(last).reshape(-1)
        places = torch.cat([torch.zeros(1, dtype=torch.int64), self.ends])
        return int((places[ends] - places[torch.minimum(begins, ends)]).sum())


_kept: dict[tuple[str, str, int | None], Tokens] = {}
_forms: dict[str, str] = {}


def read_text(path: Path, sha256: str) -> str:
    """Return the UTF-8 text at ``path``, whose bytes must have the given SHA-256.

    Raises:
        UserError: another text than the spec says, not UTF-8, or nothing but blanks.
    """
    check_text(path, sha256)
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8: {error}", place=str(path)) from None
    if not text.strip():
        raise UserError("the text is empty", place=str(path))
    return text


def check_text(path: Path, sha256: str) -> None:
    """Check that the bytes at ``path`` have the given SHA-256; they are read in pieces.

    Raises:
        UserError: they have another one.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise UserError(
            f"the text has changed: its SHA-256 is {found[:12]}..., expected {sha256[:12]}...", place=str(path)
        )


def encode(tokenizer: PreTrainedTokenizerBase, text: str, max_tokens: int | None = None) -> Tokens:
    """Return the first ``max_tokens`` tokens (null: all) of ``text``; see ``encode_stream``."""
    return encode_stream(tokenizer, io.StringIO(text, newline=""), max_tokens)


def encode_stream(tokenizer: PreTrainedTokenizerBase, file: TextIO, max_tokens: int | None = None) -> Tokens:
    """Return the first ``max_tokens`` tokens (null: all) of a text, without special tokens.

    They are the tokens that the whole text has in one piece. It is read no further than they need, and tokenized in
    pieces that overlap: a piece takes over from the one before it where both see the same run of tokens.

    Args:
        tokenizer: a fast tokenizer.
        file: the text.
        max_tokens: how many tokens to keep.
    """
    size = PIECE if max_tokens is None else min(PIECE, CHARS_PER_TOKEN * max_tokens + 2 * MARGIN)
    piece = _Piece(tokenizer, file.read(size), 0, 0, more=size)
    ids, ends = array("i"), array("q")
    piece.move(0, ids, ends)
    while not piece.last and (max_tokens is None or len(ids) < max_tokens):
        read, overlap = file.read(PIECE), OVERLAP
        while (found := piece.followed_by(read, overlap)) is None:
            overlap *= 4
        again, dropped, piece = found
        del ids[len(ids) - dropped :], ends[len(ends) - dropped :]
        piece.move(again, ids, ends)
    # Byte-level tokenizers may cut blanks off an offset; a token never ends before the one before it.
    kept = _tensor(ends[:max_tokens], torch.int64)
    return Tokens(_tensor(ids[:max_tokens], torch.int32), kept.cummax(0).values if len(kept) else kept)


def _tensor(numbers: array[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.frombuffer(numbers, dtype=dtype).long() if numbers else torch.zeros(0, dtype=torch.int64)


class _Piece:
    """A tokenized stretch of a text.

    Attributes:
        last: whether the text ends with it.
        first: the first token that counts; those before it belong to the piece before.
        tokens: start, end (in characters of the whole text) and id of each token; those at a cut end are left out.

    Args:
        tokenizer: a fast tokenizer.
        text: the stretch.
        start: where it begins, in characters.
        start_byte: the same in bytes.
        more: how many characters were asked for; fewer mean that the text has ended.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, text: str, start: int, start_byte: int, *, more: int, read: int = -1
    ) -> None:
        self.tokenizer, self.text, self.start, self.start_byte = tokenizer, text, start, start_byte
        self.first = 0
        self.last = (len(text) if read < 0 else read) < more
        encoded: Any = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        sure = len(text) if self.last else len(text) - MARGIN
        count = next((n for n, (_, end) in enumerate(encoded["offset_mapping"]) if end > sure), None)
        self.tokens = [
            (start + first, start + end, token)
            for (first, end), token in zip(encoded["offset_mapping"][:count], encoded["input_ids"], strict=False)
        ]

    def move(self, first: int, ids: array[int], ends: array[int]) -> None:
        """Append the tokens from ``first`` on to ``ids`` and the bytes where they end to ``ends``."""
        self.first = first
        ids.extend(token for _, _, token in self.tokens[first:])
        places = torch.tensor([end - self.start for _, end, _ in self.tokens[first:]], dtype=torch.int64)
        ends.extend(self._places()[places].tolist())

    def followed_by(self, read: str, overlap: int) -> tuple[int, int, _Piece] | None:
        """Return the piece that goes on with ``read``, or None if the two share no run of tokens.

        Args:
            read: the text behind this piece.
            overlap: characters of this piece that the next one sees too.

        Returns:
            Its first token that counts, the number of tokens at this piece's end that it replaces, and the piece.
        """
        reach = self.tokens[-1][1] - self.start if self.tokens else 0
        at = max(0, reach - overlap)
        follower = _Piece(
            self.tokenizer, self.text[at:] + read, self.start + at, int(self._places()[at]), more=PIECE, read=len(read)
        )
        if at == 0:  # it has all of this piece
            return self.first, len(self.tokens) - self.first, follower
        seen = {token: place for place, token in enumerate(self.tokens) if place >= self.first}
        for again, token in enumerate(follower.tokens):
            place = seen.get(token)
            if place is None or place + RUN > len(self.tokens):
                continue
            if self.tokens[place : place + RUN] == follower.tokens[again : again + RUN]:
                return again, len(self.tokens) - place, follower
        return None

    def _places(self) -> torch.Tensor:
        """Return where each character of the piece begins in the bytes of the whole text, and where the last ends."""
        points = torch.frombuffer(bytearray(self.text.encode("utf-32-le")) or bytearray(4), dtype=torch.int32)
        widths = 1 + (points >= 0x80).long() + (points >= 0x800).long() + (points >= 0x10000).long()
        return torch.cat([torch.zeros(1, dtype=torch.int64), widths[: len(self.text)].cumsum(0)]) + self.start_byte


def _form(location: Mapping[str, Any]) -> str:
    """Return a text that says all that the tokenizer at ``location`` does, as a hash."""
    folder = cache_key(local_folder(location))
    if folder not in _forms:
        while len(_forms) >= KEPT_FORMS:
            _forms.pop(next(iter(_forms)))
        form: str = load_tokenizer(location).backend_tokenizer.to_str()
        _forms[folder] = hashlib.sha256(form.encode()).hexdigest()
    return _forms[folder]


def tokens_of(location: Mapping[str, Any], path: Path, sha256: str, max_tokens: int | None = None) -> Tokens:
    """Return ``encode_stream`` of the text at ``path`` with the tokenizer of the model at ``location``; a few are kept.

    Raises:
        UserError: another text than ``sha256`` says, not UTF-8, or as ``load_tokenizer``.
    """
    # By what the tokenizer does, for the models of a family mostly share one.
    key = (_form(location), sha256, max_tokens)
    if key not in _kept:
        while len(_kept) >= KEPT_TEXTS:
            _kept.pop(next(iter(_kept)))
        check_text(path, sha256)
        try:
            with path.open(encoding="utf-8", newline="") as file:
                _kept[key] = encode_stream(load_tokenizer(location), file, max_tokens)
        except UnicodeDecodeError as error:
            raise UserError(f"not UTF-8: {error}", place=str(path)) from None
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
