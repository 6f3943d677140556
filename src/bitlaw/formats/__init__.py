"""Number formats: how one block of weights is stored. Each module that assigns ``KIND`` is one kind of format."""

from __future__ import annotations

from bitlaw.formats.family import Kind
from bitlaw.plugins import Plugins

FORMATS: Plugins[Kind] = Plugins("bitlaw.formats", "KIND", "number format")
