"""Quantization methods: how weights are rounded to a format. Each module that assigns ``METHOD`` is one method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.plugins import Plugins

if TYPE_CHECKING:
    from bitlaw.methods.base import Method

METHODS: Plugins[Method] = Plugins("bitlaw.methods", "METHOD", "method")
