"""bitlaw: what does a language model lose in fewer bits, and could it have been known before?"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__: str
"""The version that is installed, from the tags of git."""

if not TYPE_CHECKING:  # for a type checker, a module with such a function has every name

    def __getattr__(name: str) -> str:
        """Look the version up when somebody asks: it takes milliseconds, which every command would pay."""
        if name != "__version__":
            raise AttributeError(f"module 'bitlaw' has no attribute '{name}'")
        from importlib import metadata

        try:
            return metadata.version("bitlaw")
        except metadata.PackageNotFoundError:
            return "0+unknown"  # the sources are on the path, and nothing is installed
