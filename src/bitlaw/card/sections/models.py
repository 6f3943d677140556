"""The models: sizes, training, and their unquantized losses."""

from __future__ import annotations

from bitlaw.card.base import Drawing, Made, Section, Study, number, table
from bitlaw.card.charts import Axis, Look, lines
from bitlaw.reference.shipped import CURVES
from bitlaw.report import words
from bitlaw.series import series
from bitlaw.table import UNQUANTIZED

MOST_POINTS = 60


def make(study: Study) -> Made:
    """Return a line a model, and the training curves if there are any."""
    import pandas as pd

    rows = study.plain[study.plain["format"] == UNQUANTIZED]
    texts = sorted(str(text) for text in rows["text"].unique())
    losses = rows.pivot_table(index="model", columns="text", values="nll", aggfunc="mean")
    models = rows.drop_duplicates("model").sort_values(["family", "n_params", "n_tokens", "model"])
    steps = study.plain.groupby("model")["step_db"].first()
    said = []
    for one in models.to_dict("records"):
        tokens = one["n_tokens"]
        known = not pd.isna(tokens)
        own = [number(losses[text][one["model"]], 4) for text in texts]
        last = [] if steps.isna().all() else [number(steps[one["model"]], 3)]
        trained = words.count(tokens) if known else "", f"{tokens / one['n_params']:,.0f}" if known else ""
        said.append((one["model"], str(one["family"]), words.count(one["n_params"]), *trained, *own, *last))
    head = ["model", "family", "parameters", "training tokens", "tokens a parameter"]
    head += [f"loss, {text}" for text in texts] + ([] if steps.isna().all() else ["loss climbs at, dB"])
    return Made(table(head, said), _curves(study))


def _curves(study: Study) -> tuple[Drawing, ...]:
    points = study.beside(CURVES)
    if points is None:
        return ()
    models = study.plain.drop_duplicates("model").assign(series=series)
    points = points.merge(models[["model", "series", "n_params"]], on="model", how="inner").sort_values(
        ["model", "tokens"]
    )
    points = points[points["tokens"] > 0]
    step = (
        points.groupby("model").cumcount() % (points.groupby("model")["tokens"].transform("size") // MOST_POINTS + 1)
    ) == 0
    points = points[step].assign(size=lambda part: [words.count(n) for n in part["n_params"]])
    look = Look("size", "parameters", panel="series", line="model", columns=3, marks="lines")
    chart = lines(points, Axis("tokens", "tokens seen", log=True), Axis("loss", "training loss, nats", log=True), look,
                  title="Training")  # fmt: skip
    return (Drawing("training", "Training loss against tokens seen, a line for each model", chart),)


SECTION = Section(
    order=20,
    title="The models",
    says=(
        "Losses of the unquantized models. Where the loss climbs is the signal to noise ratio of the weights at "
        "which random noise begins to cost."
    ),
    make=make,
)
