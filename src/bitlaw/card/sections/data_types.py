"""Kinds of elements at equal bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.card.base import Drawing, Made, Section, Study, interval, method_names, table, verdict
from bitlaw.card.charts import Axis, Look, lines
from bitlaw.claims.rows import LEAST, pairs, prepared, ratio, whole
from bitlaw.table import element_kind

if TYPE_CHECKING:
    import pandas as pd


def make(study: Study) -> Made | None:
    """Return the loss of each kind relative to the one with most cells, and the medians over models."""
    cells = whole(prepared(study.own))
    cells = cells[cells["options"] == ""]
    base = "int" if "int" in set(cells["kind"]) else str(cells["kind"].mode().iloc[0])
    rows = []
    for kind in sorted(set(cells["kind"]) - {base}):
        for bits in sorted({int(value) for value in cells.loc[cells["kind"] == kind, "bits"]}):
            own = cells[cells["bits"] == bits]
            found = pairs(own, own[own["kind"] == kind], own[own["kind"] == base], ("kind",))
            if len(found):
                models = f"{found['model'].nunique()}"
                rows.append((kind, str(bits), interval(ratio(found), found["model"], ratio=True), models))
    head = (f"against {base}", "bits", "ratio of the losses added", "models")
    said = table(head, rows) if rows else f"No kind stands beside {base} in equal blocks."
    return Made(f"{said}\n\n{verdict(study, 'data_types', 'centering')}", (_drawn(study.quantized),))


def _drawn(rows: pd.DataFrame) -> Drawing:
    rows = rows.assign(kind=element_kind(rows), method=method_names(rows))
    by = ["method", "kind", "format"]
    middle = (
        rows.groupby(by, sort=True).agg(bits=("effective_bits", "mean"), added=("delta_nll", "median")).reset_index()
    )
    # Of blocks of several sizes the one that loses least for its bits.
    middle = middle[middle["added"] > LEAST].sort_values(["method", "kind", "bits"], kind="stable")
    middle = middle[middle["added"] < middle.groupby(["method", "kind"])["added"].cummin().groupby(
        [middle["method"], middle["kind"]]).shift(fill_value=float("inf"))]  # fmt: skip
    look = Look("kind", "element", panel="method")
    x, y = Axis("bits", "effective bits per weight"), Axis("added", "median added loss, nats per token", log=True)
    chart = lines(
        middle, x, y, look, title="Data types", below="the median over models; formats that no cheaper one beats"
    )
    return Drawing("added", "Median loss added against effective bits, a line for each kind of element", chart)


SECTION = Section(
    order=40,
    title="Data types",
    says=(
        "How the bits of an element are spent, at equal bits and blocks, the same model and method: the geometric "
        "mean of the ratio of losses added; below 1 the kind loses less."
    ),
    make=make,
)
