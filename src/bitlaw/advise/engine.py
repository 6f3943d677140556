"""What an engine is: a program that serves models, and the formats that it can load."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from bitlaw.errors import UserError
from bitlaw.formats import grammar

PACKED = "packed"
"""Weights stay in memory as they are in the file."""


@dataclass(frozen=True)
class Loads:
    """Formats that an engine loads in one way.

    Attributes:
        formats: their names, with braces as in a study; or names of its own that no format of bitlaw has.
        how: what computes with them there.
        source: where that is said.
        methods: methods whose weights it can hold; empty for all.
        memory: what a weight takes while serving: ``packed``, or a number of bits.
        rounds: what is rounded beside the weights, which no predicted loss knows of; empty for nothing.
        makes: how a checkpoint is made by another program than ``bitlaw export``, with ``{model}``, ``{format}`` and
            ``{FORMAT}`` (in capitals) to be put in; empty for that command.
    """

    formats: tuple[str, ...]
    how: str
    source: str
    methods: tuple[str, ...] = ()
    memory: str | float = PACKED
    rounds: str = ""
    makes: str = ""

    def names(self) -> tuple[str, ...]:
        """Return the names of the formats: canonical ones, and the engine's own as they stand."""
        return _names(self.formats)


@dataclass(frozen=True)
class Engine:
    """A program that serves models. Each module in ``bitlaw.advise.engines`` may assign one to ``ENGINE``.

    Attributes:
        title: what it is called.
        loads: what it loads; of several ways to load a format the first counts.
        every: whether it stands for any program: what others load is loaded too, and so is any format asked for.
    """

    title: str
    loads: tuple[Loads, ...]
    every: bool = False

    def way(self, name: str, method: str) -> Loads | None:
        """Return how weights in the format ``name`` by ``method`` are loaded, or ``None`` if they are not."""
        fitting = (one for one in self.loads if name in one.names() and (not one.methods or method in one.methods))
        return next(fitting, self.loads[0] if self.every and method != "gguf" else None)

    def names(self) -> list[str]:
        """Return the names of all formats that it loads, each once."""
        return list(dict.fromkeys(name for one in self.loads for name in one.names()))


@cache
def _names(formats: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(canonical(name) for text in formats for name in grammar.expand(text))


@cache
def is_format(name: str) -> bool:
    """Return whether bitlaw has a format of that name. It is kept: to say what is near a wrong name takes long."""
    try:
        grammar.parse(name)
    except UserError:
        return False
    return True


def canonical(name: str) -> str:
    """Return the canonical name of the format ``name``; ``name`` itself if bitlaw has no such format."""
    return str(grammar.parse(name)) if is_format(name) else name
