"""What a method gains over rounding to nearest."""

from __future__ import annotations

from bitlaw.card.base import Drawing, Made, Section, Study, interval, method_names, table, verdict
from bitlaw.card.charts import FEWEST, STEP, Axis, Look, lines
from bitlaw.claims.rows import pairs, prepared, ratio, whole
from bitlaw.report import scales, words


def make(study: Study) -> Made | None:
    """Return the ratio of losses added for each method and number of bits."""
    import pandas as pd

    cells = whole(prepared(study.own))
    nearest = cells[cells["method"] == "rtn"]
    others = cells[(cells["method"] != "rtn") & cells["bits"].notna()]
    if nearest.empty or others.empty:
        return None
    rows, points = [], []
    every = sorted({int(bits) for bits in others["bits"]})
    db = nearest.groupby(["model", "format"])["sqnr_db"].mean() if "sqnr_db" in nearest else None
    others = others.assign(name=method_names(others))
    for name, own in others.groupby("name", sort=True):
        # Proxy keeps some inputs in 16 bits, so its share of the weights in the format is not that of the others.
        found = pairs(cells, own, nearest, ("method", "settings", "q"))
        bits = found["bits"].astype(int)
        parts = [found[bits == one] for one in every]
        rows.append((str(name), *(interval(ratio(part), part["model"], ratio=True) for part in parts)))
        if db is None:
            continue
        whole_cells = own.merge(nearest, on=["model", "format", "evaluation"], suffixes=("", "_rtn"))
        saved = whole_cells.assign(saved=whole_cells["added_rtn"] - whole_cells["added"])
        step = (saved["sqnr_db_rtn"] / STEP).round() * STEP
        middle = saved.groupby(step)["saved"].agg(["mean", "size"]).reset_index()
        points.append(middle[middle["size"] >= FEWEST].assign(method=str(name)))
    said = table(("method", *(f"{one} bits" for one in every)), rows)
    drawn: tuple[Drawing, ...] = ()
    if points and any(len(part) for part in points):
        middle = pd.concat(points, ignore_index=True).rename(columns={"sqnr_db_rtn": "db", "mean": "saved"})
        paint = {words.method(name): color for name, color in scales.METHODS.items()}
        known = set(middle["method"]) <= set(paint)
        look = Look("method", "method", paint=paint if known else None, reverse=True)
        x, y = Axis("db", "SQNR of the weights rounded to nearest, dB"), Axis("saved", "nats saved over RTN, mean")
        chart = lines(middle, x, y, look, title="What methods gain", below=f"means over all cells within {STEP:g} dB")
        drawn = (Drawing("gain", "Nats that a method saves over rounding to nearest, against the SQNR", chart),)
    return Made(f"{said}\n\n{verdict(study, 'gptq_window', 'gptq_outputs', 'proxy')}", drawn)


SECTION = Section(
    order=80,
    title="Methods",
    says=(
        "Losses added over those of rounding to nearest, the same model and format: geometric means; below 1 the "
        "method helps."
    ),
    make=make,
)
