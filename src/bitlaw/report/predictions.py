"""The predictor as HTML: its errors where it was not fitted, beside the baselines, and predicted against measured."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from bitlaw.report import scales, words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import altair as alt


def section(result: Mapping[str, Any], figure: Callable[..., str]) -> str:
    """Return the HTML of the predictor stage's ``result``.

    Args:
        result: what the stage wrote.
        figure: ``figure(chart, name, caption) -> HTML`` of a place for a chart.
    """
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
        parts += [_record(record, figure) for record in one["records"].values()]
    return "\n".join([*parts, "</section>"])


def _record(record: Mapping[str, Any], figure: Callable[..., str]) -> str:
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
    drawn = figure(chart(record), f"Predicted and measured, {record['protocol']} left out")
    return (
        f'<div class="card"><h3>{escape(record["protocol"])}</h3><p>{" ".join(said)}</p><div class="scroll"><table>'
        f'<thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div><p class="soft">Left out, chosen '
        f'model and its error: {escape(folds)}.</p></div><div class="wide">{drawn}</div>'
    )


def chart(record: Mapping[str, Any]) -> alt.LayerChart | alt.FacetChart:
    """Return what the chosen model predicted against what was measured, on axes that show small and large losses."""
    import altair as alt
    import pandas as pd

    points = pd.DataFrame(record["points"])
    scale = alt.Scale(type="symlog", constant=0.01, nice=False)
    x = alt.X("measured:Q", title="measured, nats per token", scale=scale, axis=alt.Axis(format="~g", tickCount=6))
    y = alt.Y("predicted:Q", title="predicted, nats per token", scale=scale, axis=alt.Axis(format="~g", tickCount=6))
    ends = [float(points[["measured", "predicted"]].min().min()), float(points[["measured", "predicted"]].max().max())]
    equal = alt.Chart(pd.DataFrame({"measured": ends, "predicted": ends})).mark_line(color="#8a8f98", strokeDash=[4, 3])
    marks = alt.Chart(scales.plain(points.drop(columns="key"))).encode(
        x=x,
        y=y,
        color=alt.Color("method:N", scale=scales.methods(points), title=None, legend=alt.Legend(orient="top")),
        tooltip=scales.tips("model", "format", "method", "measured", "predicted"),
    )
    layers = [equal.encode(x=x, y=y), marks.mark_point(filled=True, size=30, opacity=0.6)]
    if "low" in points:
        layers.insert(1, marks.mark_rule(opacity=0.12).encode(y=alt.Y("low:Q", scale=scale, title=None), y2="high:Q"))
    return alt.layer(*layers).properties(width="container", height=320)
