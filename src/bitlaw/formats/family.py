"""Kinds of formats whose names are ``<element>_<block>[_<option>...]``: how such names are made and read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final, Protocol

from bitlaw.formats.base import Format
from bitlaw.formats.elements import Element
from bitlaw.formats.layout import BLOCKS, Block


class Kind(Protocol):
    """A family of formats; each module of ``bitlaw.formats`` that assigns one to ``KIND`` adds one."""

    def names(self) -> Iterable[str]:
        """Return the canonical names of the family's formats."""
        ...

    def usual(self) -> Iterable[str]:
        """Return the name of each element's most usual format, for lists that people read."""
        ...

    def parse(self, name: str) -> Format | None:
        """Return the format that ``name`` names, or ``None`` if it is none of this family."""
        ...


def block_name(block: Block) -> str:
    """Return the part of a format's name that names ``block``: ``b64``, ``row``, ``none``."""
    return f"b{block}" if isinstance(block, int) else block


Options = Mapping[str, Any]
"""A choice that a name may make: values by the word that stands for them; the empty word is the default."""

SCALE_DTYPES: Final[Options] = {"": "float16", "sbf16": "bfloat16", "sf32": "float32"}
"""Storage types of a scale, 16 bits by default, as Dettmers and Zettlemoyer 2023."""

CENTERING: Final[Options] = {"": False, "centered": True}
"""Whether a block's mean is subtracted first."""


@dataclass(frozen=True)
class Family:
    """All formats of some elements, blocks and options.

    Attributes:
        elements: by name.
        make: ``make(element, block, *choices)`` returns a format's fields without its name.
        options: each may add one word to a name, in this order.
        blocks: their names for their values.
        aliases: further names of elements.
        usual_block: name of the most usual block.
    """

    elements: Mapping[str, Element]
    make: Callable[..., Mapping[str, Any]]
    options: Sequence[Options] = ()
    blocks: Mapping[str, Block] = field(default_factory=lambda: {block_name(block): block for block in BLOCKS})
    aliases: Mapping[str, str] = field(default_factory=dict)
    usual_block: str = "b64"

    def names(self) -> Iterable[str]:
        """See ``Kind.names``; the options' defaults first."""
        return [
            _join(element, block, *words)
            for words in product(*self.options)
            for element, block in product(self.elements, self.blocks)
        ]

    def usual(self) -> Iterable[str]:
        """See ``Kind.usual``."""
        return [
            _join(element, self.usual_block, *(_default(option) for option in self.options))
            for element in self.elements
        ]

    def parse(self, name: str) -> Format | None:
        """See ``Kind.parse``."""
        for head in (*self.elements, *self.aliases):
            if name.startswith(f"{head}_"):
                block, *words = name[len(head) + 1 :].split("_")
                if block in self.blocks and (chosen := self._choices(words)) is not None:
                    element = self.elements[self.aliases.get(head, head)]
                    canonical = _join(element.name, block, *(word for word, _ in chosen))
                    values = (value for _, value in chosen)
                    return Format(name=canonical, **self.make(element, self.blocks[block], *values))
        return None

    def _choices(self, words: list[str]) -> list[tuple[str, Any]] | None:
        """Return a word and its value for each option, or ``None`` if the words are none of the options' in order."""
        chosen, left = [], list(words)
        for option in self.options:
            word = left.pop(0) if left and left[0] and left[0] in option else ""
            if word not in option:
                return None
            chosen.append((word, option[word]))
        return None if left else chosen


def _default(option: Options) -> str:
    return next(iter(option))


def _join(*words: str) -> str:
    return "_".join(word for word in words if word)
