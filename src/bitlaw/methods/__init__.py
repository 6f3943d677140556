"""Quantization methods: how weights are rounded to a format. Each module that assigns ``METHOD`` is one method."""

from __future__ import annotations

from bitlaw.methods.base import Method
from bitlaw.plugins import Plugins

METHODS: Plugins[Method] = Plugins("bitlaw.methods", "METHOD", "method")
