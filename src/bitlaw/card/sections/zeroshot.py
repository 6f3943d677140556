"""Zero-shot accuracy."""

from __future__ import annotations

from bitlaw.card.base import Drawing, Made, Section, Study, interval, method_names, table, verdict
from bitlaw.card.charts import Axis, Look, lines
from bitlaw.report import scales
from bitlaw.table import UNQUANTIZED

MOST_POINTS = 400


def make(study: Study) -> Made | None:
    """Return the accuracy lost by bits, and accuracy against loss."""
    cells = study.whole.dropna(subset=["accuracy"])
    if cells.empty:
        return None
    base = cells[cells["format"] == UNQUANTIZED].set_index("model")["accuracy"]
    lost = cells.assign(lost=cells["model"].map(base) - cells["accuracy"])
    lost = lost.assign(name=method_names(lost))
    lost = lost[(lost["format"] != UNQUANTIZED) & lost["lost"].notna()]
    rows = [
        (f"{int(str(bits))}", str(method), f"{len(part):,}", interval(part["lost"], part["model"]))
        for (bits, method), part in lost.groupby(["bits", "name"], sort=True)
    ]
    said = table(("bits", "method", "cells", "share of right answers lost"), rows)
    some = scales.evenly(cells.sort_values(["bits", "nll"], kind="stable"), MOST_POINTS).assign(
        bits=lambda part: part["bits"].astype(int)
    )
    look = Look("bits", "bits", paint=scales.BITS, marks="points")
    x, y = Axis("nll", "loss, nats per token"), Axis("accuracy", "zero-shot accuracy")
    chart = lines(some, x, y, look, title="Accuracy and loss", below=f"at most {MOST_POINTS} cells, evenly chosen")
    drawn = Drawing("loss", "Zero-shot accuracy against loss, a point a cell", chart)
    return Made(f"{said}\n\n{verdict(study, 'accuracy')}", (drawn,))


SECTION = Section(
    order=100,
    title="Zero-shot accuracy",
    says=("The mean over the tasks, and what quantization takes from it. Small models are little better than chance."),
    make=make,
)
