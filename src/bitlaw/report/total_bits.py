"""Loss against the bits of the whole model: the best cell of each model at each precision, and which precision wins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitlaw.report import scales, words
from bitlaw.series import series
from bitlaw.table import is_mixed

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

BUDGETS = 41


def best(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the cell with the lowest loss of each model at each number of bits, all weights quantized alike.

    Args:
        rows: finite rows of a results table, of one text.

    Returns:
        the rows, with ``series``, sorted by series, bits and size.
    """
    own = rows[~is_mixed(rows) & rows["model_bits"].notna() & rows["bits"].notna()].assign(series=series)
    own = own.dropna(subset=["series", "nll"]).sort_values(["nll", "model_bits", "key"], kind="stable")
    kept = own.drop_duplicates(["series", "model", "bits"])
    return kept.sort_values(["series", "bits", "model_bits", "model"], kind="stable").reset_index(drop=True)


def shares(cells: pd.DataFrame) -> pd.DataFrame:
    """Return at which share of budgets each precision has the lowest loss, for each series of two sizes or more.

    Args:
        cells: from ``best``. Losses between two sizes are interpolated in the logarithm of the bits.

    Returns:
        one row for each ``series`` and number of ``bits``, with the ``share``.
    """
    import numpy as np
    import pandas as pd

    found = []
    for name, part in cells.groupby("series", sort=True):
        curves = {int(str(bits)): _curve(own) for bits, own in part.groupby("bits", sort=True)}
        curves = {bits: one for bits, one in curves.items() if len(one[0]) > 1}
        if len(curves) < 2:
            continue
        ends = min(x[0] for x, _ in curves.values()), max(x[-1] for x, _ in curves.values())
        wins = []
        for budget in np.linspace(*ends, BUDGETS):
            there = {bits: float(np.interp(budget, x, y)) for bits, (x, y) in curves.items() if x[0] <= budget <= x[-1]}
            wins += [min(there, key=lambda bits: there[bits])] if len(there) > 1 else []
        found += [(str(name), bits, wins.count(bits) / len(wins)) for bits in curves if wins]
    return pd.DataFrame(found, columns=["series", "bits", "share"])


def _curve(own: pd.DataFrame) -> tuple[Any, Any]:
    import numpy as np

    mean = own.groupby("model_bits", sort=True)["nll"].mean()
    return np.log2(mean.index.to_numpy("float64")), mean.to_numpy("float64")


def figure(rows: pd.DataFrame, *, one: bool = False) -> alt.TopLevelMixin:
    """Return loss against the size of the whole model: a panel a series, a line a precision.

    Args:
        rows: finite rows of a results table, of one text.
        one: whether to draw but one series of each family: that of most sizes, and of several the first by name.
    """
    import altair as alt

    cells = best(rows)
    several = cells.groupby("series")["n_params"].transform("nunique") > 1
    cells = cells[several] if several.any() else cells
    if one:
        sizes = cells.groupby(["family", "series"])["n_params"].nunique().reset_index()
        first = sizes.sort_values(["n_params", "series"], ascending=[False, True]).drop_duplicates("family")
        cells = cells[cells["series"].isin(first["series"])]
    points = cells[["series", "model", "format", "method", "bits", "nll"]].assign(MiB=cells["model_bits"] / 8 / 1024**2)
    names, present = sorted(points["series"].unique()), sorted(int(bits) for bits in points["bits"].unique())
    colors = alt.Scale(domain=present, range=[scales.BITS.get(bits, "#7a828e") for bits in present])
    panels = []
    for name in names:
        own = points[points["series"] == name].sort_values(["MiB", "nll"], kind="stable")
        low, high = float(own["MiB"].min()) / 1.15, float(own["MiB"].max()) * 1.15
        x = alt.X("MiB:Q", title="whole model, MiB", axis=scales.log_axis(low, high),
                  scale=alt.Scale(type="log", domain=[low, high], nice=False))  # fmt: skip
        whole = own[own["bits"] == 16]["nll"]
        top = float(whole.max()) + 0.5 if len(whole) else float(own["nll"].max())
        span = (float(own["nll"].min()) - 0.05, min(top, float(own["nll"].max()) + 0.05))
        y = alt.Y("nll:Q", title="loss, nats per token", scale=alt.Scale(domain=list(span), nice=False))
        color = alt.Color("bits:O", scale=colors, title="bits", legend=alt.Legend(symbolOpacity=1))
        base = alt.Chart(scales.plain(own)).encode(x=x, y=y, color=color)
        layers = [base.mark_line(strokeWidth=1.8, clip=True), base.mark_circle(size=34, opacity=1, clip=True)]
        panels.append(alt.layer(*layers).properties(width=300, height=230, title=name))
    text = str(rows["text"].iloc[0])
    title = alt.TitleParams(
        "At a given size, how many bits?",
        subtitle=f"{words.plural(cells['model'].nunique(), 'model')} on {text}; a point is a model in the best "
        "format and method of so many bits",
        offset=14,
    )
    drawn = alt.concat(*panels, columns=3, title=title).configure(**scales.theme())
    whole_figure: alt.TopLevelMixin = drawn.properties(padding=14)
    return whole_figure
