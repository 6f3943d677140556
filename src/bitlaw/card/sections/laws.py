"""The laws of the loss added, compared on what they did not see."""

from __future__ import annotations

from bitlaw.card.base import SEED, Made, Section, Study
from bitlaw.laws import LAWS
from bitlaw.laws.compare import compare
from bitlaw.report.comparison import digest, trust


def make(study: Study) -> Made | None:
    """Return each law's error relative to that of the same cell of other models, and the best for each group."""
    found = compare(study.plain, dict(LAWS), seed=SEED)
    if not found["groups"]:
        return None
    parts = [found["rule"][:1].upper() + found["rule"][1:], digest([found]), trust([found])]
    parts += [f"{len(found['not_compared'])} groups have too few cells."] if found["not_compared"] else []
    return Made("\n\n".join(parts))


SECTION = Section(
    order=130,
    title="Which law to trust",
    says=(
        "Laws of the loss added, each fitted to the same cells and asked for those that were held out: a family, "
        "the largest models, the lowest bits, a kind of format. First each law's error as a share of that of the "
        "same cell of other models (geometric mean, in brackets the number of groups), then the best of all for "
        "each group; `clear` where resampled models agree. [The laws](laws.md) explains them."
    ),
    make=make,
    slow=True,
)
