"""What laws of the unquantized loss, and of the loss through an effective size, have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.laws.base import Constant, LawSettings, Problem, Selection
from bitlaw.laws.damage import ALWAYS, DamageSettings, drop_mixed, drop_saturated, grouped, tokens_vary
from bitlaw.series import lineage, series
from bitlaw.table import UNQUANTIZED

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

SAME = ("text", "text_sha256", "window", "stride", "eval_tokens", "family")


def unquantized(constants: tuple[Constant, ...], *, tokens: bool) -> Callable[[Selection, LawSettings], list[Problem]]:
    """Return the selection of a law of the unquantized loss: a problem for each text and family.

    What models of a family are on one curve says ``bitlaw.series``.

    Args:
        constants: the law's.
        tokens: whether the law needs training tokens that vary independently of the parameters.
    """

    def select(selection: Selection, settings: LawSettings) -> list[Problem]:
        selection.drop(selection.rows["format"] != UNQUANTIZED, "a quantized cell")
        selection.drop(selection.rows["family"].isna(), "the model has no family")
        of = lineage if tokens else series
        selection.rows = selection.rows.assign(family=of(selection.rows))
        found = []
        for values, rows in selection.rows.groupby(list(SAME), sort=True, dropna=False):
            by = {name: str(value) for name, value in zip(SAME, values, strict=True) if name != "text_sha256"}
            if rows["n_params"].nunique() < 2:
                selection.refuse(by, len(rows), "one size only")
            elif tokens and not tokens_vary(rows):
                reason = "the training tokens do not vary independently of the parameters"
                selection.refuse(by, len(rows), reason)
            else:
                found.append(Problem(by, rows, constants))
        return found

    return select


def with_baselines(
    pool: Callable[[pd.DataFrame], tuple[tuple[Constant, ...], tuple[str, ...]]],
    group: str,
    *also: str,
    mixed: bool = False,
) -> Callable[[Selection, DamageSettings], list[Problem]]:
    """Return the selection of a law of the loss through an effective size: quantized cells and their baselines.

    Args:
        pool: the law's ``pool``.
        group: column whose values have constants of their own.
        also: columns that are not mixed, beside text and method.
        mixed: whether the law knows cells in which only a share of the weights was quantized.
    """

    def select(selection: Selection, settings: DamageSettings) -> list[Problem]:
        selection.drop(selection.rows["family"].isna(), "the model has no family")
        if not mixed:
            drop_mixed(selection)
        drop_saturated(selection, settings.saturated_above)
        quantized = selection.rows["format"] != UNQUANTIZED
        baselines = selection.rows[~quantized]
        found = []
        for by, part in grouped(selection.rows[quantized], (*ALWAYS, *also)):
            own = baselines[baselines["model"].isin(part["model"])]
            for name in ("text", "window", "stride"):
                own = own[own[name].astype("string").fillna("<NA>") == by[name]]
            if part["n_params"].nunique() < 2:
                selection.refuse(by, len(part), "one size only: an effective size cannot be seen")
                continue
            import pandas as pd

            rows = pd.concat([part, own], ignore_index=True)
            constants, notes = pool(rows)
            found.append(Problem(by, rows, constants, group, notes))
        return found

    return select
