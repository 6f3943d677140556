"""Advice: which model, format and method for a budget, from what was measured and what can be predicted."""

from __future__ import annotations

from dataclasses import replace

from bitlaw.advise.engine import Engine
from bitlaw.plugins import Plugins

ENGINES: Plugins[Engine] = Plugins("bitlaw.advise.engines", "ENGINE", "engine")


def engine(name: str) -> Engine:
    """Return the engine of that name, ``llama.cpp`` or ``llama_cpp`` say; one for any loads what the others load.

    Raises:
        UserError: there is none of that name.
    """
    own = ENGINES[name.replace(".", "_").replace("-", "_").lower()]
    if not own.every:
        return own
    others = (ENGINES[each] for each in ENGINES)
    return replace(own, loads=(*own.loads, *(load for one in others if not one.every for load in one.loads)))
