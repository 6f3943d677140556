"""Scaling laws: closed forms with constants fitted to the results table. One file, one law."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.plugins import Plugins

if TYPE_CHECKING:
    from bitlaw.laws.base import Law

LAWS: Plugins[Law] = Plugins("bitlaw.laws", "LAW", "law")
