"""The predictor as HTML: its errors where it was not fitted, beside the baselines, and predicted against measured."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from bitlaw.report import scales, words
from bitlaw.report.html import scroll

if TYPE_CHECKING:
    from collections.abc import Mapping

    import altair as alt
    import pandas as pd

    from bitlaw.report.charts import Place

LEFT_OUT = {
    "family": "Each colour is a family, predicted by a fit to the other families; lines are the intervals.",
    "largest": "The largest model of each family, predicted by a fit to the smaller ones.",
    "format": "Each element type, predicted by a fit to the others.",
}
"""What a point of each protocol's figure is."""


def section(result: Mapping[str, Any], place: Place, table: pd.DataFrame) -> str:
    """Return the HTML of the predictor stage's ``result``.

    Args:
        result: what the stage wrote.
        place: makes room for a figure.
        table: the results table, which knows the family of each model.
    """
    models = table.drop_duplicates("model")
    families = dict(zip(models["model"].astype(str), models["family"].fillna("no family").astype(str), strict=True))
    parts = [
        '<section id="predictor"><h2>Predictor</h2><p class="soft">Losses that were left out, predicted by fits to the '
        "rest. The forest of Xu et al. 2024, the nearest measured cell and Kumar's law are baselines; the chosen model "
        f"was chosen without what is left out. Seed {result['seed']}.</p>"
    ]
    for one in result["evaluations"]:
        parts.append(f"<h3>{escape(str(one['evaluation'] or 'No evaluation'))}</h3>")
        if one["excluded"]:
            items = "".join(f"<li>{count:,}: {escape(reason)}</li>" for reason, count in one["excluded"].items())
            parts.append(f'<div class="note">Rows left out:<ul>{items}</ul></div>')
        for protocol, reason in one["refused"].items():
            parts.append(f'<div class="bad-note">No prediction ({escape(protocol)}): {escape(reason)}.</div>')
        parts += [_record(record, place, families) for record in one["records"].values()]
    return "\n".join([*parts, "</section>"])


def _record(record: Mapping[str, Any], place: Place, families: Mapping[str, str]) -> str:
    rows = []
    for name, errors in sorted(record["errors"].items(), key=lambda item: item[1]["mae"]):
        r2 = words.number(errors["r2"], 3)
        numbers = "".join(f'<td class="n">{words.number(errors[key], 3)}</td>' for key in ("mae", "median"))
        rows.append(f'<tr><td>{escape(name)}</td>{numbers}<td class="n">{r2}</td></tr>')
    head = '<th>model</th><th class="n">MAE, nats</th><th class="n">median, nats</th><th class="n">R²</th>'
    said = [f"{escape(record['says'][:1].upper() + record['says'][1:])}."]
    if record.get("coverage") is not None:
        said.append(f"Intervals that are to hold 90% of the cells of an unseen family hold {record['coverage']:.1%}.")
    folds = "; ".join(f"{fold['held_out']}: {fold['model']} {words.number(fold['mae'], 3)}" for fold in record["folds"])
    name = record["protocol"]
    drawn = place(chart(record, families), f"Predicted and measured, {name} left out", LEFT_OUT[name])
    errors = scroll(
        f"Errors, {name} left out",
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>",
    )
    return (
        f'<div class="wide below apart">{drawn}<div class="card"><h3>{escape(name.capitalize())} left out</h3>'
        f'<p>{" ".join(said)}</p>{errors}<p class="soft">Left out, chosen model and its error: {escape(folds)}.</p>'
        "</div></div>"
    )


def chart(record: Mapping[str, Any], families: Mapping[str, str]) -> alt.LayerChart | alt.FacetChart:
    """Return what the chosen model predicted against what was measured, on axes that show small and large losses.

    Args:
        record: of a protocol; no point of it had a part in the fit that predicted it.
        families: of each model; each has a colour where families are what was left out, and methods a shape.
    """
    import altair as alt
    import pandas as pd

    points = pd.DataFrame(record["points"])
    points["family"] = [families.get(name, "no family") for name in points["model"]]
    by_family = record["protocol"] == "family"
    names = sorted(points["family"].unique())
    key = alt.Legend(orient="right", symbolOpacity=1, title="left out" if by_family else None)
    color = (
        alt.Color("family:N", scale=scales.named(names), legend=key)
        if by_family
        else alt.Color("method:N", scale=scales.methods(points), title=None, legend=key)
    )
    scale = alt.Scale(type="symlog", constant=0.01, nice=False)
    # Vega's own ticks of such an axis leave out what is below a tenth.
    steps = [sign * step * 10.0**power for sign in (-1, 1) for power in range(-2, 3) for step in (1, 3)]
    axis = alt.Axis(format="~g", values=sorted([0.0, *steps]), labelOverlap="greedy")
    x = alt.X("measured:Q", title="measured, nats per token", scale=scale, axis=axis)
    y = alt.Y("predicted:Q", title="predicted, nats per token", scale=scale, axis=axis)
    ends = [float(points[["measured", "predicted"]].min().min()), float(points[["measured", "predicted"]].max().max())]
    equal = alt.Chart(pd.DataFrame({"measured": ends, "predicted": ends})).mark_line(color="#8a8f98", strokeDash=[4, 3])
    marks = alt.Chart(scales.plain(points.drop(columns="key"))).encode(
        x=x,
        y=y,
        color=color,
        tooltip=scales.tips("model", "family", "format", "method", "measured", "predicted"),
    )
    shape = alt.Shape("method:N", scale=scales.shapes(points["method"]), title=None, legend=alt.Legend(orient="right"))
    dots = marks.mark_point(filled=True, size=30, opacity=0.6)
    layers = [equal.encode(x=x, y=y), dots.encode(shape=shape) if by_family else dots]
    if "low" in points:
        low = alt.Y("low:Q", title="predicted, nats per token", scale=scale, axis=axis)
        layers.insert(1, marks.mark_rule(opacity=0.12).encode(y=low, y2="high:Q"))
    return alt.layer(*layers).properties(width="container", height=320)
