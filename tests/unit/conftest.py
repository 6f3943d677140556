"""Small random models with a tokenizer, in ordinary Hugging Face folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from a family to the folder of its small model; the folder is not to be written to."""
    folders: dict[str, Path] = {}

    def save(family: str) -> Path:
        if family not in folders:
            folders[family] = tmp_path_factory.mktemp(family) / f"tiny-{family}"
            tiny_model(family).save_pretrained(folders[family])
            tiny_tokenizer().save_pretrained(folders[family])
        return folders[family]

    return save
