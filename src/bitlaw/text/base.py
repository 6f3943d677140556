"""What a text source is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

END_OF_TEXT = "<|endoftext|>"
"""The line that separates documents in a text."""


class TextSettings(BaseModel):
    """Base of the settings of a text source.

    Attributes:
        source: name of the module in ``bitlaw.text``.
        origin: where the text comes from and its licence, for model cards; no part of any key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    origin: str = ""


class Corpus(Protocol):
    """A source of text. Each module in ``bitlaw.text`` that is one assigns it to ``CORPUS``.

    Attributes:
        Settings: pydantic model of what a study may say about it.
        remote: True if reading needs a network; the text is then kept under ``results/text`` and so shared by DVC.
    """

    Settings: type[TextSettings]
    remote: bool

    def name(self, settings: Any) -> str:
        """Return a short readable name for tables."""
        ...

    def read(self, settings: Any, root: Path) -> str:
        """Return the whole text. Raises ``UserError`` if it is missing, unreadable or empty.

        Args:
            settings: an instance of ``Settings``.
            root: the project folder; relative paths start there.
        """
        ...


@runtime_checkable
class Streamed(Protocol):
    """A ``Corpus`` that can be read without being held whole."""

    def pieces(self, settings: Any, root: Path) -> Iterator[str]:
        """Yield the text of ``Corpus.read`` in pieces. Raises ``UserError`` as that does, perhaps on the way."""
        ...
