"""Advice: which model, format and method for a budget, from what was measured and what can be predicted."""

from __future__ import annotations

from dataclasses import replace

from bitlaw.advise.engine import Engine, is_format
from bitlaw.plugins import Plugins

ENGINES: Plugins[Engine] = Plugins("bitlaw.advise.engines", "ENGINE", "engine")


def engine(name: str) -> Engine:
    """Return the engine of that name, ``llama.cpp`` or ``llama_cpp`` say.

    The one that stands for any loads bitlaw's formats packed, and the formats that are the others' own.

    Raises:
        UserError: there is none of that name.
    """
    one = ENGINES[name.replace(".", "_").replace("-", "_").lower()]
    if not one.every:
        return one
    others = [load for each in ENGINES for load in ENGINES[each].loads]
    return replace(one, loads=(*one.loads, *(load for load in others if not any(map(is_format, load.names())))))
