"""What all figures share: theme, colours, shapes, axes and tooltips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

METHODS = {"rtn": "#e07b39", "gptq": "#3b7dd8", "awq": "#2ea66f", "proxy": "#a361c7", "none": "#8a8f98"}
PALETTE = ("#3b7dd8", "#e07b39", "#2ea66f", "#a361c7", "#d4a017", "#d8577f", "#3aa6b9", "#8b6f4e", "#7f8fa6", "#6b8e23")
BITS = {2: "#c2410c", 3: "#e8912d", 4: "#2f9e6e", 5: "#2b8fc4", 6: "#4666c9", 7: "#6d4fc2", 8: "#8a3fb0", 16: "#7a828e"}
SHAPES = {"circle": "●", "diamond": "◆", "square": "■", "triangle-up": "▲", "cross": "✚", "triangle-down": "▼"}


def theme(dark: bool = False) -> dict[str, Any]:
    """Return the Vega-Lite configuration for a light or a dark page."""
    ink, soft, grid = ("#e6e8ec", "#a4abb6", "#2c323b") if dark else ("#1c2330", "#5b6472", "#e7e9ee")
    font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"
    axis = {"domainColor": grid, "tickColor": grid, "gridColor": grid, "labelColor": soft, "titleColor": soft}
    words_of = {"labelFontSize": 11, "titleFontSize": 11.5, "titleFontWeight": 500}
    return {
        "background": None if dark else "transparent",
        "font": font,
        "view": {"stroke": None},
        "axis": {**axis, **words_of, "titlePadding": 8, "labelPadding": 4},
        "legend": {
            "symbolBaseFillColor": soft,
            "symbolBaseStrokeColor": soft,
            "labelColor": soft,
            "titleColor": soft,
            **words_of,
            "symbolStrokeWidth": 2,
        },
        "header": {"labelColor": ink, "titleColor": soft, "labelFontSize": 12.5, "labelFontWeight": 600},
        "title": {"color": ink, "subtitleColor": soft, "anchor": "start", "fontSize": 15, "subtitleFontSize": 12},
        "text": {"color": soft},
    }


MOST_DRAWN = 2000
"""Points of a figure: more lie on each other, take seconds to draw, and say nothing new."""


def evenly(rows: pd.DataFrame, most: int = MOST_DRAWN) -> pd.DataFrame:
    """Return ``rows``, or so many that at most ``most`` are left, evenly chosen."""
    return rows.iloc[:: max(1, -(-len(rows) // most))]


def some_lines(rows: pd.DataFrame, most: int = MOST_DRAWN) -> pd.DataFrame:
    """Return ``rows``, or whole lines of them, evenly chosen by their name in ``line``, with about ``most`` rows."""
    names = sorted(rows["line"].unique())
    kept = set(names[:: max(1, -(-len(rows) // most))])
    return rows[rows["line"].isin(kept)]


def plain(rows: pd.DataFrame) -> pd.DataFrame:
    """Return ``rows`` with the plain dtypes that Altair writes without a guess."""
    kinds = {
        name: "float64" if str(kind) == "Int64" else object if str(kind) == "string" else kind
        for name, kind in rows.dtypes.items()
    }
    return rows.astype(kinds)


def method_colors(names: list[str]) -> dict[str, str]:
    """Return the colour of each method: its own if it has one, or else one that is left."""
    spare = iter(PALETTE[4:] * len(names))
    return {name: METHODS[name] if name in METHODS else next(spare) for name in names}


def methods(rows: pd.DataFrame) -> alt.Scale:
    """Return the scale that gives each method of ``rows`` its colour."""
    import altair as alt

    colors = method_colors(sorted(str(name) for name in rows["method"].unique()))
    return alt.Scale(domain=list(colors), range=list(colors.values()))


def named(names: list[str]) -> alt.Scale:
    """Return the scale that gives each of ``names`` a colour."""
    import altair as alt

    return alt.Scale(domain=names, range=[PALETTE[i % len(PALETTE)] for i in range(len(names))])


def kind_shapes(kinds: pd.Series[str]) -> dict[str, str]:
    """Return the shape of each kind of element, a key of ``SHAPES``."""
    names, shapes = sorted(str(kind) for kind in kinds.unique()), list(SHAPES)
    return {name: shapes[i % len(shapes)] for i, name in enumerate(names)}


def shapes(kinds: pd.Series[str]) -> alt.Scale:
    """Return the scale that gives each kind its shape."""
    import altair as alt

    shapes = kind_shapes(kinds)
    return alt.Scale(domain=list(shapes), range=list(shapes.values()))


def log_axis(low: float, high: float) -> alt.Axis:
    """Return an axis with a tick for each power of ten, or more where there are few."""
    import math

    import altair as alt

    span = math.log10(high / low)
    if span > 0.5:
        steps = (1.0,) if span > 2.0 else (1.0, 3.0) if span > 0.8 else (1.0, 2.0, 4.0, 7.0)
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [float(f"{step}e{d}") for d in decades for step in steps]
    else:  # so narrow that even steps do
        power = math.floor(math.log10((high - low) / 3.0))
        step = next(n for n in (5, 2, 1) if n * 10.0**power <= (high - low) / 3.0)
        ticks = [float(f"{n * step}e{power}") for n in range(1, math.floor(high / 10.0**power / step) + 1)]
    return alt.Axis(format="~g", values=[tick for tick in ticks if low <= tick <= high], labelOverlap="greedy")


def whole_numbers(low: float, high: float) -> alt.Axis:
    """Return an axis with a tick for each whole number, or with others if there are less than two of these."""
    import math

    import altair as alt

    ticks = list(range(math.ceil(low), math.floor(high) + 1))
    if len(ticks) < 2:
        return alt.Axis(format="~g", tickCount=5, labelFlush=False)
    return alt.Axis(format="d", labelFlush=False, values=ticks)


def counts() -> alt.Axis:
    """Return an axis for numbers of parameters or tokens."""
    import altair as alt

    return alt.Axis(format="~s", tickCount=5, labelOverlap="greedy", grid=False)


def tips(*names: str) -> list[alt.Tooltip]:
    """Return what a point says of itself: its columns ``names``."""
    import altair as alt

    numbers = ("effective_bits", "delta_nll", "nll", "MiB", "measured", "predicted")
    titles = {"effective_bits": "effective bits", "delta_nll": "added loss, nats", "nll": "loss, nats"}
    return [
        alt.Tooltip(name, type="quantitative", format=".4~g", title=titles.get(name, name))
        if name in numbers
        else alt.Tooltip(name, type="nominal", title=name)
        for name in names
    ]
