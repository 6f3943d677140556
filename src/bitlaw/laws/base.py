"""What a law is: a declaration of a closed form, its constants, and the rows that it is fitted to.

A law says nothing about how it is fitted; ``bitlaw.laws.fit`` fits every one of them in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bitlaw.errors import UserError, unknown
from bitlaw.laws.inputs import check, derive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    import pandas as pd

    from bitlaw.laws.inputs import Derived

    Array = np.ndarray[Any, np.dtype[np.float64]]
    Values = Mapping[str, Array]


class LawSettings(BaseModel):
    """Settings that every law has.

    Attributes:
        text: label of the evaluation text to fit on; ``None`` fits each text of the table on its own.
        huber: residuals of log values up to this size count squared, larger ones only linearly.
        starts: local optimizations, from the best of many random starting points.
        interval: coverage of the reported intervals.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str | None = None
    huber: float = Field(0.02, gt=0)
    starts: int = Field(16, ge=1)
    interval: float = Field(0.9, gt=0, lt=1)


@dataclass(frozen=True)
class Constant:
    """One constant of a law.

    Attributes:
        name: identifier, used in code and results.
        latex: symbol.
        meaning: one phrase.
        bounds: smallest and largest value allowed.
        start: range that starting points are drawn from.
        log: whether the logarithm is what is fitted (then bounds and start are positive).
        per_group: one value for each group of a problem instead of one for all.
        published: value in the law's source, for comparison.
        held: value that it is fixed at; ``None`` if it is fitted.
        fixed: values of groups that are known, where ``per_group``.
    """

    name: str
    latex: str
    meaning: str
    bounds: tuple[float, float]
    start: tuple[float, float]
    log: bool = False
    per_group: bool = False
    published: float | None = None
    held: float | None = None
    fixed: Mapping[str, float] = field(default_factory=dict)

    def hold(self, value: float) -> Constant:
        """Return this constant fixed at ``value``."""
        return replace(self, held=value)

    def hold_published(self, reason: str, notes: list[str]) -> Constant:
        """Return this constant fixed at the published value, and say so in ``notes``."""
        assert self.published is not None
        notes.append(f"{self.name} is held at the published {self.published:g}: {reason}.")
        return self.hold(self.published)


@dataclass(frozen=True)
class Problem:
    """One fit: rows that share constants.

    Attributes:
        by: what the rows have in common, such as the text and the method.
        rows: rows of the results table; the target column is positive and finite.
        constants: constants of the law, some perhaps held.
        group: column whose values have constants of their own where ``Constant.per_group``; ``None`` for no groups.
        notes: what a reader must know about this fit.
    """

    by: Mapping[str, str]
    rows: pd.DataFrame
    constants: tuple[Constant, ...]
    group: str | None = None
    notes: tuple[str, ...] = ()


@dataclass
class Selection:
    """Rows that are left for a law, and a record of those that are not.

    Attributes:
        rows: what is left.
        excluded: number of rows by reason, in the order of the rules.
        not_fitted: groups of rows that cannot be fitted: what they are, how many rows, and the reason.
    """

    rows: pd.DataFrame
    excluded: dict[str, int] = field(default_factory=dict)
    not_fitted: list[dict[str, Any]] = field(default_factory=list)

    def drop(self, mask: pd.Series[bool], reason: str) -> None:
        """Exclude the rows where ``mask`` is true and count them under ``reason``."""
        if count := int(mask.sum()):
            self.excluded[reason] = self.excluded.get(reason, 0) + count
            self.rows = self.rows[~mask]

    def refuse(self, by: Mapping[str, str], rows: int, reason: str) -> None:
        """Record that the ``rows`` rows of the sub-group ``by`` are not fitted."""
        self.not_fitted.append({"by": dict(by), "rows": rows, "reason": reason})


@dataclass(frozen=True)
class Law:
    r"""A closed form.

    Attributes:
        name: its name in studies; the name of its module.
        title: what it relates.
        formula: LaTeX with ``\frac``, ``^``, ``_``, Greek letters and ``\exp`` only.
        source: paper and equation.
        target: column that it predicts.
        inputs: columns that it predicts from.
        constants: its constants.
        function: ``function(inputs, constants) -> predicted target``; takes arrays that broadcast against each other.
        select: ``select(selection, settings) -> problems``; narrows the rows, groups them, and records
            what it leaves out.
        settings: class of its settings.
        resample: what the bootstrap draws: ``residuals``, or whole groups of rows by the named column.
        damage: ``damage(inputs, constants) -> delta_nll`` that the law predicts, by which laws are compared; ``None``
            for a law of the unquantized loss. A law of ``delta_nll`` is its own.
        pool: ``pool(rows) -> constants, notes``: how the law is fitted to the rows of one text and method whatever
            their formats, for the comparison; ``None`` for a law of the unquantized loss.
        group: column whose values have constants of their own when the law is pooled.
        derived: inputs that follow from other columns, where the table does not have them.
        plain: what fitted constants mean, as the end of a sentence; gets by name those that have no groups and that
            the data determine, and is empty if these tell nothing.
        curve: input along which a fitted curve with its band is recorded; ``None`` for no curve.
    """

    name: str
    title: str
    formula: str
    source: str
    target: str
    inputs: tuple[str, ...]
    constants: tuple[Constant, ...]
    function: Callable[[Values, Values], Array]
    select: Callable[[Selection, Any], list[Problem]]
    settings: type[LawSettings] = LawSettings
    resample: Literal["residuals", "model"] = "residuals"
    damage: Callable[[Values, Values], Array] | None = None
    pool: Callable[[pd.DataFrame], tuple[tuple[Constant, ...], tuple[str, ...]]] | None = None
    group: str | None = None
    derived: Mapping[str, Derived] = field(default_factory=dict)
    plain: Callable[[Mapping[str, float]], str] | None = None
    curve: str | None = None


def start(law: Law, table: pd.DataFrame, settings: LawSettings) -> Selection:
    """Return the rows of ``table`` that have what ``law`` needs; the rest is recorded as excluded.

    Raises:
        UserError: a column is absent, the table is empty, has a cell twice or two texts under one label, or
            ``settings.text`` names no text of it.
    """
    import pandas as pd

    check(table)
    table = derive(table, law.derived)
    for column in (law.target, *law.inputs):
        if column not in table.columns:
            raise UserError(f"law '{law.name}' needs the column '{column}', which the table does not have")
    if table.empty:
        raise UserError(f"law '{law.name}' has nothing to fit: the table has no rows")
    if settings.text is not None and settings.text not in set(table["text"]):
        raise unknown("text", settings.text, set(table["text"]), place=f"laws.{law.name}.text")
    selection = Selection(table)
    if settings.text is not None:
        selection.drop(table["text"] != settings.text, f"not the text '{settings.text}'")
    selection.drop(~selection.rows["finite"], "the loss is not finite")
    for column in law.inputs:
        numbers = pd.to_numeric(selection.rows[column]).astype("float64")
        if len(numbers) and numbers.isna().all():
            selection.refuse({}, len(numbers), f"{column} has no value in any row that is left")
        selection.drop(numbers.isna(), f"{column} is missing")
    return selection
