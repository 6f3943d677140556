"""Names of formats: ``<element>_<block>[_<option>...]``, such as ``int4_b64``, ``mxint4_row`` or ``int8_none_sf32``.

Each kind reads and writes its own names; this module asks them all, so a new kind needs no change here.
"""

from __future__ import annotations

import re
from functools import cache

from bitlaw.errors import UserError, unknown
from bitlaw.formats import FORMATS
from bitlaw.formats.base import Format


def expand(text: str) -> list[str]:
    """Return the names that ``text`` stands for: itself, or one for each way through its braces, as in a shell.

    ``mxint{2..4}_b{32,64}`` stands for six names; ``{2..4}`` is ``{2,3,4}``.

    Raises:
        UserError: for braces that do not pair.
    """
    head, brace, rest = text.partition("{")
    if not brace:
        if "}" in text:
            raise UserError(f"'{text}' closes a brace that it does not open")
        return [text]
    inside, brace, tail = rest.partition("}")
    if not brace or "{" in inside:
        raise UserError(f"'{text}' has braces that do not pair")
    return [head + choice + end for choice in _choices(inside) for end in expand(tail)]


def _choices(inside: str) -> list[str]:
    if numbers := re.fullmatch(r"(\d+)\.\.(\d+)", inside):
        first, last = (int(number) for number in numbers.groups())
        return [str(number) for number in range(first, last + 1)]
    return inside.split(",")


def parse(name: str) -> Format:
    """Return the format of that name; ``parse(str(fmt)) == fmt``.

    Raises:
        UserError: if no kind knows the name; it gives the nearest valid one.
    """
    return _find(name)[1]


def modules(name: str) -> tuple[str, ...]:
    """Return the dotted names of the modules whose code determines the values of the format ``name``.

    Raises:
        UserError: if no kind knows the name.
    """
    return (_find(name)[0],)


def known_names() -> list[str]:
    """Return the canonical names of all formats, kind by kind."""
    return [name for kind in FORMATS.values() for name in kind.names()]


def usual_names() -> list[str]:
    """Return the names of each element's most usual format, kind by kind."""
    return [name for kind in FORMATS.values() for name in kind.usual()]


@cache
def _find(name: str) -> tuple[str, Format]:
    for kind in FORMATS:
        if (fmt := FORMATS[kind].parse(name)) is not None:
            return FORMATS.module(kind), fmt
    raise unknown("number format", name, known_names())
