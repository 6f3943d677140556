"""Where models come from: one file, one kind of source."""

from __future__ import annotations

from bitlaw.models.sources.base import Source
from bitlaw.plugins import Plugins

SOURCES: Plugins[Source] = Plugins("bitlaw.models.sources", "SOURCE", "model source")
