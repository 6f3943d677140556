"""Mixed precision: the loss against the share of the weights in few bits."""

from __future__ import annotations

import math

from bitlaw.card.base import Drawing, Made, Section, Study, number, table, verdict
from bitlaw.card.charts import Axis, Look, lines
from bitlaw.report import mixed

MOST_PANELS = 9


def make(study: Study) -> Made | None:
    """Return the means over models of the best and the mean of random trials, and of other selections."""
    contests = mixed.contests(study.own)
    points = mixed.curve_points(contests)
    if points.empty:
        return None
    names = sorted(points["select"].unique(), key=lambda name: (name not in mixed.TRIAL_NAMES, name))
    each = points.assign(near=points["share"].round(2)).pivot_table(
        index=["panel", "near"], columns="select", values="added", aggfunc="mean"
    )
    rows = []
    for losses in each.reset_index().to_dict("records"):
        own = ("" if math.isnan(losses[name]) else number(losses[name]) for name in names)
        rows.append((str(losses["panel"]), f"{losses['near']:g}", *own))
    said = table(("mix", "share in the format", *names), rows)
    lines_ = "\n".join(f"- {line}" for line in mixed.verdicts(study.own))
    panels = list(points.groupby("panel").size().sort_values(ascending=False, kind="stable").index[:MOST_PANELS])
    look = Look("select", "mix by", panel="panel", columns=3)
    x, y = Axis("share", "share of the weights in the format"), Axis("added", "added loss, nats per token", log=True)
    drawn = points[points["panel"].isin(panels) & (points["added"] > 0)]
    chart = lines(
        drawn, x, y, look, title="Mixed precision", below="means over the models that are finite in all of a panel"
    )
    claims = verdict(study, "mixed_size", "granularity")
    text = "\n\n".join(part for part in (said, lines_, claims) if part)
    return Made(text, (Drawing("shares", "Loss added against the share of the weights in the format", chart),))


SECTION = Section(
    order=90,
    title="Mixed precision",
    says=(
        "Cao et al. 2024: only a share of the weights is in the format, the rest in higher precision, chosen by "
        "layers or by single matrices, at random or by what quantizing each costs."
    ),
    make=make,
)
