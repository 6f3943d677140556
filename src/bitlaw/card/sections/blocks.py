"""The size of a block that shares a scale."""

from __future__ import annotations

from bitlaw.card.base import Drawing, Made, Section, Study, interval, table, verdict
from bitlaw.card.charts import Axis, Look, lines
from bitlaw.claims.rows import LEAST, pairs, prepared, ratio, whole
from bitlaw.report import scales

MOST_PANELS = 6


def make(study: Study) -> Made | None:
    """Return what the smallest blocks save, by kind and bits."""
    cells = whole(prepared(study.own))
    cells = cells[cells["block"].str.isdigit() & (cells["options"] == "")]
    several = cells.groupby(["kind", "bits"])["block"].transform("nunique") > 1
    cells = cells[several].assign(size=lambda part: part["block"].astype("int64"))
    if cells.empty:
        return None
    rows = []
    for (kind, bits), own in cells.groupby(["kind", "bits"], sort=True):
        first, last = own["size"].min(), own["size"].max()
        found = pairs(own, own[own["size"] == first], own[own["size"] == last], ("block",))
        if len(found):
            value = interval(ratio(found), found["model"], ratio=True)
            rows.append((str(kind), f"{int(float(str(bits)))}", str(first), str(last), value))
    said = table(("element", "bits", "smallest block", "largest", "ratio of the losses added"), rows)
    nearest = cells[cells["method"] == "rtn"] if (cells["method"] == "rtn").any() else cells
    middle = nearest.groupby(["kind", "bits", "size"], sort=True)["added"].median().reset_index()
    kinds = list(middle.groupby("kind").size().sort_values(ascending=False, kind="stable").index[:MOST_PANELS])
    middle = middle[middle["kind"].isin(kinds) & (middle["added"] > LEAST)].assign(
        bits=lambda part: part["bits"].astype(int)
    )
    look = Look("bits", "bits", paint=scales.BITS, panel="kind", columns=3)
    x, y = (
        Axis("size", "weights that share a scale", log=True),
        Axis("added", "median added loss, nats per token", log=True),
    )
    chart = lines(middle, x, y, look, title="Block sizes", below="the median over models, rounded to nearest")
    drawn = Drawing("sizes", "Median loss added against the size of a block, a line for each number of bits", chart)
    return Made(f"{said}\n\n{verdict(study, 'small_blocks', 'blocks_and_size')}", (drawn,))


SECTION = Section(
    order=50,
    title="Block sizes",
    says=(
        "Losses added with the smallest blocks over those with the largest, the same model, method and kind of "
        "element; below 1 small blocks help. They also take bits for more scales, which the claim counts."
    ),
    make=make,
)
