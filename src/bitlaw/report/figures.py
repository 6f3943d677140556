"""The figures, as Altair charts. Equal tables give equal specifications: every name in them is chosen here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitlaw.report import scales, words
from bitlaw.series import series
from bitlaw.table import UNQUANTIZED, element_kind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import altair as alt
    import pandas as pd

MEASURED, FLOORED, BROKEN = "measured", "zero or below", "not finite"


def texts(table: pd.DataFrame) -> list[str]:
    """Return the labels of the evaluation texts of ``table``, sorted."""
    return sorted(str(text) for text in table["text"].unique())


def families(table: pd.DataFrame) -> list[str]:
    """Return the families of ``table``, sorted; models without one come last, as ``no family``."""
    named = sorted(str(name) for name in table["family"].dropna().unique())
    return named + (["no family"] if table["family"].isna().any() else [])


def joined(rows: pd.DataFrame, columns: list[str]) -> pd.Series[str]:
    """Return the values of ``columns`` in one string for each row: the name of the line that a point is on."""
    names = rows[columns].astype("string").fillna("")
    return names[columns[0]].str.cat(names[columns[1:]], sep="/").astype(object)


def loss_points(table: pd.DataFrame) -> pd.DataFrame:
    """Return the quantized rows as they are drawn on a logarithmic axis of ``delta_nll``.

    ``drawn`` is where a point is drawn, and ``state`` says why: values at or below zero lie on the lower edge, those
    that are not finite on the upper. ``rank`` grows with the size of the model within its family, from 0 to 1.
    """
    import numpy as np

    rows = table[table["format"] != UNQUANTIZED].copy()
    rows["family"] = rows["family"].fillna("no family")
    delta = rows["delta_nll"].to_numpy("float64")
    real = np.isfinite(delta) & rows["finite"].to_numpy(bool)
    positive = delta[real & (delta > 0)]
    low, high = (positive.min() / 1.5, positive.max() * 1.5) if len(positive) else (1e-3, 1.0)
    rows["state"] = np.select([~real, delta <= 0], [BROKEN, FLOORED], MEASURED)
    rows["drawn"] = np.select([~real, delta <= 0], [high, low], delta)
    rows["kind"] = element_kind(rows)
    sizes = rows.groupby("family")["n_params"]
    ranks = sizes.rank("dense").astype("float64")
    most = ranks.groupby(rows["family"]).transform("max")
    rows["rank"] = np.where(most > 1, (ranks - 1) / (most - 1).clip(lower=1), 1.0)
    rows["size"] = [words.count(n) for n in rows["n_params"]]
    rows["line"] = joined(rows, ["model", "method", "kind", "block", "settings", "window"])
    return rows.reset_index(drop=True)


def loss_panel(points: pd.DataFrame, family: str, *, legend: bool = False) -> alt.LayerChart | alt.FacetChart:
    """Return one family's loss added by quantization against effective bits: a line per model, method and block.

    Args:
        points: from ``loss_points``, all families: they share the axes.
        family: the family to draw.
        legend: whether the chart explains its own colours.
    """
    import altair as alt

    own = points[points["family"] == family]
    tips = ("model", "size", "format", "method", "effective_bits", "delta_nll")
    shown = [*tips, "kind", "drawn", "state", "rank", "line"]
    key = alt.Legend(orient="right") if legend else None
    bits = alt.Scale(
        domain=(float(points["effective_bits"].min()) - 0.2, float(points["effective_bits"].max()) + 0.2), nice=False
    )
    edge = (float(points["drawn"].min()) / 1.15, float(points["drawn"].max()) * 1.15)
    loss = alt.Scale(type="log", domain=edge, nice=False)
    base = alt.Chart(scales.plain(scales.some_lines(own[shown]))).encode(
        x=alt.X("effective_bits:Q", title="effective bits per weight", scale=bits),
        y=alt.Y("drawn:Q", title="added loss, nats per token", scale=loss, axis=scales.log_axis(*edge)),
        color=alt.Color("method:N", scale=scales.methods(points), legend=key, title="method"),
        opacity=alt.Opacity("rank:Q", scale=alt.Scale(domain=[0, 1], range=[0.35, 1]), legend=None),
        tooltip=scales.tips(*tips),
    )
    lines = base.mark_line(strokeWidth=1.8).encode(detail="line:N")
    marks = base.mark_point(filled=True, size=42).encode(
        shape=alt.Shape("kind:N", scale=scales.shapes(points["kind"]), legend=key, title="element")
    )
    lines, marks = (layer.transform_filter(f"datum.state == '{MEASURED}'") for layer in (lines, marks))
    odd = base.mark_text(fontSize=15, fontWeight="bold").encode(
        text=alt.condition(f"datum.state == '{BROKEN}'", alt.value("✕"), alt.value("▿")), opacity=alt.value(1)
    )
    layers = alt.layer(lines, marks, odd.transform_filter(f"datum.state != '{MEASURED}'"))
    return layers.properties(width="container", height=210)


def kind_panel(points: pd.DataFrame, kind: str, *, legend: bool = False) -> alt.LayerChart | alt.FacetChart:
    """Return the loss added by formats of one kind of element: a dot for each model, a line through the medians.

    Args:
        points: from ``loss_points``, all kinds: they share the axes.
        kind: the kind of element to draw.
        legend: whether the chart explains its own colours and shapes.
    """
    import altair as alt

    points = points.assign(
        method=[words.method(name) for name in points["method"]], scale=[words.block(name) for name in points["block"]]
    )
    methods = sorted(points["method"].unique())
    # Dots of methods stand side by side, not on each other.
    points["x"] = points["effective_bits"] + [
        0.1 * (methods.index(m) - (len(methods) - 1) / 2) for m in points["method"]
    ]
    own = points[points["kind"] == kind]
    key = alt.Legend(orient="right", symbolSize=80, symbolOpacity=1) if legend else None
    limits = (float(points["x"].min()) - 0.2, float(points["x"].max()) + 0.2)
    edge = (float(points["drawn"].min()) / 1.3, float(points["drawn"].max()) * 1.3)
    x = alt.X(
        "x:Q",
        title="effective bits per weight",
        scale=alt.Scale(domain=limits, nice=False),
        axis=scales.whole_numbers(*limits),
    )
    loss = alt.Scale(type="log", domain=edge, nice=False)
    y = alt.Y("drawn:Q", title="added loss, nats per token", scale=loss, axis=scales.log_axis(*edge))
    colors = scales.method_colors(sorted(points["method"].str.lower().unique()))
    paint = alt.Scale(domain=[words.method(name) for name in colors], range=list(colors.values()))
    color = alt.Color("method:N", scale=paint, legend=key, title="method")
    shape = alt.Shape("scale:N", scale=scales.shapes(points["scale"]), legend=key, title="scales")
    tips = ("model", "size", "format", "method", "effective_bits", "delta_nll")
    seen = own["state"] == MEASURED
    some = own[~seen | own.index.isin(scales.evenly(own[seen]).index)]
    each = alt.Chart(scales.plain(some[[*tips, "x", "drawn", "state"]])).encode(
        x=x, y=y, color=color, tooltip=scales.tips(*tips)
    )
    dots = each.mark_circle(size=22, opacity=0.4).transform_filter(f"datum.state == '{MEASURED}'")
    odd = each.mark_text(fontSize=13).encode(
        text=alt.condition(f"datum.state == '{BROKEN}'", alt.value("✕"), alt.value("▿"))
    )
    odd = odd.transform_filter(f"datum.state != '{MEASURED}'")
    by = ["method", "scale", "settings", "window", "format"]
    middle = own.groupby(by, sort=True).agg(x=("x", "mean"), drawn=("drawn", "median"), models=("model", "nunique"))
    middle = middle.reset_index().assign(line=lambda rows: joined(rows, by[:-1]))
    medians = alt.Chart(scales.plain(middle)).encode(x=x, y=y, color=color)
    lines = medians.mark_line(strokeWidth=2).encode(detail="line:N")
    said = [
        alt.Tooltip("format:N"),
        alt.Tooltip("method:N"),
        alt.Tooltip("models:Q"),
        alt.Tooltip("drawn:Q", title="median, nats", format=".4~g"),
    ]
    marks = medians.mark_point(filled=True, size=85, opacity=1, stroke="white", strokeWidth=1).encode(
        shape=shape, tooltip=said
    )
    return alt.layer(dots, odd, lines, marks).properties(width="container", height=260)


def kinds(points: pd.DataFrame) -> list[str]:
    """Return the kinds of elements in ``points``, sorted."""
    return sorted(str(kind) for kind in points["kind"].unique())


def main_figure(table: pd.DataFrame, text: str | None = None) -> alt.ConcatChart:
    """Return the loss added by quantization against effective bits, over all models: one panel per kind of element.

    Args:
        table: the results table; it has quantized rows.
        text: label of the evaluation text; the first of the table if ``None``.
    """
    import altair as alt

    text = texts(table)[0] if text is None else text
    points = loss_points(table[table["text"] == text])
    panels = [
        kind_panel(points, name, legend=True).properties(width=350, height=300, title=name) for name in kinds(points)
    ]
    count = points["model"].nunique()
    title = alt.TitleParams(
        "What quantization costs",
        subtitle=f"Loss that rounding adds to {words.plural(count, 'model')} on the text {text}: "
        "a small dot is a model, a line joins the medians; ▿ is zero or below",
        offset=14,
    )
    config = scales.theme()
    config["title"] |= {"fontSize": 15, "subtitleFontSize": 12.5, "subtitlePadding": 5}
    figure: alt.ConcatChart = alt.concat(*panels, columns=2, title=title).configure(**config)
    return figure.properties(padding=16)


def size_panel(table: pd.DataFrame, family: str, *, legend: bool = False) -> alt.LayerChart | alt.FacetChart:
    """Return one family's loss against total bits of the model: points by bits, and the frontier of the best.

    This is the trade-off of Dettmers & Zettlemoyer 2023: at a given size, fewer bits or fewer parameters?

    Args:
        table: the results table.
        family: the family to draw.
        legend: whether the chart explains its own colours.
    """
    import altair as alt

    rows = table[table["finite"] & (table["family"].fillna("no family") == family)].copy()
    rows["size"] = [words.count(n) for n in rows["n_params"]]
    rows["MiB"] = rows["model_bits"] / 8 / 1024**2
    rows["line"] = joined(rows.assign(series=series(rows)), ["series", "format", "method", "settings"])
    own = rows.sort_values(["model_bits", "nll"], kind="stable")
    shown = ["model", "size", "format", "method", "bits", "MiB", "nll", "line"]
    axis = scales.log_axis(float(own["MiB"].min()) / 1.1, float(own["MiB"].max()) * 1.1) if len(own) else alt.Axis()
    x = alt.X("MiB:Q", title="whole model, MiB", scale=alt.Scale(type="log", nice=False, padding=12), axis=axis)
    y = alt.Y("nll:Q", title="loss, nats per token", scale=alt.Scale(domain=loss_domain(own), nice=False))
    present = sorted(int(bits) for bits in table["bits"].unique())
    colors = alt.Scale(domain=present, range=[scales.BITS.get(bits, "#7a828e") for bits in present])
    key = alt.Legend(orient="right", symbolOpacity=1) if legend else None
    color = alt.Color("bits:O", scale=colors, legend=key)
    base = alt.Chart(scales.plain(scales.some_lines(own[shown]))).encode(x=x, y=y, color=color)
    lines = base.mark_line(strokeWidth=1, opacity=0.45, clip=True).encode(detail="line:N")
    tips = scales.tips("model", "size", "format", "method", "MiB", "nll")
    marks = base.mark_point(filled=True, size=34, opacity=0.9, clip=True).encode(tooltip=tips)
    frontier = own[own["nll"] < own["nll"].cummin().shift(fill_value=float("inf"))]
    step = (
        alt.Chart(scales.plain(frontier[["MiB", "nll"]]))
        .mark_line(interpolate="step-after", clip=True, strokeWidth=1.4, strokeDash=[4, 3], color="#8a8f98")
        .encode(x=x, y=y)
    )
    return alt.layer(step, lines, marks).properties(width="container", height=210)


def loss_domain(rows: pd.DataFrame) -> tuple[float, float]:
    """Return the range of losses to draw for a family: a broken model far up would flatten what matters.

    With several sizes it ends a little above the worst unquantized model. One size alone says nothing of how far the
    axis should go: then it ends above the worst quantized one, or two nats up if that is farther.
    """
    if rows.empty:
        return 0.0, 1.0
    best, whole = float(rows["nll"].min()), rows.loc[rows["format"] == UNQUANTIZED]
    if whole["n_params"].nunique() > 1:
        top = float(whole["nll"].max())
        return best - 0.03, top + 0.6 * (top - best) + 0.1
    top = min(float(rows["nll"].max()), best + 2.0)
    return best - 0.05 * (top - best) - 0.01, top + 0.05 * (top - best) + 0.01


def law_figure(record: Mapping[str, Any], table: pd.DataFrame, text: str) -> alt.LayerChart | alt.FacetChart:
    """Return measured losses with a fitted law's curves and their bands, one colour per group.

    Args:
        record: a law's entry of the laws artifact; its fits have curves.
        table: the results table.
        text: label of the evaluation text.
    """
    import altair as alt
    import pandas as pd

    fits = [fit for fit in record["fits"] if fit["by"]["text"] == text]
    curves = [curve for fit in fits for curve in fit["curves"]]
    column, target = curves[0]["column"], record["target"]
    lines = pd.DataFrame(
        [
            {"group": curve["group"], "x": x, "y": y, "low": low, "high": high}
            for curve in curves
            for x, y, low, high in zip(
                curve["x"], curve["y"], curve.get("low", curve["y"]), curve.get("high", curve["y"]), strict=True
            )
        ]
    )
    points = _points_of(fits, table)
    points["group"] = series(points) if fits[0]["group"] == "family" else points[fits[0]["group"]]
    points = points.rename(columns={column: "x"})
    titles = {"n_params": "non-embedding parameters", "nll": "loss, nats per token"}
    x = alt.X("x:Q", title=titles.get(column, column), scale=alt.Scale(type="log", nice=False), axis=scales.counts())
    y = alt.Y("measured:Q", title=titles.get(target, target), scale=alt.Scale(zero=False))
    names = sorted(lines["group"].unique())
    color = alt.Color(
        "group:N", title=None, scale=scales.named(names), legend=alt.Legend(orient="right", symbolOpacity=1)
    )
    band = alt.Chart(scales.plain(lines)).mark_area(opacity=0.1, clip=True)
    low = alt.Y("low:Q", title=titles.get(target, target), scale=alt.Scale(zero=False))
    band = band.encode(x=x, y=low, y2="high:Q", color=color)
    curve_ = alt.Chart(scales.plain(lines)).mark_line(strokeWidth=1.8).encode(x=x, y="y:Q", color=color)
    some = scales.evenly(points[["x", "measured", "predicted", "group", "model"]])
    marks = alt.Chart(scales.plain(some)).mark_point(filled=True, size=55)
    marks = marks.encode(x=x, y=y, color=color, tooltip=scales.tips("model", "measured", "predicted"))
    return alt.layer(band, curve_, marks).properties(width="container", height=340)


def check_figure(record: Mapping[str, Any], table: pd.DataFrame, text: str) -> alt.LayerChart | alt.FacetChart:
    """Return what a fitted law predicts against what was measured, see ``equality_figure``."""
    return equality_figure(_points_of([fit for fit in record["fits"] if fit["by"]["text"] == text], table))


def equality_figure(points: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Return what was predicted against what was measured, on logarithmic axes, with the line of equality.

    Args:
        points: rows of the results table with two more columns, ``predicted`` and ``measured``, both above zero.
    """
    import altair as alt
    import pandas as pd

    points = points.assign(kind=element_kind(points))
    both = points[["measured", "predicted"]].to_numpy()
    domain = (float(both.min()) / 1.2, float(both.max()) * 1.2)
    scale = alt.Scale(type="log", domain=domain, nice=False)
    x = alt.X("measured:Q", title="measured, nats per token", scale=scale, axis=scales.log_axis(*domain))
    y = alt.Y("predicted:Q", title="predicted, nats per token", scale=scale, axis=scales.log_axis(*domain))
    equal = alt.Chart(pd.DataFrame({"measured": domain, "predicted": domain})).mark_line(
        color="#8a8f98", strokeDash=[4, 3]
    )
    shown = ["measured", "predicted", "method", "kind", "model", "format"]
    marks = alt.Chart(scales.plain(scales.evenly(points[shown]))).mark_point(filled=True, size=40, opacity=0.75)
    marks = marks.encode(
        x=x,
        y=y,
        color=alt.Color("method:N", scale=scales.methods(points), title=None, legend=alt.Legend(orient="right")),
        shape=alt.Shape("kind:N", scale=scales.shapes(points["kind"]), title=None, legend=alt.Legend(orient="right")),
        tooltip=scales.tips("model", "format", "method", "measured", "predicted"),
    )
    return alt.layer(equal.encode(x=x, y=y), marks).properties(width="container", height=340)


def save(chart: alt.TopLevelMixin, path: Path, *, scale: float = 2.0) -> None:
    """Write ``chart`` as a picture with a white background: SVG if ``path`` says so by its ending, or else PNG.

    Args:
        chart: the chart.
        path: the file; its folder is made if need be.
        scale: pixels of a PNG per point.
    """
    from bitlaw.artifacts import replace_file

    drawn = svg({**specification(chart), "background": "white"})
    replace_file(path, drawn.encode() if path.suffix == ".svg" else png(drawn, scale))


def svg(whole: dict[str, Any]) -> str:
    """Return a chart in Vega-Lite, with its data, as SVG."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(whole, vl_version=vega_lite()))


def png(drawn: str, scale: float = 2.0) -> bytes:
    """Return an SVG as PNG with ``scale`` pixels per point."""
    import vl_convert

    return bytes(vl_convert.svg_to_png(drawn, scale=scale))


def vega_lite() -> str:
    """Return the version of Vega-Lite that the charts are written for, such as ``6.4``."""
    import altair as alt

    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def specification(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """Return ``chart`` as Vega-Lite, however many rows it has (Altair alone refuses more than 5,000)."""
    import altair as alt

    with alt.data_transformers.enable("default", max_rows=None):
        whole: dict[str, Any] = chart.to_dict()
    return whole


def _points_of(fits: list[Mapping[str, Any]], table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that ``fits`` used, with ``measured`` and ``predicted``."""
    import pandas as pd

    points = pd.DataFrame([point for fit in fits for point in fit["points"]])
    return points.merge(table, on="key", how="left", validate="many_to_one")
