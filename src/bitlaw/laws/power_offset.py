"""Loss against size: L(N) = E + A N^-alpha, with the offset E shared by families that read the same text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from bitlaw.laws.base import Constant, Law, LawSettings, Problem, Selection
from bitlaw.series import series
from bitlaw.table import UNQUANTIZED

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.laws.base import Array, Values


class Settings(LawSettings):
    """Settings of ``power_offset``.

    Attributes:
        own_offset_at: number of different sizes from which on a family gets an offset E of its own.
    """

    own_offset_at: int = Field(5, ge=4)


E = Constant("E", "E", "entropy of the text: what no size removes, nats per token", (0.0, 20.0), (0.0, 5.0))
A = Constant(
    "A", "A", "scale of the reducible loss, nats per token", (1e-6, 1e12), (1e-1, 1e4), log=True, per_group=True
)
ALPHA = Constant("alpha", r"\alpha", "exponent of size", (0.0, 3.0), (0.05, 1.0), per_group=True)


def function(inputs: Values, constants: Values) -> Array:
    """Return E + A N^-alpha in nats per token."""
    return constants["E"] + constants["A"] * inputs["n_params"] ** -constants["alpha"]


def select(selection: Selection, settings: Settings) -> list[Problem]:
    """Return the problems: families with many sizes one by one, the others of the same text together.

    E is the entropy of the text as its tokens spell it, so families share it if they were evaluated on the same text
    and windows and the text has the same number of tokens for them, which tells that the tokenizer is the same.
    """
    selection.drop(selection.rows["format"] != UNQUANTIZED, "a quantized cell")
    selection.drop(selection.rows["family"].isna(), "the model has no family")
    selection.rows = selection.rows.assign(family=series(selection.rows))
    problems = []
    same = ["text", "text_sha256", "window", "stride", "eval_tokens"]
    for (text, _, window, stride, tokens), rows in selection.rows.groupby(same, sort=True, dropna=False):
        by = {"text": str(text), "window": str(window), "stride": str(stride), "tokens": str(tokens)}
        problems += _of_text(selection, by, rows, settings)
    return problems


def _of_text(selection: Selection, by: dict[str, str], rows: pd.DataFrame, settings: Settings) -> list[Problem]:
    sizes = rows.groupby("family")["n_params"].nunique()
    # Where the number of tokens is not known, nothing tells that families share a tokenizer.
    own_offset_at = 2 if rows["eval_tokens"].isna().all() else settings.own_offset_at
    for family in sorted(sizes[sizes < 2].index):
        reason = "one size only: A and alpha need at least two sizes of a family"
        selection.refuse({**by, "family": family}, int((rows["family"] == family).sum()), reason)
    alone = sorted(sizes[sizes >= own_offset_at].index)
    pooled = sorted(sizes[(sizes >= 2) & (sizes < own_offset_at)].index)
    problems = [_problem({**by, "family": family}, rows[rows["family"] == family]) for family in alone]
    if pooled:
        note = (
            f"E is one constant for {len(pooled)} families ({', '.join(pooled)}): the same text under the same "
            f"tokenizer has one entropy, and a family needs {settings.own_offset_at} sizes for an E of its own."
        )
        several = rows[rows["family"].isin(pooled)]
        problems.append(_problem({**by, "family": " + ".join(pooled)}, several, note if len(pooled) > 1 else ""))
    return problems


def _problem(by: dict[str, str], rows: pd.DataFrame, note: str = "") -> Problem:
    notes = [note] if note else []
    mixed = rows.groupby("family")["n_tokens"].nunique(dropna=False)
    if uneven := sorted(mixed[mixed > 1].index):
        notes.append(f"Sizes of {', '.join(uneven)} differ in training tokens, which this law leaves out.")
    return Problem(by, rows, (E, A, ALPHA), group="family", notes=tuple(notes))


LAW = Law(
    name="power_offset",
    title="Loss against model size",
    formula=r"L(N) = E + A \, N^{-\alpha}",
    source="Hoffmann et al. 2022, arXiv:2203.15556, approach 3, at one number of training tokens",
    target="nll",
    inputs=("n_params",),
    constants=(E, A, ALPHA),
    function=function,
    select=select,
    settings=Settings,
    curve="n_params",
)
