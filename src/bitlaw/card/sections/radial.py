"""The loss along random directions around the weights."""

from __future__ import annotations

from bitlaw.card.base import Drawing, Made, Section, Study, verdict
from bitlaw.card.charts import Axis, Look, lines
from bitlaw.reference.shipped import LANDSCAPE, landscapes
from bitlaw.report.landscape import radial_points
from bitlaw.series import series

FARTHEST = 40.0
"""dB; beyond it nothing is added."""


def make(study: Study) -> Made | None:
    """Return the profiles of all models."""
    found = study.beside(LANDSCAPE)
    if found is None:
        return None
    points = radial_points(landscapes(found), study.plain)
    names = study.plain.drop_duplicates("model").assign(series=series).set_index("model")["series"]
    points = points[points["snr"] <= FARTHEST].assign(series=lambda part: part["model"].map(names).fillna("no family"))
    look = Look("size", "parameters", panel="series", line="model", columns=3, reverse=True, marks="lines")
    x, y = Axis("snr", "signal to noise of the weights, dB"), Axis("added", "added loss, nats per token")
    chart = lines(points, x, y, look, title="Around the weights", below="means over random directions")
    return Made(verdict(study, "flatter"), (Drawing("profiles", "Loss that random noise adds, a line a model", chart),))


SECTION = Section(
    order=70,
    title="Around the weights",
    says=("The loss that random noise adds to a model, against its strength."),
    make=make,
)
