"""Why two artifacts have different keys: the first difference, followed down to where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bitlaw.study.environment import split_code
from bitlaw.study.record import Record

ABSENT = "absent"
"""Stands for a value that only the other artifact has."""


@dataclass(frozen=True)
class Difference:
    """The first thing in which two artifacts differ.

    Attributes:
        what: ``spec``, ``code``, ``library``, ``stage`` or ``parents``.
        name: which one: ``text.sha256``, ``torch``, a role; empty for code and stage.
        values: of one and the other.
        records: the artifacts whose own difference it is: those compared, or two that they were made from.
        roles: the roles of the parents through which these were reached, from above.
    """

    what: str
    name: str
    values: tuple[Any, Any]
    records: tuple[Record, Record]
    roles: tuple[str, ...]


def first_difference(one: Record, other: Record, get: Callable[[str], Record | None]) -> Difference | None:
    """Return the first difference of two artifacts, or ``None`` if they are the same.

    An artifact's own parameters come first, then its code, then libraries that count, then its parents by role. A
    parent of which nothing is known, as its file is gone and no plan has it, ends the search.

    Args:
        one: an artifact.
        other: another one.
        get: returns the record of a key.
    """
    roles: list[str] = []
    while one.key != other.key:
        for what, name, values in _own(one, other):
            return Difference(what, name, values, (one, other), tuple(roles))
        role, keys = next(_parents(one, other))
        below = [get(key) if key != ABSENT else None for key in keys]
        if below[0] is None or below[1] is None:
            return Difference("parents", role, keys, (one, other), tuple(roles))
        one, other = below[0], below[1]
        roles.append(role)
    return None


def _own(one: Record, other: Record) -> Iterator[tuple[str, str, tuple[Any, Any]]]:
    if one.stage != other.stage:
        yield "stage", "", (one.stage, other.stage)
    for name, values in _leaves(one.spec, other.spec, ""):
        yield "spec", name, values
    (code, libraries), (other_code, other_libraries) = split_code(one.code), split_code(other.code)
    if code != other_code:
        yield "code", "", (code, other_code)
    for name, values in _leaves(libraries, other_libraries, ""):
        yield "library", name, values


def _leaves(one: Any, other: Any, name: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield the places at which two JSON values differ, the outermost that say it all."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in sorted({*one, *other}):
            yield from _leaves(one.get(key, ABSENT), other.get(key, ABSENT), f"{name}.{key}".lstrip("."))
    elif isinstance(one, list) and isinstance(other, list):
        for index in range(max(len(one), len(other))):
            left, right = (side[index] if index < len(side) else ABSENT for side in (one, other))
            yield from _leaves(left, right, f"{name}[{index}]")
    elif one != other or type(one) is not type(other):
        yield name, (one, other)


def _parents(one: Record, other: Record) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the parents in which two artifacts differ."""
    for role in sorted({*one.parents, *other.parents}):
        left, right = one.parents.get(role, []), other.parents.get(role, [])
        for index in range(max(len(left), len(right))):
            keys = (left[index] if index < len(left) else ABSENT, right[index] if index < len(right) else ABSENT)
            if keys[0] != keys[1]:
                yield role, keys
