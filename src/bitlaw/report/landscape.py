"""The section on the loss around the weights: radial profiles of the models, and predictions from curvature."""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bitlaw.report import figures, scales, words
from bitlaw.table import UNQUANTIZED

if TYPE_CHECKING:
    from collections.abc import Mapping

    import altair as alt
    import pandas as pd

    from bitlaw.report.charts import Place


def section(landscapes: Mapping[str, Any], table: pd.DataFrame, place: Place) -> str:
    """Return the HTML of the section; empty if the study measured nothing of the kind.

    Args:
        landscapes: results of the landscape stage by the name of the model.
        table: the results table.
        place: makes room for a figure.
    """
    points, cells = radial_points(landscapes, table), predicted_cells(table)
    drawn = ""
    if len(points):
        shown = (place(radial_panel(points, name), name) for name in sorted(points["family"].unique()))
        drawn += (
            '<p class="soft">Loss that noise adds to a model, against the signal to noise ratio of its weights: the '
            "mean over random directions. Fainter lines are smaller models.</p>"
            f'<div class="panels">{"".join(shown)}</div>'
        )
    if len(cells):
        caption = (
            "Predicted from gradient and Hessian along the quantization error, before any quantized model was "
            "evaluated. Cells that lose nothing, or are predicted to, are not drawn."
        )
        figure = place(figures.equality_figure(cells), "Predicted by curvature", caption)
        drawn += f'<div class="wide below">{figure}</div>'
    return f'<section id="landscape"><h2>The loss around the weights</h2>{drawn}</section>' if drawn else ""


def radial_points(landscapes: Mapping[str, Any], table: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each model and distance: ``model``, ``family``, ``size``, ``rank``, ``snr``, ``added``.

    ``added`` is the mean over directions (gaussian ones, if they were measured), cut off where a uniform guess is;
    ``rank`` grows with the size of the model within its family, from 0 to 1.
    """
    import pandas as pd

    models = table.drop_duplicates("model").set_index("model")
    families, sizes = models["family"].fillna("no family").astype(str), models["n_params"].astype(int)
    rows = []
    for name, result in landscapes.items():
        if not result["radial"]:
            continue
        family, n_params = families[name], int(sizes[name])
        radial = result["radial"][min(result["radial"], key=("gaussian", "filter").index)]
        top = radial["step"]["height"]
        for at, r_db in enumerate(radial["r_db"]):
            values = [profile[at] for profile in radial["delta_nll"]]
            added = min(fmean(values), top) if all(map(math.isfinite, values)) else top
            rows.append((name, family, n_params, words.count(n_params), -r_db, added))
    points = pd.DataFrame(rows, columns=["model", "family", "n_params", "size", "snr", "added"])
    ranks = points.groupby("family")["n_params"].rank("dense")
    most = ranks.groupby(points["family"]).transform("max")
    points["rank"] = ((ranks - 1) / (most - 1).clip(lower=1)).where(most > 1, 1.0)
    return points


def radial_panel(points: pd.DataFrame, family: str) -> alt.LayerChart | alt.FacetChart:
    """Return the profiles of one family's models.

    Args:
        points: from ``radial_points``, all families: they share the axes.
        family: the family to draw.
    """
    import altair as alt

    ends = (float(points["snr"].max()), float(points["snr"].min()))
    loss = alt.Scale(domain=(min(0.0, float(points["added"].min())), float(points["added"].max())), nice=False)
    tips = [
        alt.Tooltip("model:N"),
        alt.Tooltip("size:N"),
        alt.Tooltip("snr:Q", title="signal to noise, dB", format=".4~g"),
        alt.Tooltip("added:Q", title="added loss, nats", format=".4~g"),
    ]
    base = alt.Chart(scales.plain(points[points["family"] == family])).encode(
        x=alt.X("snr:Q", title="signal to noise of the weights, dB", scale=alt.Scale(domain=ends, nice=False)),
        y=alt.Y("added:Q", title="added loss, nats per token", scale=loss),
        opacity=alt.Opacity("rank:Q", scale=alt.Scale(domain=[0, 1], range=[0.35, 1]), legend=None),
        detail="model:N",
        tooltip=tips,
    )
    layers = alt.layer(base.mark_line(strokeWidth=1.8, color="#3b7dd8"), base.mark_circle(size=18, color="#3b7dd8"))
    return layers.properties(width="container", height=210)


def predicted_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Return the quantized cells whose ``predicted`` and ``measured`` losses can be drawn on logarithmic axes."""
    import numpy as np

    rows = table[table["format"] != UNQUANTIZED].copy()
    rows["predicted"], rows["measured"] = rows["predicted_delta_nll"], rows["delta_nll"]
    both = rows[["predicted", "measured"]].to_numpy("float64")
    drawn: pd.DataFrame = rows[(np.isfinite(both) & (both > 0)).all(axis=1)]
    return drawn
