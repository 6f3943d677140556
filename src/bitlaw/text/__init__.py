"""Text: what models are calibrated on, evaluated on and trained on. One file, one kind of source (``CORPUS``)."""

from __future__ import annotations

from bitlaw.plugins import Plugins
from bitlaw.text.base import Corpus

CORPORA: Plugins[Corpus] = Plugins("bitlaw.text", "CORPUS", "text source")
