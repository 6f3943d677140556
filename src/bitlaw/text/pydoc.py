"""The language-reference topics that ship inside CPython: real technical English that needs no download."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from bitlaw.text.base import TextSettings


class PydocSettings(TextSettings):
    """``text: pydoc``. The text is that of the running interpreter, so its hash differs between Python versions."""

    source: Literal["pydoc"] = "pydoc"


class Pydoc:
    """``pydoc_data.topics``, in the order of the topics' names."""

    Settings = PydocSettings
    remote = False

    def name(self, settings: PydocSettings) -> str:
        """Return ``pydoc``."""
        return "pydoc"

    def read(self, settings: PydocSettings, root: Path) -> str:
        """Return the topics, separated by two line ends."""
        from pydoc_data.topics import topics  # 0.5 MB of text: imported when it is asked for

        return "\n\n".join(topics[name].strip() for name in sorted(topics)) + "\n"


CORPUS = Pydoc()
