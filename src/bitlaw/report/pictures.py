"""The figures of the page as pictures: an SVG and a PNG of each, on a white ground."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitlaw.artifacts import replace_file
from bitlaw.report import figures, scales

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from bitlaw.report.charts import Figure

WIDTH = 560
"""Width of a picture's plot in points; the height is that of the chart in the page."""


def write(drawn: Iterable[Figure], folder: Path) -> list[Path]:
    """Write each of ``drawn`` to ``folder`` as ``<name>.svg`` and ``<name>.png``; return the files."""
    return [path for figure in drawn for path in _write(figure, folder)]


def _write(figure: Figure, folder: Path) -> Iterator[Path]:
    drawn = figures.svg(ready(figure))
    for ending, data in ((".svg", drawn.encode()), (".png", figures.png(drawn))):
        path = folder / f"{figure.name}{ending}"
        replace_file(path, data)
        yield path


def ready(figure: Figure) -> dict[str, Any]:
    """Return the figure's specification with a title, a width and the colours of a light page."""
    wide: Mapping[str, Any] = figure.specification
    title = {"text": figure.title, "anchor": "start"}
    return {**wide, "width": WIDTH, "title": title, "config": {**scales.theme(), "background": "white"}}
