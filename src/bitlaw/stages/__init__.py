"""The stages, one file each: files in, one file out. No stage imports another."""

from __future__ import annotations

from bitlaw.plugins import Plugins
from bitlaw.stage import Stage

STAGES: Plugins[Stage] = Plugins("bitlaw.stages", "STAGE", "stage")
