"""What a check is, and what it finds."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of the answer.

    Attributes:
        name: what was looked at.
        level: ``ok``; ``warn``: something does not work or is slower; ``fail``: nothing works.
        says: what was found.
        fix: what to do; empty if nothing is to be done.
    """

    name: str
    level: Level
    says: str
    fix: str = ""

    def as_json(self) -> dict[str, str]:
        """Return plain values."""
        return asdict(self)


Check = Callable[[str | None], list[Finding]]
"""Looks at one thing, given the project folder (``None``: the nearest)."""


def version(package: str) -> str | None:
    """Return the installed version of a package, or ``None`` if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def needed(package: str) -> str | None:
    """Return the least version of ``package`` that bitlaw asks for, in any extra; ``None`` if it does not say."""
    try:
        asked = metadata.requires("bitlaw") or []
    except metadata.PackageNotFoundError:
        return None
    for one in asked:
        if found := re.match(rf"{re.escape(package)}\s*>=\s*([\d.]+)", one):
            return found[1]
    return None


def is_older(installed: str, least: str) -> bool:
    """Return whether the version ``installed`` is below ``least``, by their numbers."""

    def numbers(text: str) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3]]

    ours, theirs = numbers(installed), numbers(least)
    length = max(len(ours), len(theirs))
    return ours + [0] * (length - len(ours)) < theirs + [0] * (length - len(theirs))


def package(name: str, level: Level, what: str, install: str) -> Finding:
    """Return what is to be said of a package: that it is there, too old, or not there.

    Args:
        name: of the package.
        level: if it is not there.
        what: what does not work without it.
        install: the command that installs it.
    """
    found, least = version(name), needed(name)
    if found is None:
        return Finding(name, level, f"not installed: {what}", install)
    if least is not None and is_older(found, least):
        return Finding(name, level, f"{found}, but {least} or newer is needed", install)
    return Finding(name, "ok", found)
