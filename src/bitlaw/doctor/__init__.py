"""What a machine lacks: each module of ``checks`` that assigns ``CHECK`` looks at one thing, and says what to do."""

from __future__ import annotations

from bitlaw.doctor.base import Check, Finding
from bitlaw.plugins import Plugins

CHECKS: Plugins[Check] = Plugins("bitlaw.doctor.checks", "CHECK", "check")


def examine(root: str | None = None) -> list[Finding]:
    """Return what each check finds, in the order of their names. Takes seconds, and changes nothing.

    Args:
        root: the project folder; the nearest with a ``params.yaml`` if ``None``.
    """
    return [finding for name in CHECKS for finding in CHECKS[name](root)]
