"""The errors that a user can mend: one line that names the place, the fault and the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what the user wrote or has; shown as one line, never as a traceback (exit code 2).

    It is a ``ValueError`` so that pydantic validators can raise it and the loader can add the place.
    """

    def __init__(self, message: str, *, place: str | None = None) -> None:
        self.message = " ".join(message.split())
        self.place = place
        super().__init__(f"{place}: {self.message}" if place else self.message)


class DamagedArtifactError(UserError):
    """A stored artifact whose content does not match the checksum in its header."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the valid name nearest to ``name``, or a short list of the valid ones."""
    names = sorted(set(valid))
    folded = {each.casefold(): each for each in reversed(names)}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{folded[near[0]]}'?"
    if not names:
        return ""
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"; valid: {shown}"


def unknown(kind: str, name: str, valid: Iterable[str], *, place: str | None = None) -> UserError:
    """Return the error for a ``name`` that is no ``kind``, with the nearest valid name."""
    return UserError(f"unknown {kind} '{name}'{did_you_mean(name, valid)}", place=place)
