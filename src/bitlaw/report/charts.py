"""The charts of a page: each has a name that is that of its element and of its pictures, and data of its own."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

from bitlaw.report import figures
from bitlaw.report.html import legend
from bitlaw.report.scales import SHAPES

Place = Callable[..., str]
"""``place(chart, title, caption="", bare=False)`` makes room for a chart in the page and returns the HTML.

Its legend is HTML there, which finds room on any screen; a ``bare`` chart has none, for its section has one for several
of them. Its picture has the chart's own.
"""

DIGITS = 6
"""Significant digits of a number in the data of a chart: more than a screen has points."""


@dataclass(frozen=True)
class Figure:
    """A chart of the page.

    Attributes:
        name: what its element (``chart-<name>``) and its pictures (``<name>.png``) are called.
        title: its heading, with that of its section where it says too little alone.
        specification: Vega-Lite, with its data and legends.
    """

    name: str
    title: str
    specification: Mapping[str, Any]


class Charts:
    """The charts of a page, in their order.

    Attributes:
        figures: them, by name.
    """

    def __init__(self) -> None:
        self.figures: dict[str, Figure] = {}

    def of(self, section: str, heading: str = "") -> Place:
        """Return what makes room for the charts of ``section``.

        Their names begin with it, and the titles of their pictures with ``heading``.
        """
        return partial(self._figure, section, heading)

    def add(self, section: str, title: str, specification: Mapping[str, Any], heading: str = "") -> str:
        """Take a chart up and return its name, which no other chart has."""
        stem = re.sub(r"[^a-z0-9]+", "-", f"{section} {title}".lower()).strip("-")
        name, number = stem, 1
        while name in self.figures:
            number += 1
            name = f"{stem}-{number}"
        self.figures[name] = Figure(name, f"{heading}: {title}" if heading else title, specification)
        return name

    def _figure(
        self, section: str, heading: str, chart: Any, title: str, caption: str = "", *, bare: bool = False
    ) -> str:
        specification = figures.specification(chart)
        name = self.add(section, title, specification, heading)
        explained = "" if bare else legend(*explanations(specification))
        specification = without_legends(specification)
        below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        # Room for the axis and a legend above, so that nothing moves when the chart is drawn.
        room = f"min-height:{int(specification.get('height', 200)) + 60}px"
        return (
            f'<figure class="card"><h3>{escape(title)}</h3>{explained}'
            f'<div class="chart" id="chart-{name}" role="img" aria-label="{escape(title)}" style="{room}">'
            f"</div>{below}{block(f'spec-{name}', packed_chart(specification))}</figure>"
        )


def explanations(specification: Mapping[str, Any]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return what the legends of a chart say: names with colours, and names with signs; one name alone says nothing."""
    named: dict[str, dict[str, str]] = {"color": {}, "shape": {}}
    for layer in (specification, *specification.get("layer", ())):
        for channel, found in named.items():
            scale = layer.get("encoding", {}).get(channel, {}).get("scale", {})
            found |= dict(zip(scale.get("domain", ()), scale.get("range", ()), strict=True))
    colors, shapes = (list(found.items()) if len(found) > 1 else [] for found in named.values())
    return colors, [(name, SHAPES[shape]) for name, shape in shapes]


def without_legends(specification: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of ``specification`` in which no encoding has a legend."""
    whole = {**specification}
    if "layer" in whole:
        whole["layer"] = [without_legends(layer) for layer in whole["layer"]]
    encoding = whole.get("encoding", {})
    whole["encoding"] = {
        name: {**channel, "legend": None} if name in ("color", "shape") and "field" in channel else channel
        for name, channel in encoding.items()
    }
    return whole


def packed_chart(specification: Mapping[str, Any]) -> dict[str, Any]:
    """Return a specification as the page holds it: its data in columns, without what the page has once for all."""
    # The address of the schema is for editors; here nothing is fetched.
    chart = {key: value for key, value in specification.items() if key not in ("$schema", "config", "datasets")}
    datasets = specification.get("datasets", {})
    return {**chart, "datasets": {name: packed(rows) for name, rows in sorted(datasets.items())}}


def packed(rows: Iterable[Mapping[str, Any]], digits: int = DIGITS) -> dict[str, Any]:
    """Return ``rows`` as columns, which take a fraction of the room.

    Args:
        rows: with equal names in each.
        digits: significant digits that numbers keep.

    Returns:
        ``n``, how many rows, and ``columns``: by name a list of values, or, where strings repeat, ``of`` (each string
        once) and ``at`` (the place in ``of`` for each row).
    """
    records = list(rows)
    names = list(records[0]) if records else []
    return {
        "n": len(records),
        "columns": {name: _column([record[name] for record in records], digits) for name in names},
    }


def _column(values: list[Any], digits: int) -> Any:
    if all(isinstance(value, str) for value in values):
        of = sorted(set(values))
        place = {value: at for at, value in enumerate(of)}
        return {"of": of, "at": [place[value] for value in values]}
    return [_short(value, digits) for value in values]


def _short(value: Any, digits: int) -> Any:
    """Return a float with so many significant digits, one that is whole as an integer; all else as it is."""
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def block(element: str, value: Any) -> str:
    """Return ``value`` as a script element of JSON that a script of the page reads when it needs it."""
    return f'<script type="application/json" id="{element}">{script_json(value)}</script>'


def script_json(value: Any) -> str:
    """Return ``value`` as JSON that cannot end the script element that it is in."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
