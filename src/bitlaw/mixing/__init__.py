"""Mixed precision: which linears of a model are quantized. Each module that assigns ``SELECT`` is one way to choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.plugins import Plugins

if TYPE_CHECKING:
    from bitlaw.mixing.base import Select

SELECTS: Plugins[Select] = Plugins("bitlaw.mixing", "SELECT", "selection")
