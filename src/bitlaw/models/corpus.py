"""Training text to tokens: a byte-level BPE tokenizer and one long array of its tokens."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bitlaw.artifacts import canonical, replace_file, sha256
from bitlaw.text.base import END_OF_TEXT

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from tokenizers import Tokenizer


def documents(paths: Sequence[Path]) -> Iterator[str]:
    """Yield the documents of the texts, in order; an end-of-text line separates two."""
    for path in paths:
        yield from filter(str.strip, path.read_text("utf-8").split(f"\n{END_OF_TEXT}\n"))


def train_tokenizer(paths: Sequence[Path], vocab_size: int, share: int) -> Tokenizer:
    """Return a byte-level BPE tokenizer (GPT-2's pre-tokenization) trained on every ``share``-th document.

    Token 0 is the end-of-text token, which also begins a sequence where a model wants one.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sample = (text for index, text in enumerate(documents(paths)) if index % share == 0)
    tokenizer.train_from_iterator(sample, trainer)
    return tokenizer


def tokenize(tokenizer: Tokenizer, paths: Sequence[Path]) -> npt.NDArray[np.uint16]:
    """Return the tokens of all documents, each followed by the end-of-text token; shape (tokens,), dtype uint16."""
    import numpy as np

    pieces: list[npt.NDArray[np.uint16]] = []
    batch: list[str] = []

    def flush() -> None:
        encodings = tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        pieces.extend(np.array([*encoding.ids, 0], dtype=np.uint16) for encoding in encodings)
        batch.clear()

    for text in documents(paths):
        batch.append(text)
        if len(batch) >= 512:
            flush()
    flush()
    return np.concatenate(pieces)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process is here: models that are trained at once need the same tokens, made once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        with suppress(OSError):  # a file system without locks: then the work may be done twice
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def prepare(
    paths: Sequence[Path], vocab_size: int, share: int, cache: Path
) -> tuple[Tokenizer, npt.NDArray[np.uint16]]:
    """Return the tokenizer and the tokens, kept in ``cache`` because all models of a recipe use the same.

    Args:
        paths: text files named by their hash, as ``bitlaw.text.store`` keeps them.
        vocab_size: of the tokenizer; at most 65,536, so that a token fits 16 bits.
        share: see ``train_tokenizer``.
        cache: a folder that may be deleted at any time.
    """
    import numpy as np
    from tokenizers import Tokenizer

    name = sha256(canonical([[path.stem for path in paths], vocab_size, share]).encode())[:32]
    tokenizer_file, token_file = cache / f"{name}.tokenizer.json", cache / f"{name}.tokens"
    with _alone(cache / f"{name}.lock"):
        if not token_file.is_file():
            tokenizer = train_tokenizer(paths, vocab_size, share)
            replace_file(tokenizer_file, tokenizer.to_str(pretty=False).encode())
            replace_file(token_file, tokenize(tokenizer, paths).tobytes())
    tokens = np.memmap(token_file, dtype=np.uint16, mode="r")
    return Tokenizer.from_file(str(tokenizer_file)), tokens
