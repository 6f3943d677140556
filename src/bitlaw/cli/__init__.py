"""The command line: one file, one sub-command."""

from __future__ import annotations

from bitlaw.cli.base import Command
from bitlaw.plugins import Plugins

COMMANDS: Plugins[Command] = Plugins("bitlaw.cli", "COMMAND", "command")
