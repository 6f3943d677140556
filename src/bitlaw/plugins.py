"""A registry that is a folder: one file, one entry.

``Plugins("bitlaw.methods", "METHOD", "method")`` finds every module of the package ``bitlaw.methods`` that
assigns ``METHOD`` at top level. An entry is imported when it is first asked for, so that listing names costs no
import, and the registry's own code never names an entry: adding one changes no other file and no other key.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.resources import files
from typing import Generic, TypeVar, cast

from bitlaw.errors import unknown

T = TypeVar("T")


class Plugins(Mapping[str, T], Generic[T]):
    """Entries of type ``T`` by name; the name of an entry is the name of its module.

    Args:
        package: dotted name of the folder.
        attribute: the top-level name that makes a module an entry, such as ``METHOD``.
        kind: what an entry is called in error messages.
    """

    def __init__(self, package: str, attribute: str, kind: str) -> None:
        self.package, self.attribute, self.kind = package, attribute, kind

    @cached_property
    def _modules(self) -> dict[str, str]:
        assigned = re.compile(rf"^{self.attribute}\b\s*(:[^=]+)?=", re.MULTILINE)
        return {
            path.name.removesuffix(".py"): f"{self.package}.{path.name.removesuffix('.py')}"
            for path in sorted(files(self.package).iterdir(), key=lambda path: path.name)
            if path.name.endswith(".py") and assigned.search(path.read_text("utf-8"))
        }

    def module(self, name: str) -> str:
        """Return the dotted name of the module that holds ``name``. Raises ``UserError`` for an unknown name."""
        if name not in self._modules:
            raise unknown(self.kind, name, self._modules)
        return self._modules[name]

    def __getitem__(self, name: str) -> T:
        return cast("T", getattr(importlib.import_module(self.module(name)), self.attribute))

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)
