"""The claims of the papers as HTML: verdicts first, then each with its statistic and its figure."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from bitlaw.report import scales, words
from bitlaw.report.html import scroll

if TYPE_CHECKING:
    from collections.abc import Mapping

    import altair as alt

    from bitlaw.report.charts import Place

COLORS = {"holds": "#2ea66f", "does not hold": "#d8577f", "not enough data": "#8a8f98"}


def section(result: Mapping[str, Any], place: Place) -> str:
    """Return the HTML of the claims stage's ``result``; ``place`` makes room for a figure."""
    parts = [
        '<section id="claims"><h2>What the papers claim</h2><p class="soft">Each claim tested on this table: a '
        "statistic, and its 95% interval over resampled models or families. A claim whose interval decides nothing has "
        "not enough data.</p>"
    ]
    if result["refused"] is not None:
        parts.append(f'<div class="bad-note">Not tested: {escape(result["refused"])}.</div>')
    if result["claims"]:
        head = '<th>claim</th><th>verdict</th><th class="n">value</th><th class="n">95% interval</th><th>statistic</th>'
        rows = "".join(_row(one) for one in result["claims"])
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        parts.append(f'<div class="card">{scroll("Claims", table)}</div>')
    drawn = [
        place(chart(one), f"{one['title']}: {one['verdict']}", f"{one['why'][:1].upper()}{one['why'][1:]}.")
        for one in result["claims"]
        if one["figure"] is not None and one["figure"]["points"]
    ]
    return "\n".join([*parts, f'<div class="panels below">{"".join(drawn)}</div>', "</section>"])


def _row(one: Mapping[str, Any]) -> str:
    value, interval = words.MISSING, words.MISSING
    if one["statistic"] is not None:
        value = words.number(one["statistic"], 3)
        interval = f"{words.number(one['low'], 3)} to {words.number(one['high'], 3)}"
    verdict = (
        f'<span class="verdict"><i style="background:{COLORS[one["verdict"]]}"></i>{escape(one["verdict"])}</span>'
    )
    about = f"{one['measure']}; holds if {one['rule']}"
    return (
        f'<tr><td class="words">{escape(one["title"])} <span class="soft">({escape(one["paper"])})</span></td>'
        f'<td>{verdict}</td><td class="n">{value}</td><td class="n">{interval}</td>'
        f'<td class="words">{escape(about)}</td></tr>'
    )


def chart(one: Mapping[str, Any]) -> alt.LayerChart | alt.FacetChart:
    """Return the figure of a claim's record."""
    import altair as alt
    import pandas as pd

    drawn = one["figure"]
    points = scales.evenly(pd.DataFrame(drawn["points"]))
    names = sorted(points["group"].unique())
    wide = bool(drawn["log_x"] and (points["x"] > 0).all())
    # A logarithmic axis has no zero, and Vega says so where it is told to leave it out.
    scale = alt.Scale(type="log", nice=False, padding=8) if wide else alt.Scale(nice=False, zero=False, padding=8)
    x = alt.X(
        "x:Q",
        title=drawn["x"],
        scale=scale,
        axis=scales.counts() if wide else alt.Axis(format="~g"),
    )
    y = alt.Y("y:Q", title=drawn["y"], scale=alt.Scale(zero=False), axis=alt.Axis(format="~g"))
    legend = alt.Legend(orient="right", symbolOpacity=1) if len(names) > 1 else None
    color = alt.Color("group:N", title=None, scale=scales.named(names), legend=legend)
    layers = [alt.Chart(points).mark_point(filled=True, size=26, opacity=0.6).encode(x=x, y=y, color=color)]
    if drawn["line"] is not None:
        rule = alt.Chart(pd.DataFrame({"y": [drawn["line"]]})).mark_rule(color="#8a8f98", strokeDash=[4, 3])
        layers.insert(0, rule.encode(y=y))
    return alt.layer(*layers).properties(width="container", height=230)
