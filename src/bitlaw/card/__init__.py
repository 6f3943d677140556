"""The data card of a shipped study: numbers and figures made from its tables alone. One file, one section."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.plugins import Plugins

if TYPE_CHECKING:
    from bitlaw.card.base import Section

SECTIONS: Plugins[Section] = Plugins("bitlaw.card.sections", "SECTION", "section")
