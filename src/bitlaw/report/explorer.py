"""The explorer: every cell by its bits against its loss, with controls, and a budget that moves what is recommended."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from bitlaw.report import figures, scales, words
from bitlaw.report.charts import block, without_legends
from bitlaw.report.html import legend, options
from bitlaw.table import UNQUANTIZED, element_kind, is_mixed

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

    from bitlaw.report.charts import Charts

ACCENT = "#d8577f"


@dataclass(frozen=True)
class View:
    """What the axes are.

    Attributes:
        title: of the figure.
        x: the column that a budget is of.
        y: the column that is to be small.
        x_title: of the axis; ``{}`` is the unit.
        y_title: of the axis.
        budget: words before the budget's number.
        loss: what ``y`` is, in words.
        log: whether ``x`` is on a logarithmic axis.
        log_y: whether ``y`` is.
        unquantized: whether unquantized models are among the cells.
    """

    title: str
    x: str
    y: str
    x_title: str
    y_title: str
    budget: str
    loss: str
    log: bool
    log_y: bool
    unquantized: bool


VIEWS = {
    "size": View(
        "Loss by the size of the whole model", "model_bits", "nll", "whole model, {}", "loss, nats per token",
        "The whole model takes at most", "loss", log=True, log_y=False, unquantized=True,
    ),
    "bits": View(
        "Added loss by bits per weight", "effective_bits", "delta_nll", "effective bits per weight",
        "added loss, nats per token", "A weight takes at most", "added loss", log=False, log_y=True, unquantized=False,
    ),
}  # fmt: skip


def section(table: pd.DataFrame, charts: Charts) -> str:
    """Return the HTML of the section.

    Args:
        table: the results table; cells without a finite loss are not among those to choose from.
        charts: where the figures go, one for each view.
    """
    unit, bits = unit_of(table)
    names = {}
    views: dict[str, Any] = {}
    for key, view in VIEWS.items():
        specification = without_legends(figures.specification(chart(table, key)))
        names[key] = charts.add("explorer", view.title, picture(table, key))
        about = {**asdict(view), "unit": unit if key == "size" else "bits", "per": bits if key == "size" else 1}
        kept = {name: value for name, value in specification.items() if name not in ("$schema", "config")}
        views[key] = {**about, "chart": kept}
    methods = sorted(str(name) for name in table["method"].unique())
    colors = scales.method_colors(methods)
    shapes = scales.kind_shapes(element_kind(table[table["format"] != UNQUANTIZED]))
    signs = [(name, scales.SHAPES[shape]) for name, shape in shapes.items() if len(shapes) > 1]
    return (
        '<section id="explorer"><h2>What a budget buys</h2><p class="soft">A point is a cell: a model in a format by a '
        "method. The ring is the cell with the least loss that the budget allows, the dashed line what each budget "
        "buys. Point at a cell for its numbers.</p>"
        f'<figure class="card"><h3>Bits against loss</h3>{_controls(table)}'
        '<div class="budget"><label for="budget" id="limit">Budget</label>'
        '<input type="range" id="budget" min="0" max="200" value="100" step="1"></div>'
        '<p class="pick" id="pick" aria-live="polite"></p>'
        f"{legend([(_method(name), colors[name]) for name in methods], signs)}"
        f'<div class="chart" data-own id="chart-explorer" data-figures="{escape(" ".join(names.values()))}" role="img" '
        f'aria-label="{escape(VIEWS["size"].title)}" style="min-height:440px"></div>'
        '<figcaption id="drawn"></figcaption>'
        f"{block('spec-explorer', {'views': views, 'most': scales.MOST_DRAWN})}</figure></section>"
    )


def unit_of(table: pd.DataFrame) -> tuple[str, int]:
    """Return the unit for sizes of the models of ``table``, and the bits in one."""
    largest = float(table["model_bits"].max())
    return ("GiB", 8 * 1024**3) if largest > 4 * 8 * 1024**3 else ("MiB", 8 * 1024**2)


def chart(table: pd.DataFrame, key: str) -> alt.LayerChart | alt.FacetChart:
    """Return the chart of a view, with no data but names for it, and for the ends of its axes.

    Args:
        table: the results table; its methods and kinds have colours and shapes.
        key: of ``VIEWS``.
    """
    import altair as alt

    view, (unit, _) = VIEWS[key], unit_of(table)
    named = f"datum.label == 'none' ? '{UNQUANTIZED}' : datum.label"
    titled = alt.Legend(orient="right", symbolOpacity=1, labelExpr=named)
    quantized = table[table["format"] != UNQUANTIZED]
    rows = table if view.unquantized else quantized
    x_scale, y_scale = _scale("left", "right", log=view.log), _scale("low", "high", log=view.log_y)
    x_axis, y_axis = _axis("left", "right", log=view.log), _axis("low", "high", log=view.log_y)
    x = alt.X("x:Q", title=view.x_title.format(unit), scale=x_scale, axis=x_axis)
    y = alt.Y("y:Q", title=view.y_title, scale=y_scale, axis=y_axis)
    shapes = _shapes(rows)
    tips = [
        *(alt.Tooltip(name, type="nominal") for name in ("model", "format", "method")),
        *([alt.Tooltip("mix", type="nominal", title="in the format")] if is_mixed(table).any() else []),
        *(
            alt.Tooltip(name, type="quantitative", title=title, format=".4~g")
            for name, title in (
                ("bits", "bits per weight"),
                ("size", f"whole model, {unit}"),
                ("nll", "loss, nats"),
                ("delta_nll", "added, nats"),
            )
        ),
    ]
    marks = (
        alt.Chart(alt.NamedData("cells"))
        .mark_point(filled=True, size=42, opacity=0.6, clip=True)
        .encode(
            x=x,
            y=y,
            color=alt.Color("method:N", scale=scales.methods(rows), legend=titled, title="method"),
            shape=alt.Shape("kind:N", scale=shapes, legend=titled, title="element"),
            tooltip=tips,
        )
    )
    step = alt.Chart(alt.NamedData("frontier")).mark_line(
        interpolate="step-after", clip=True, strokeWidth=1.4, strokeDash=[4, 3], color="#8a8f98"
    )
    rule = alt.Chart(alt.NamedData("budget")).mark_rule(color=ACCENT, strokeWidth=1.5)
    ring = alt.Chart(alt.NamedData("best")).mark_point(size=260, strokeWidth=3, color=ACCENT, filled=False)
    layers = alt.layer(rule.encode(x=x), step.encode(x=x, y=y), marks, ring.encode(x=x, y=y, tooltip=tips))
    return layers.properties(width="container", height=380)


def picture(table: pd.DataFrame, key: str) -> dict[str, Any]:
    """Return a view of the first evaluation with its data, as it is when no control was touched and no budget set."""
    view, (_, per) = VIEWS[key], unit_of(table)
    rows = table[(table["text"] == figures.texts(table)[0]) & table["finite"] & ~is_mixed(table)]
    rows = rows if view.unquantized else rows[rows["format"] != UNQUANTIZED]
    per = per if key == "size" else 1
    points = rows.assign(
        x=rows[view.x] / per, y=rows[view.y], kind=element_kind(rows), bits=rows["effective_bits"], size=0.0, mix=""
    )
    points = points.sort_values(["x", "y"], kind="stable")
    best = points[points["y"] < points["y"].cummin().shift(fill_value=float("inf"))]
    low, high = _span(points, view)
    if view.log_y:
        points, best = (part.assign(y=part["y"].clip(lower=low)) for part in (points, best))
    whole = figures.specification(chart(table, key))
    left, right = (1.0, 2.0) if points.empty else (float(points["x"].min()), float(points["x"].max()))
    left, right = (left / 1.12, right * 1.12) if view.log else (left - 0.3, right + 0.3)
    ends = {"left": left, "right": right, "low": low, "high": high}
    some = scales.evenly(points)
    columns = ["x", "y", "model", "format", "method", "kind"]
    sets = {"cells": some, "frontier": best, "budget": best.iloc[:0], "best": best.iloc[:0]}
    whole["params"] = [{"name": name, "value": value} for name, value in ends.items()]
    whole["datasets"] = {name: scales.plain(part[columns]).to_dict("records") for name, part in sets.items()}
    return whole


def _span(points: pd.DataFrame, view: View) -> tuple[float, float]:
    """Return which losses are drawn; the script of the page says the same for the cells that are chosen."""
    if not view.log_y:
        return figures.loss_domain(points)
    above = points.loc[points["y"] > 0, "y"]
    return (float(above.min()) / 1.5, float(above.max()) * 1.5) if len(above) else (0.1, 1.0)


def _scale(low: str, high: str, *, log: bool) -> alt.Scale:
    """Return a scale between two parameters."""
    import altair as alt

    ends = [{"expr": low}, {"expr": high}]
    if log:
        return alt.Scale(type="log", domain=ends, nice=False)
    return alt.Scale(domain=ends, nice=False, zero=False)


def _axis(low: str, high: str, *, log: bool) -> alt.Axis:
    """Return an axis between two parameters; a logarithmic one of several decades has its powers of ten alone."""
    import altair as alt

    decades = f"log({high} / {low}) / LN10"
    count = alt.ExprRef(expr=f"{decades} > 2 ? floor({decades}) : 10") if log else 6
    return alt.Axis(format="~g", tickCount=count, labelOverlap="greedy")


def _shapes(rows: pd.DataFrame) -> alt.Scale:
    """Return the shapes that the legend names, and a circle for unquantized models if there are any."""
    import altair as alt

    baselines = rows["format"] == UNQUANTIZED
    shapes = scales.kind_shapes(element_kind(rows[~baselines])) | ({"none": "circle"} if baselines.any() else {})
    return alt.Scale(domain=list(shapes), range=list(shapes.values()))


def _method(name: str) -> str:
    return UNQUANTIZED if name == "none" else words.method(name)


def _controls(table: pd.DataFrame) -> str:
    """Return the controls, those that leave nothing to choose left out."""
    quantized = table[table["format"] != UNQUANTIZED]
    methods = sorted(str(name) for name in quantized["method"].unique())
    kinds = sorted(str(name) for name in element_kind(quantized).unique())
    parts = [_select("view", "Show", [(key, view.title) for key, view in VIEWS.items()])]
    parts.append(_select("text", "Evaluation", [(name, name) for name in figures.texts(table)]))
    for name, title, every, values in (
        ("family", "Family", "every family", [(one, one) for one in figures.families(table)]),
        ("method", "Method", "every method", [(one, words.method(one)) for one in methods]),
        ("kind", "Element", "every element", [(one, one) for one in kinds]),
    ):
        parts.append(_select(name, title, [("", every), *values]) if len(values) > 1 else "")
    if is_mixed(table).any():
        parts.append('<label class="check"><input type="checkbox" name="mixed">with mixed precision</label>')
    return f'<div class="controls">{"".join(parts)}</div>'


def _select(name: str, title: str, values: list[tuple[str, str]]) -> str:
    return f'<label>{title}<select name="{name}">{options(values)}</select></label>' if len(values) > 1 else ""
