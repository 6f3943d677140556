"""The loss added against training tokens: do models that were trained longer lose more?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from bitlaw.card.base import Drawing, Made, Section, Study, interval, method_names, table
from bitlaw.card.charts import Axis, Look, lines
from bitlaw.claims.rows import LEAST, prepared, slopes, whole
from bitlaw.report import scales, words

if TYPE_CHECKING:
    import pandas as pd

BROKEN = 1.0
"""Losses above this many nats are those of broken models, which end near a guess whatever their training."""


def make(study: Study) -> Made | None:
    """Return the exponent of the training tokens, at equal size, format and method."""
    cells = whole(prepared(study.own)).dropna(subset=["n_tokens"])
    cells = cells[(cells["added"] > LEAST) & (cells["added"] < BROKEN) & cells["bits"].notna()]
    cells = cells.assign(log_d=_logs(cells["n_tokens"]), size=cells["log_n"].round(3))
    # A family that has sizes trained on several numbers of tokens is what tells.
    several = cells.groupby(["family", "size"])["log_d"].transform("nunique") > 1
    cells = cells[several].assign(name=method_names)
    if cells.empty:
        return None
    by = ("family", "size", "method", "settings", "format")
    rows = []
    for (method, bits), own in cells.groupby(["name", "bits"], sort=True):
        found = slopes(own, by, "log_d", lambda part: _logs(part["added"]))
        if len(found):
            groups = [f"{family} {size}" for family, size in zip(found["family"], found["size"], strict=True)]
            value = interval(found["slope"], groups)
            rows.append((str(method), f"{int(float(str(bits)))}", f"{len(found):,}", value))
    said = table(("method", "bits", "series", "exponent of the training tokens"), rows)
    return Made(said, (_drawn(cells),))


def _logs(values: pd.Series[Any]) -> pd.Series[float]:
    import numpy as np

    return cast("pd.Series[float]", np.log10(values.astype("float64")))


def _drawn(cells: pd.DataFrame) -> Drawing:
    # One method is shown: others differ in height, hardly in slope.
    cells = cells[cells["method"] == ("rtn" if (cells["method"] == "rtn").any() else cells["method"].mode().iloc[0])]
    tokens = cells["n_tokens"].astype("float64") / cells["n_params"].astype("float64")
    cells = cells.assign(ratio=tokens, panel=[f"{words.count(n)} parameters" for n in cells["n_params"]])
    # Formats that are whole at every number of tokens of their size, so that each median is over the same formats.
    by = ["family", "panel", "format"]
    whole_ = cells.groupby(by)["ratio"].transform("nunique")
    cells = cells[whole_ == cells.groupby(["family", "panel"])["ratio"].transform("nunique")]
    middle = cells.groupby(["family", "panel", "bits", "ratio"], sort=True)["added"].median().reset_index()
    middle = middle.assign(bits=middle["bits"].astype(int), line=middle["family"] + middle["bits"].astype(str))
    look = Look("bits", "bits", paint=scales.BITS, panel="panel", line="line")
    x, y = Axis("ratio", "training tokens a parameter", log=True), Axis("added", "median added loss, nats", log=True)
    below = f"medians over formats, by {words.method(str(cells['method'].iloc[0]))}" if len(cells) else ""
    chart = lines(middle, x, y, look, title="Loss added and training tokens", below=below)
    return Drawing("added", "Median loss added against training tokens for each parameter, a panel a size", chart)


SECTION = Section(
    order=120,
    title="Training longer, losing more",
    says=(
        "Kumar et al. 2024: the loss that quantization adds grows with the training tokens of a model, as a power "
        "of them. The exponent is the slope of the logarithms at equal size, format and method; cells that lose "
        f"more than {BROKEN:g} nat are left out."
    ),
    make=make,
)
