"""The candidate models as they are named on the command line: folders, names, hub names, sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bitlaw.errors import UserError
from bitlaw.models import hub
from bitlaw.predictor.known import find, of_folder, size

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.predictor.known import Known

Configuration = Callable[[str], Path | None]


def candidate(text: str, table: pd.DataFrame, configuration: Configuration = hub.configuration) -> Known:
    """Return what is known of a candidate.

    A model of the table or of those that come with bitlaw is known by its name. Of another repository of the hub the
    configuration is asked for; without network its name must tell its size, and only what follows from that is said.

    Args:
        text: a folder, ``owner/name``, a name that tells a size, ``7b``, or any of them as ``NAME=SIZE``.
        table: the results that are learned from.
        configuration: gives the folder that holds the configuration of a repository, if it can be had.

    Raises:
        UserError: nothing tells its size.
    """
    name, told = text, None
    if "=" in text and not Path(text).exists():
        name, _, sized = text.rpartition("=")
        told = size(sized)
        if told is None:
            raise UserError(f"'{sized}' is no size; say 7b or 350m", place=f"--model {text}")
    if told is not None:
        return find(name, table, params=told)
    if Path(name).expanduser().is_dir() or not hub.is_name(name) or _is_listed(name, table):
        return _found(name, table)
    folder = configuration(name)
    if folder is not None:
        return of_folder(folder, name)
    known = _found(name, table)
    note = "the hub gives no configuration, so this is answered from the size in the name alone"
    return replace(known, notes=(note, *known.notes))


def _is_listed(name: str, table: pd.DataFrame) -> bool:
    """Return whether the table, or what comes with bitlaw, knows the model: then no network is asked."""
    try:
        known = find(name, table)
    except UserError:
        return False
    return not known.notes


def _found(name: str, table: pd.DataFrame) -> Known:
    try:
        return find(name, table)
    except UserError as error:
        if hub.is_name(name) and not Path(name).exists():
            raise UserError(
                "the hub gives no configuration and the name tells no size; say how large it is, as "
                f"--model {name}=7b, for memory and losses can be told from the size alone"
            ) from None
        raise UserError(
            f"{error.message.removesuffix('; add --params')}; say --model {name}=SIZE", place=error.place
        ) from None
