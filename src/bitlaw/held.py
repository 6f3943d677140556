"""Artifacts that this process holds in memory instead of in files, for as long as others are made from them.

Quantized weights are read back a few milliseconds after they were made, and never again once their cells are measured.
On a machine that makes tens of cells a second, packing, checksums and files would take longer than the cells. What is
held is what the file would give: tensors of the same values, which may lie on a GPU, and the result as JSON has it. A
stage may leave what its tensors are made from, as ``Live``, and readers in this process spare themselves the way there
and back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Live(Mapping[str, "Tensor"]):
    """The tensors of an artifact, of any shapes, by name; made when they are asked for.

    Attributes:
        objects: what they are made from, for readers who know it.
        size: how many numbers these hold.
        pack: makes them.
    """

    objects: Mapping[Any, Any]
    size: int
    pack: Callable[[], Mapping[str, Tensor]]

    @cached_property
    def _packed(self) -> Mapping[str, Tensor]:
        return self.pack()

    def __getitem__(self, name: str) -> Tensor:
        return self._packed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


@dataclass(frozen=True, eq=False)
class Content:
    """What an artifact of tensors holds.

    Attributes:
        tensors: by name; never to be written to.
        document: ``header`` and ``result``, as in the file, but without a checksum.
    """

    tensors: Mapping[str, Tensor]
    document: Mapping[str, Any]


MOST_LIVE: Final = 2**28
"""Numbers in all artifacts that are ``Live``: 1 GiB of float32, which is several times what they take packed."""

_expected: set[Path] = set()
_held: dict[Path, Content] = {}


def expect(path: Path) -> None:
    """Hold the artifact that will be written to ``path`` next."""
    _expected.add(path)


def stays_live(path: Path, size: int) -> bool:
    """Return whether an artifact of ``size`` numbers that is written to ``path`` next will be held, and may be live."""
    live = sum(one.tensors.size for one in _held.values() if isinstance(one.tensors, Live))
    return path in _expected and live + size <= MOST_LIVE


def take(path: Path, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> bool:
    """Hold what is written to ``path`` if it is expected, and return whether it is; ``tensors`` of any shapes."""
    if path not in _expected:
        return False
    _expected.discard(path)
    # By way of the text, so that a reader gets lists for tuples and texts for numbers as names, as from a file.
    _held[path] = Content(tensors, json.loads(json.dumps(document)))
    return True


def get(path: Path) -> Content | None:
    """Return what is held for ``path``, None if nothing is."""
    return _held.get(path)


def drop(path: Path) -> None:
    """Forget what is held or expected for ``path``; nothing may be."""
    _expected.discard(path)
    _held.pop(path, None)
