"""What a section of a data card is, and the study that it is made from."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitlaw.claims.base import mean
from bitlaw.predictor.cells import evaluations
from bitlaw.predictor.training import EVALUATION, REFERENCE
from bitlaw.reference import shipped
from bitlaw.report import words
from bitlaw.report.comparison import table as markdown
from bitlaw.table import UNQUANTIZED, is_mixed

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

SEED = 0
"""Of resamples, draws and fits: a card is the same each time."""


@dataclass(frozen=True)
class Drawing:
    """A figure of a section: the name of its file, what it shows, in a phrase, and the chart."""

    name: str
    shows: str
    chart: alt.TopLevelMixin


@dataclass(frozen=True)
class Made:
    """A section as it was made: its numbers in Markdown, and its figures."""

    text: str
    drawings: tuple[Drawing, ...] = ()


@dataclass(frozen=True)
class Section:
    """A section of a data card.

    Attributes:
        order: its place on the page.
        title: its heading.
        says: what is shown and how to read it, whatever came out; on the page once, then the reader's own.
        make: makes it; ``None`` where the study has nothing of the kind.
        slow: whether it takes more than seconds at 35,000 cells, so that a test does not make it again.
    """

    order: int
    title: str
    says: str
    make: Callable[[Study], Made | None]
    slow: bool = False


@dataclass(frozen=True)
class Study:
    """A shipped study.

    Attributes:
        path: its results table; landscapes and training curves lie beside it.
    """

    path: Path

    @classmethod
    def named(cls, name: str) -> Study:
        """Return the study of a file, or the one that comes with bitlaw. Raises ``UserError`` if it is not there."""
        path = Path(str(files("bitlaw.reference") / "data" / shipped.RESULTS)) if name == REFERENCE else Path(name)
        study = cls(path)
        if name == REFERENCE:
            shipped.load()  # says that it does not come with this bitlaw
        assert len(study.table.columns)
        return study

    def beside(self, name: str) -> pd.DataFrame | None:
        """Return a table that lies beside the results, ``None`` if it is not there."""
        path = self.path.parent / name
        return shipped.read(path) if path.is_file() else None

    @cached_property
    def table(self) -> pd.DataFrame:
        """The results, one row a cell."""
        return shipped.read(self.path)

    @cached_property
    def plain(self) -> pd.DataFrame:
        """The results without how each cell was made."""
        return shipped.plain(self.table)

    @cached_property
    def evaluation(self) -> str:
        """The evaluation that figures are of: that on the text of the published results, or the one with most cells."""
        known = [str(name) for name in evaluations(self.plain).index]
        text = EVALUATION.partition("@")[0]
        return next((name for name in known if name.partition("@")[0] == text), known[0])

    @property
    def text(self) -> str:
        """The text of ``evaluation``."""
        return self.evaluation.partition("@")[0]

    @cached_property
    def own(self) -> pd.DataFrame:
        """The rows of ``evaluation`` with a finite loss."""
        label, _, window = self.evaluation.partition("@")
        rows = self.plain[(self.plain["text"] == label).to_numpy("bool")]
        rows = rows[(rows["window"].astype("string") == window).fillna(False).to_numpy("bool")] if window else rows
        return rows[rows["finite"].to_numpy("bool")].reset_index(drop=True)

    @cached_property
    def whole(self) -> pd.DataFrame:
        """The rows of ``own`` in which all weights are in one precision."""
        return self.own[~is_mixed(self.own)].reset_index(drop=True)

    @cached_property
    def quantized(self) -> pd.DataFrame:
        """The rows of ``whole`` that are quantized."""
        return self.whole[self.whole["format"] != UNQUANTIZED].reset_index(drop=True)

    @cached_property
    def _claims(self) -> dict[str, dict[str, Any]]:
        return {}

    def claim(self, name: str) -> dict[str, Any]:
        """Return what became of a claim on all texts, as ``bitlaw.claims.run`` says it; each is tested once."""
        from bitlaw.claims.run import run

        if name not in self._claims:
            (self._claims[name],) = run(self.plain, SEED, [name])
        return self._claims[name]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return markdown(head, rows)


def number(value: float, digits: int = 3) -> str:
    """Return a number in a few digits."""
    return words.number(value, digits)


def interval(values: Iterable[float], clusters: Iterable[object], *, ratio: bool = False) -> str:
    """Return the mean of ``values`` with its 95 % interval over resampled ``clusters``; of few values the mean alone.

    Args:
        values: numbers; of logarithms if ``ratio``, whose mean is then said as a ratio.
        clusters: what errs together with what, such as models.
        ratio: whether to take the exponential of what comes out.
    """
    own, which = list(values), list(clusters)
    found = mean(own, which, SEED)
    shown = math.exp if ratio else float
    if found is None:
        return number(shown(sum(own) / len(own))) if own and all(map(math.isfinite, own)) else words.MISSING
    return f"{number(shown(found.value))} ({number(shown(found.low))} to {number(shown(found.high))})"


def method_names(rows: pd.DataFrame) -> pd.Series[str]:
    """Return for each row of a table its method, with those settings that tell it from others of the same method.

    ``GPTQ, sequential`` stands for a setting that is on, and nothing for one that is off.
    """
    import pandas as pd

    pairs = rows[["method", "settings"]].astype(str).drop_duplicates()
    said: dict[tuple[str, str], str] = {}
    for method, part in pairs.groupby("method", sort=True):
        own = {text: json.loads(text) for text in part["settings"]}
        varied = sorted(
            {name for one in own.values() for name in one if len({str(o.get(name)) for o in own.values()}) > 1}
        )
        for text, one in own.items():
            told = [name if one[name] is True else f"{name} {one[name]}" for name in varied if one.get(name, False)]
            said[str(method), text] = ", ".join([words.method(str(method)), *told])
    keys = zip(rows["method"].astype(str), rows["settings"].astype(str), strict=True)
    return pd.Series([said[key] for key in keys], index=rows.index, dtype=object)


def verdict(study: Study, *names: str) -> str:
    """Return what became of claims, a line each."""
    return "\n".join(_verdict(study.claim(name)) for name in names)


def _verdict(one: dict[str, Any]) -> str:
    said = f"- {one['title']} ({one['paper']}): **{one['verdict']}**"
    if one["statistic"] is not None:
        value = f"{number(one['statistic'])}, 95 % interval {number(one['low'])} to {number(one['high'])}"
        said += f"; {one['measure']}: {value}, n = {one['n']:,}; holds if {one['rule']}"
    return f"{said}; {one['why']}."
