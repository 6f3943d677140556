"""Loss against all bits of a model: at a given size, how many bits a weight are best?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitlaw.card.base import Drawing, Made, Section, Study, interval, table, verdict
from bitlaw.report.total_bits import best, figure, shares

if TYPE_CHECKING:
    import pandas as pd


def make(study: Study) -> Made | None:
    """Return the figure, and how often each precision is best."""
    rows = study.plain[study.plain["finite"].to_numpy("bool")]
    found = {str(text): shares(best(part)) for text, part in rows.groupby("text", sort=True)}
    found = {text: part for text, part in found.items() if len(part)}
    if study.text not in found:
        return None
    bits = sorted({int(name) for part in found.values() for name in part["bits"]})
    lines = [(text, *(_share(part, one) for one in bits)) for text, part in found.items()]
    said = table(("text", *(f"{one} bits" for one in bits)), lines)
    chart = figure(study.own)
    shows = "Loss against the bits of the whole model, a line for each precision"
    return Made(f"{said}\n\n{verdict(study, 'four_bits', 'three_bits')}", (Drawing("loss", shows, chart),))


def _share(part: pd.DataFrame, bits: int) -> str:
    own: Any = part[part["bits"] == bits]
    return interval(own["share"], own["series"])


SECTION = Section(
    order=30,
    title="Few bits or few parameters",
    says=(
        "Dettmers and Zettlemoyer 2023 ask it so: with so many bits for the whole model, is a larger one in fewer "
        "bits better than a smaller one in more? A point is the best cell of a model at that precision, over "
        "formats and methods; embeddings stay in 16 bits and count. The table has the share of budgets (evenly "
        "spaced in the logarithm, where at least two precisions reach) at which a precision has the lowest loss, "
        "its interval over series of sizes. The claim below it compares formats that are alike in all but their "
        "bits."
    ),
    make=make,
)
