"""The charts of a data card: lines with points, in panels, of a few hundred points, so that an SVG stays small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bitlaw.report import scales

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import altair as alt
    import pandas as pd

WIDTH, HEIGHT = 330, 230
STEP = 2.0
"""dB of SQNR that are drawn as one point, the mean or median of at least ``FEWEST`` cells."""
FEWEST = 5
_UNITS = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


@dataclass(frozen=True)
class Axis:
    """An axis: the column, its title, and whether it is logarithmic."""

    column: str
    title: str
    log: bool = False


@dataclass(frozen=True)
class Look:
    """How lines look.

    Attributes:
        color: column whose values have a colour each.
        title: of the legend.
        paint: colours by value; the palette's if not given.
        panel: column whose values have a panel each; one panel if ``None``.
        columns: panels side by side.
        line: column whose values have a line each, beside the colour.
        reverse: whether the horizontal axis falls.
        marks: ``both`` points and lines, or ``lines`` or ``points`` alone.
        dots: column that says of each row whether it is a point beside the lines, and not on one.
    """

    color: str
    title: str
    paint: Mapping[Any, str] | None = None
    panel: str | None = None
    columns: int = 2
    line: str | None = None
    reverse: bool = False
    marks: Literal["both", "lines", "points"] = "both"
    dots: str | None = None


def lines(rows: pd.DataFrame, x: Axis, y: Axis, look: Look, *, title: str, below: str = "") -> alt.TopLevelMixin:
    """Return ``rows`` as lines.

    Args:
        rows: a row a point.
        x: the horizontal axis.
        y: the vertical axis, the same in all panels.
        look: how the lines look.
        title: heading.
        below: what stands below the heading.
    """
    import altair as alt

    rows = scales.plain(rows)
    names = sorted(rows[look.color].unique(), key=_in_order)
    panels = sorted(rows[look.panel].unique(), key=_in_order) if look.panel else [None]
    own = [_panel(rows if name is None else rows[rows[look.panel] == name], rows, x, y, look, names) for name in panels]
    drawn = [
        one.properties(width=WIDTH, height=HEIGHT, **({"title": str(name)} if name is not None else {}))
        for one, name in zip(own, panels, strict=True)
    ]
    heading = alt.TitleParams(title, subtitle=below or alt.Undefined, offset=12)
    whole = alt.concat(*drawn, columns=look.columns, title=heading).configure(**scales.theme())
    figure: alt.TopLevelMixin = whole.properties(padding=12)
    return figure


def _panel(
    rows: pd.DataFrame, every: pd.DataFrame, x: Axis, y: Axis, look: Look, names: Sequence[Any]
) -> alt.LayerChart | alt.FacetChart:
    import altair as alt

    colors = [look.paint.get(name, "#7a828e") for name in names] if look.paint else scales.named(list(names)).range
    color = alt.Color(
        f"{look.color}:N",
        title=look.title,
        scale=alt.Scale(domain=list(names), range=colors),
        legend=alt.Legend(symbolOpacity=1, labelLimit=0),
    )
    detail = {"detail": f"{look.line}:N"} if look.line else {}
    across = alt.X(f"{x.column}:Q", title=x.title, scale=_scale(every, x, reverse=look.reverse), axis=_axis(every, x))
    up = alt.Y(f"{y.column}:Q", title=y.title, scale=_scale(every, y), axis=_axis(every, y))
    base = alt.Chart(rows).encode(x=across, color=color, **detail)
    alone = look.marks == "points"
    on, off = (base.transform_filter(f"{sign}datum.{look.dots}") if look.dots else base for sign in ("!", ""))
    layers: list[Any] = [] if alone else [on.mark_line(strokeWidth=1.7).encode(y=up)]
    if look.marks != "lines":
        layers.append(off.mark_circle(size=26 if alone else 30, opacity=0.5 if alone else 0.9).encode(y=up))
    return alt.layer(*layers)


def _ends(rows: pd.DataFrame, axis: Axis) -> tuple[float, float]:
    values = rows[axis.column].to_numpy("float64")
    low, high = float(values.min()), float(values.max())
    if axis.log:
        return low / 1.15, high * 1.15
    room = 0.04 * ((high - low) or 1.0)
    return low - room, high + room


def _scale(rows: pd.DataFrame, axis: Axis, *, reverse: bool = False) -> alt.Scale:
    import altair as alt

    more: dict[str, Any] = {"type": "log"} if axis.log else {"zero": False}
    return alt.Scale(domain=list(_ends(rows, axis)), nice=False, reverse=reverse, clamp=False, **more)


def _axis(rows: pd.DataFrame, axis: Axis) -> alt.Axis:
    import altair as alt

    if not axis.log:
        return alt.Axis(tickCount=6)
    low, high = _ends(rows, axis)
    if low >= 1000:
        return scales.counts()
    return scales.log_axis(low, high)


def _in_order(value: Any) -> tuple[float, str]:
    """Return what sorts numbers as numbers, also those of ``bitlaw.report.words.count``, and words as words.

    What stands behind a number, such as ``parameters``, is passed over.
    """
    head, unit, *_ = f"{value} ".split(" ")
    try:
        return float(head) * _UNITS.get(unit, 1.0), str(value)
    except ValueError:
        return float("inf"), str(value)
