"""Names of formats: ``<element>_<block>[_<option>...]``, such as ``int4_b64``, ``mxint4_row`` or ``int8_none_sf32``.

Each kind reads and writes its own names; this module asks them all, so a new kind needs no change here.
"""

from __future__ import annotations

from functools import cache

from bitlaw.errors import unknown
from bitlaw.formats import FORMATS
from bitlaw.formats.base import Format


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


@cache
def _find(name: str) -> tuple[str, Format]:
    for kind in FORMATS:
        if (fmt := FORMATS[kind].parse(name)) is not None:
            return FORMATS.module(kind), fmt
    raise unknown("number format", name, known_names())
