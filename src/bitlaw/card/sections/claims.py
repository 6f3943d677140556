"""The papers' claims, each with its verdict."""

from __future__ import annotations

from bitlaw.card.base import Made, Section, Study
from bitlaw.claims import CLAIMS
from bitlaw.claims.words import markdown


def make(study: Study) -> Made:
    """Return the verdicts as a table."""
    return Made(markdown([study.claim(name) for name in CLAIMS]))


SECTION = Section(
    order=150,
    title="What the papers claim",
    says=(
        "Each claim on all texts of the study; cells are compared within one. [What the papers claim](claims.md) "
        "has the same on published results and on the zoo."
    ),
    make=make,
    slow=True,
)
