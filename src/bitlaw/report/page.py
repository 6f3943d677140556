"""The page: one HTML file with everything in it, equal for equal inputs, that fetches nothing."""

from __future__ import annotations

from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from bitlaw.report import (
    explorer,
    figures,
    landscape,
    lawtables,
    mixed,
    predictions,
    provenance,
    results,
    scales,
    verdicts,
    words,
)
from bitlaw.report.charts import Charts, Figure, Place, block
from bitlaw.report.explorer_script import EXPLORER
from bitlaw.report.headline import Cost, costs, headline, recovered
from bitlaw.report.html import legend
from bitlaw.report.script import CHARTS, RESULTS
from bitlaw.report.style import CSS
from bitlaw.table import UNQUANTIZED, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

SECTIONS = (
    ("summary", "In short"),
    ("explorer", "Explorer"),
    ("costs", "Loss and bits"),
    ("sizes", "Loss and size"),
    ("landscape", "Landscape"),
    ("mixes", "Mixes"),
    ("laws", "Laws"),
    ("predictor", "Predictor"),
    ("claims", "Claims"),
    ("results", "Results"),
    ("provenance", "Provenance"),
)


class Report(NamedTuple):
    """A page and its figures.

    Attributes:
        html: the page.
        figures: its figures, in their order.
    """

    html: str
    figures: tuple[Figure, ...]


def page(table: pd.DataFrame, laws: Mapping[str, Any], **about: Any) -> str:
    """Return the report as HTML; see ``report`` for the arguments."""
    return report(table, laws, **about).html


def report(
    table: pd.DataFrame,
    laws: Mapping[str, Any],
    *,
    title: str,
    study: Any,
    keys: Mapping[str, Any],
    landscapes: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Report:
    """Return the report.

    Args:
        table: the results table.
        laws: the result of the laws stage.
        title: heading of the page.
        study: name or description of the study (JSON values), shown with the provenance.
        keys: keys of the report and of what it was made from, by role.
        landscapes: results of the landscape stage by the name of the model.
        more: results of the stages ``predictor`` and ``claims``, as far as there are any.
    """
    more = more or {}
    charts = Charts()
    lines = headline(table, laws)
    rest = whole(table)
    body = "\n".join(
        [
            _summary(rest, lines),
            explorer.section(table, charts),
            _costs(rest, charts.of("costs", "Added loss")),
            _sizes(rest, charts.of("sizes", "Loss by size")),
            landscape.section(landscapes or {}, rest, charts.of("landscape", "Around the weights")),
            mixed.section(table, charts.of("mixes", "Mixed precision")),
            _laws(table, laws, charts.of("laws")),
            predictions.section(more["predictor"], charts.of("predictor"), table) if "predictor" in more else "",
            verdicts.section(more["claims"], charts.of("claims")) if "claims" in more else "",
            results.section(table),
            provenance.section(table, laws, study, keys),
        ]
    )
    data = {
        "themes": {"light": scales.theme(), "dark": scales.theme(dark=True)},
        "columns": results.columns(table),
        "cells": results.cells(table),
    }
    return Report(_shell(title, lines[0], body, data), tuple(charts.figures.values()))


def _shell(title: str, lead: str, body: str, data: Mapping[str, Any]) -> str:
    there = [one for one in SECTIONS if f'<section id="{one[0]}">' in body]
    menu = "".join(f'<li><a href="#{target}">{name}</a></li>' for target, name in there)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{CSS}</style>
</head>
<body>
<header class="top"><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p></header>
<nav aria-label="Sections"><ul>{menu}</ul></nav>
<main>
{body}
</main>
<footer>Made by bitlaw. This page holds its data and its scripts and loads nothing from the network.</footer>
{block("data", data)}
<script type="module">{_script(library())}</script>
<script type="module">{_script(CHARTS + EXPLORER + RESULTS)}</script>
</body>
</html>
"""


@cache
def library() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script that sets ``window.vegaEmbed``."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=figures.vega_lite()))


def _script(source: str) -> str:
    if "</script" in source.lower() or "<!--" in source:
        raise ValueError("a script of the page would end its element")
    return source


def _summary(table: pd.DataFrame, lines: list[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines[1:])
    said = f'<div class="card"><ul class="summary">{items}</ul></div>'
    return f'<section id="summary"><h2>In short</h2>{_tiles(table)}{said}{_broken(table)}</section>'


def _tiles(table: pd.DataFrame) -> str:
    """Return what four bits cost, as large figures, for the first text."""
    own = table[table["text"] == figures.texts(table)[0]]
    tiles: list[tuple[str, str]] = []
    if every := costs(own):
        cost = min(every, key=Cost.distance)
        what = f"{cost.bits}-bit {cost.kind}, {words.block(cost.block)}"
        added = "nats added on average by"
        tiles += [(words.loss(cost.nats[name]), f"{added} {words.method(name)}: {what}") for name in cost.methods]
        tiles += [
            (f"{share:.0%}".replace("-", words.MINUS), f"of RTN's loss is recovered by {words.method(name)}")
            for name, share in recovered(cost).items()
        ]
    tiles.append(
        (f"{len(table):,}", "cells measured" if table["finite"].all() else "cells measured, some of them not finite")
    )
    inner = (f'<div class="card tile"><b>{escape(big)}</b><span>{escape(small)}</span></div>' for big, small in tiles)
    return f'<div class="tiles">{"".join(inner)}</div>'


def _broken(table: pd.DataFrame) -> str:
    bad = table[~table["finite"]]
    if bad.empty:
        return ""
    items = "".join(
        f"<li>{escape(f'{row.model}, {row.format}, {row.method}')}: loss {words.number(row.nll)}</li>"
        for row in bad.head(20).itertuples()
    )
    rest = f"<li>and {len(bad) - 20:,} more</li>" if len(bad) > 20 else ""
    return f'<div class="bad-note">No finite loss:<ul>{items}{rest}</ul></div>'


def _shapes(kinds: pd.Series[str]) -> list[tuple[str, str]]:
    """Return the sign of each of ``kinds``, if there are several."""
    shapes = scales.kind_shapes(kinds)
    return [(name, scales.SHAPES[shape]) for name, shape in shapes.items() if len(shapes) > 1]


def _costs(table: pd.DataFrame, place: Place) -> str:
    parts = [
        '<section id="costs"><h2>What quantization costs</h2><p class="soft">Loss added to the unquantized model, '
        "on a logarithmic axis, against the bits that a weight takes with its scales. ▿ marks a difference at or below "
        "zero, ✕ a loss that is not finite.</p>"
    ]
    quantized = table[table["format"] != UNQUANTIZED]
    names = sorted(str(name) for name in quantized["method"].unique())
    for text in figures.texts(quantized) if len(quantized) else []:
        points = figures.loss_points(table[table["text"] == text])
        colors = scales.method_colors(names)
        named = [(words.method(name), colors[name]) for name in names]
        over = [
            (figures.kind_panel(points, name, legend=True), f"All models, {name}") for name in figures.kinds(points)
        ]
        shown = [(figures.loss_panel(points, name, legend=True), name) for name in figures.families(points)]
        drawn = ["".join(place(*panel, bare=True) for panel in panels) for panels in (over, shown)]
        parts += [
            _heading(table, text),
            legend(named, _shapes(points["block"].map(words.block))),
            f'<div class="wide">{drawn[0]}</div>',
            '<p class="soft">A small dot is a model, a line joins the medians. Family by family, each line is a model, '
            f"a method and a block size, and fainter lines are smaller models{_thinned(points)}:</p>",
            legend(named, _shapes(points["kind"])),
            f'<div class="panels">{drawn[1]}</div>',
        ]
    return "\n".join([*parts, "</section>"])


def _thinned(points: pd.DataFrame) -> str:
    """Return words for what figures leave out, if there may be more cells in one than are drawn."""
    most = scales.MOST_DRAWN
    return f". Of more than {most:,} cells in a figure, so many are drawn, evenly chosen" if len(points) > most else ""


def _sizes(table: pd.DataFrame, place: Place) -> str:
    parts = [
        '<section id="sizes"><h2>Few bits or few parameters</h2><p class="soft">Loss against the size of the whole '
        "model: quantized weights at their effective bits, everything else, such as embeddings, at 16. A coloured line "
        "joins the sizes of a family in one format; the dashed line is the lowest loss that a size buys. Losses far "
        "above the unquantized models are cut off.</p>"
    ]
    present = sorted(int(bits) for bits in table["bits"].unique())
    for text in figures.texts(table):
        own = table[table["text"] == text]
        parts += [
            _heading(table, text),
            legend([(f"{bits} bits", scales.BITS.get(bits, "#7a828e")) for bits in present]),
        ]
        shown = (place(figures.size_panel(own, name, legend=True), name, bare=True) for name in figures.families(own))
        parts.append(f'<div class="panels">{"".join(shown)}</div>')
    return "\n".join([*parts, "</section>"])


def _heading(table: pd.DataFrame, text: str) -> str:
    return f"<h3>Text: {escape(text)}</h3>" if table["text"].nunique() > 1 else ""


def _laws(table: pd.DataFrame, laws: Mapping[str, Any], place: Place) -> str:
    drawn = []
    for record in laws["laws"].values():
        for text in sorted({fit["by"]["text"] for fit in record["fits"]}):
            name = record["title"] + (f": {text}" if table["text"].nunique() > 1 else "")
            if any(fit["curves"] for fit in record["fits"]):
                chart, caption = (
                    figures.law_figure(record, table, text),
                    "Points are measured; curves are fitted, bands their intervals.",
                )
            else:
                chart, caption = (
                    figures.check_figure(record, table, text),
                    "Predicted by the fitted law, on the points that it was fitted to.",
                )
            drawn.append(place(chart, name, caption))
    sections = "".join(lawtables.section(record) for record in laws["laws"].values())
    sections = lawtables.comparison(laws["comparison"]) + sections
    note = f"Seed {laws['seed']}, {laws['bootstraps']:,} resamples."
    drawings = f'<div class="wide">{"".join(drawn)}</div>'
    return f'<section id="laws"><h2>Laws</h2><p class="soft">{note}</p>{drawings}{sections}</section>'
