"""The files of a model folder: which ones determine the model, and what they say of its training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bitlaw.errors import UserError

WEIGHT_FILES = "*.safetensors"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
)
# Beside the weights and the vocabulary: what else changes tokens, shapes or the labels of a result.
_OTHER_FILES = (
    "config.json",
    "model.safetensors.index.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "recipe.json",
)


def model_files(folder: Path) -> list[Path]:
    """Return the files of ``folder`` that determine the model and its tokenizer, sorted by name."""
    named = [folder / name for name in (*_OTHER_FILES, *TOKENIZER_FILES)]
    return sorted([*(path for path in named if path.is_file()), *folder.glob(WEIGHT_FILES)])


def n_tokens(folder: Path) -> int | None:
    """Return the training tokens of the model in ``folder`` as its ``recipe.json`` says, or null without one.

    Raises:
        UserError: a ``recipe.json`` that is no JSON object or whose ``n_tokens`` is no whole number.
    """
    recipe = folder / "recipe.json"
    value = read_object(recipe).get("n_tokens") if recipe.is_file() else None
    if value is not None and not isinstance(value, int):
        raise UserError(f"n_tokens is {value!r}, not a whole number", place=str(recipe))
    return value


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in ``path``. Raises ``UserError`` if it holds something else."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"not JSON: {error}", place=str(path)) from None
    if not isinstance(value, dict):
        raise UserError("not a JSON object", place=str(path))
    return value
