"""The source text of CPython's own standard library: code with its comments and docstrings."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Literal

from bitlaw.errors import UserError
from bitlaw.text.base import END_OF_TEXT, TextSettings

# pydoc_data is the embedded evaluation text; the rest is not library text (tests) or not CPython's (site-packages).
_LEFT_OUT = {"pydoc_data", "test", "tests", "idle_test", "site-packages", "dist-packages", "lib2to3", "__pycache__"}


class StdlibSettings(TextSettings):
    """``text: stdlib``. The text is that of the running interpreter, so its hash differs between Python versions."""

    source: Literal["stdlib"] = "stdlib"
    origin: str = "Python sources of CPython's standard library without tests and pydoc_data; PSF License 2"


class Stdlib:
    """Every ``.py`` file of the standard library but tests and ``pydoc_data``, in the order of paths."""

    Settings = StdlibSettings
    remote = False

    def name(self, settings: StdlibSettings) -> str:
        """Return ``stdlib``."""
        return "stdlib"

    def read(self, settings: StdlibSettings, root: Path) -> str:
        """Return the files, separated by end-of-text lines. Raises ``UserError`` where Python ships no sources."""
        library = Path(sysconfig.get_path("stdlib"))
        files = [path for path in library.rglob("*.py") if not _LEFT_OUT.intersection(path.relative_to(library).parts)]
        texts = [path.read_text("utf-8", errors="ignore").strip() for path in sorted(files)]
        if not any(texts):
            raise UserError(f"this Python has no standard-library sources in {library}; use another text", place="text")
        return f"\n{END_OF_TEXT}\n".join(text for text in texts if text) + "\n"


CORPUS = Stdlib()
