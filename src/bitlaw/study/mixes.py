"""What the entries of ``mixes`` stand for, and what cannot be mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitlaw.errors import UserError
from bitlaw.formats import grammar
from bitlaw.methods import METHODS
from bitlaw.mixing import SELECTS

if TYPE_CHECKING:
    from bitlaw.study.load import Loaded
    from bitlaw.study.params import Study


def mixed_cells(study: Study, mix: Any) -> list[tuple[str, Any]]:
    """Return the formats and methods that an entry of ``mixes`` is tried with: its own, or else those of the study."""
    formats = study.formats if mix.formats is None else mix.formats
    methods = study.methods if mix.methods is None else mix.methods
    return [(fmt, entry) for fmt in formats for entry in methods]


def check_mixes(loaded: Loaded) -> None:
    """Raise ``UserError`` for an entry of ``mixes`` that cannot be, or whose cells another entry has.

    A method that quantizes a block on what the quantized blocks before it put out has no part that could stand beside
    unquantized ones: it would be fitted to inputs that it never gets.
    """
    seen: set[Any] = set()
    study = loaded.study
    for index, mix in enumerate(study.mixes):
        cells = mixed_cells(study, mix)
        if not cells:
            raise UserError(
                "nothing to mix: it takes a format and a method, say `formats: [int4_b64]` and `methods: [rtn]`",
                place=loaded.place("mixes", index),
            )
        for fmt, entry in cells:
            _check_pair(loaded, index, mix, fmt, entry)
        for cell in _cells(mix, cells):
            if cell in seen:
                raise UserError("some of its cells are those of an entry before it", place=loaded.place("mixes", index))
            seen.add(cell)


def _check_pair(loaded: Loaded, index: int, mix: Any, fmt: str, entry: Any) -> None:
    place = loaded.place("mixes", index)
    if METHODS[entry.name].needs(entry) == "windows":
        raise UserError(
            f"'{entry.name}' with sequential: true fits each block to the quantized ones before it, so no part of it "
            "can be mixed with unquantized ones; list other methods here under `methods:`",
            place=place,
        )
    for name in (fmt, mix.high):
        if name is not None:
            try:
                METHODS[entry.name].check(grammar.parse(name), entry)
            except UserError as error:
                raise UserError(error.message, place=place) from None
    if mix.high == fmt:
        raise UserError(f"'{fmt}' is both the format and the high one", place=place)


def _cells(mix: Any, cells: list[tuple[str, Any]]) -> list[Any]:
    """Return what tells each cell of an entry, trials apart, from all others."""
    own = SELECTS[mix.select].Settings.model_fields.keys() - {"trials"}
    settings = tuple((name, getattr(mix, name)) for name in sorted(own))
    kind = (mix.granularity, mix.select, settings, mix.high)
    return [(*kind, share, fmt, entry) for share in mix.q_ratio for fmt, entry in cells]
