"""The page: one HTML file with everything in it, equal for equal inputs, that fetches nothing."""

from __future__ import annotations

import json
import math
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

from bitlaw.report import figures, landscape, lawtables, mixed, predictions, scales, verdicts, words
from bitlaw.report.headline import Cost, costs, headline, recovered
from bitlaw.report.script import JAVASCRIPT
from bitlaw.report.style import CSS
from bitlaw.table import UNQUANTIZED, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

SVG_UP_TO = 4000
SECTIONS = (
    ("summary", "In short"),
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
# Name, heading, and how it is shown: text, a count, a loss, or any number.
SHOWN = (
    ("model", "model", "text"),
    ("family", "family", "text"),
    ("n_params", "parameters", "count"),
    ("format", "format", "text"),
    ("method", "method", "text"),
    ("effective_bits", "bits/weight", "number"),
    ("q_ratio", "share", "number"),
    ("select", "mix by", "text"),
    ("sqnr_db", "SQNR, dB", "number"),
    ("nll", "loss, nats", "loss"),
    ("delta_nll", "added, nats", "number"),
    ("perplexity", "perplexity", "number"),
    ("bits_per_byte", "bits/byte", "number"),
    ("model_bits", "model, bits", "count"),
    ("text", "text", "text"),
    ("settings", "settings", "text"),
)


class Charts:
    """The charts of a page, by the id of the element that each is drawn in."""

    def __init__(self) -> None:
        self.specifications: dict[str, Any] = {}

    def figure(self, chart: Any, name: str, caption: str = "") -> str:
        """Return the HTML of a figure named ``name`` that ``chart`` will be drawn in."""
        element = f"chart-{len(self.specifications)}"
        # The address of the schema is for editors; here nothing is fetched.
        whole = figures.specification(chart)
        specification = {key: value for key, value in whole.items() if key not in ("$schema", "config")}
        self.specifications[element] = specification
        below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        return (
            f'<figure class="card"><h3>{escape(name)}</h3>'
            f'<div class="chart" id="{element}" role="img" aria-label="{escape(name)}"></div>{below}</figure>'
        )


MORE = {"predictor": predictions.section, "claims": verdicts.section}
"""Sections that a page may have, by the stage that they show."""


def page(
    table: pd.DataFrame,
    laws: Mapping[str, Any],
    *,
    title: str,
    study: Any,
    keys: Mapping[str, Any],
    landscapes: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
) -> str:
    """Return the report as HTML.

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
            _costs(rest, charts),
            _sizes(rest, charts),
            landscape.section(landscapes or {}, rest, charts),
            mixed.section(table),
            _laws(rest, laws, charts),
            *(MORE[name](more[name], charts.figure) for name in MORE if name in more),
            _results(table),
            _provenance(table, laws, study, keys),
        ]
    )
    data = {
        "charts": charts.specifications,
        "themes": {"light": scales.theme(), "dark": scales.theme(dark=True)},
        "renderer": "svg" if len(table) <= SVG_UP_TO else "canvas",
        "columns": [{"name": name, "kind": kind, "numeric": kind != "text"} for name, _, kind in SHOWN],
        "rows": rows(table),
    }
    return _shell(title, lines[0], body, data)


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
<script type="application/json" id="data">{script_json(data)}</script>
<script type="module">{_script(library())}</script>
<script type="module">{_script(JAVASCRIPT)}</script>
</body>
</html>
"""


@cache
def library() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script that sets ``window.vegaEmbed``."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=figures.vega_lite()))


def script_json(value: Any) -> str:
    """Return ``value`` as JSON that cannot end the script element that it is in."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def rows(table: pd.DataFrame) -> list[list[Any]]:
    """Return the shown columns of ``table`` as JSON values: ``None`` is missing, ``"NaN"`` and ``"∞"`` are losses."""
    found = []
    for record in table[[name for name, _, _ in SHOWN]].to_dict("records"):
        baseline = record["format"] == UNQUANTIZED
        found.append([_cell(record[name], missing=baseline and name == "sqnr_db") for name, _, _ in SHOWN])
    return found


def _cell(value: Any, *, missing: bool) -> Any:
    import pandas as pd

    if missing or value is None or value is pd.NA:
        return None
    if isinstance(value, float):
        return value if math.isfinite(value) else words.number(value)
    return value if isinstance(value, str) else int(value)


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


def _legend(entries: list[tuple[str, str]], kinds: pd.Series[str] | None = None) -> str:
    """Return the colours of ``entries`` (name, colour), and the shapes of the ``kinds`` of elements if several."""
    spans = (f'<span><i style="background:{escape(color)}"></i>{escape(name)}</span>' for name, color in entries)
    shapes = {} if kinds is None else scales.kind_shapes(kinds)
    marks = (f"<span>{scales.SHAPES[shape]} {escape(name)}</span>" for name, shape in shapes.items() if len(shapes) > 1)
    return f'<div class="legend">{"".join(spans)}{"".join(marks)}</div>'


def _costs(table: pd.DataFrame, charts: Charts) -> str:
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
        legend = _legend([(words.method(name), colors[name]) for name in names], points["kind"])
        over = [(figures.kind_panel(points, name), f"All models, {name}") for name in figures.kinds(points)]
        shown = [(figures.loss_panel(points, name), name) for name in figures.families(points)]
        drawn = ["".join(charts.figure(*panel) for panel in panels) for panels in (over, shown)]
        parts += [
            _heading(table, text),
            _legend([(words.method(name), colors[name]) for name in names], points["block"].map(words.block)),
            f'<div class="wide">{drawn[0]}</div>',
            '<p class="soft">A small dot is a model, a line joins the medians. Family by family, each line is a model, '
            "a method and a block size, and fainter lines are smaller models:</p>",
            legend,
            f'<div class="panels">{drawn[1]}</div>',
        ]
    return "\n".join([*parts, "</section>"])


def _sizes(table: pd.DataFrame, charts: Charts) -> str:
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
            _legend([(f"{bits} bits", scales.BITS.get(bits, "#7a828e")) for bits in present]),
        ]
        shown = (charts.figure(figures.size_panel(own, name), name) for name in figures.families(own))
        parts.append(f'<div class="panels">{"".join(shown)}</div>')
    return "\n".join([*parts, "</section>"])


def _heading(table: pd.DataFrame, text: str) -> str:
    return f"<h3>Text: {escape(text)}</h3>" if table["text"].nunique() > 1 else ""


def _laws(table: pd.DataFrame, laws: Mapping[str, Any], charts: Charts) -> str:
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
            drawn.append(charts.figure(chart, name, caption))
    sections = "".join(lawtables.section(record) for record in laws["laws"].values())
    sections = lawtables.comparison(laws["comparison"]) + sections
    note = f"Seed {laws['seed']}, {laws['bootstraps']:,} resamples."
    drawings = f'<div class="wide">{"".join(drawn)}</div>'
    return f'<section id="laws"><h2>Laws</h2><p class="soft">{note}</p>{drawings}{sections}</section>'


def _results(table: pd.DataFrame) -> str:
    heads = "".join(
        f'<th scope="col"{"" if kind == "text" else " class=n"}><button type="button">{escape(title)}</button></th>'
        for _, title, kind in SHOWN
    )
    selects = "".join(_select(table, name) for name in ("family", "format", "method", "text"))
    return (
        '<section id="results"><h2>Results</h2><div class="card"><div class="controls">'
        '<input id="find" type="search" placeholder="Filter: words such as gptq int4" aria-label="Filter">'
        f"{selects}</div>"
        '<p class="soft" id="shown" aria-live="polite"></p>'
        f'<div class="scroll" tabindex="0"><table><thead><tr>{heads}</tr></thead><tbody></tbody></table></div>'
        '<p><button id="more" type="button" hidden>Show more</button></p></div></section>'
    )


def _select(table: pd.DataFrame, name: str) -> str:
    values = sorted(str(value) for value in table[name].dropna().unique())
    if len(values) < 2:
        return ""
    options = "".join(f'<option value="{escape(value)}">{escape(value)}</option>' for value in values)
    return f'<select name="{name}" aria-label="{name}"><option value="">every {name}</option>{options}</select>'


def _provenance(table: pd.DataFrame, laws: Mapping[str, Any], study: Any, keys: Mapping[str, Any]) -> str:
    facts: list[tuple[str, str]] = []
    for role, key in keys.items():
        facts += [(f"key of the {role}", one) for one in ([key] if isinstance(key, str) else key)]
    for kind in ("text", "calibration_text"):
        hashes = table[[kind, f"{kind}_sha256"]].dropna().drop_duplicates().sort_values(kind)
        facts += [
            (f"{kind.replace('_', ' ')} {name}", f"SHA-256 {value}") for name, value in hashes.itertuples(index=False)
        ]
    for window, stride in table[["window", "stride"]].drop_duplicates().sort_values("window").itertuples(index=False):
        facts.append(("evaluation", f"windows of {window} tokens, stride {stride}"))
    for name, value in (
        table[["method", "settings"]].drop_duplicates().sort_values(["method", "settings"]).itertuples(index=False)
    ):
        facts += [] if name == "none" else [(f"method {name}", str(value))]
    facts += [(f"law {name}", json.dumps(record["settings"], sort_keys=True)) for name, record in laws["laws"].items()]
    lines = "".join(
        f'<tr><td>{escape(name)}</td><td class="words"><code>{escape(str(value))}</code></td></tr>'
        for name, value in facts
    )
    text = study if isinstance(study, str) else json.dumps(study, indent=1, sort_keys=True, ensure_ascii=False)
    return (
        '<section id="provenance"><h2>Provenance</h2><div class="card">'
        f'<div class="scroll"><table><tbody>{lines}</tbody></table></div>'
        f"<details><summary>Study</summary><pre>{escape(text)}</pre></details></div></section>"
    )
