"""Mixed precision: selections by sensitivity against random trials that quantize the same share of the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from bitlaw.report import scales, words
from bitlaw.report.html import scroll
from bitlaw.table import is_mixed

if TYPE_CHECKING:
    from collections.abc import Iterable

    import altair as alt
    import pandas as pd

    from bitlaw.report.charts import Place

TRIALS = "random"
TRIAL_NAMES = ("best trial", "mean trial")
# What cells must share to be compared: everything but how their mix was selected.
_SAME = (
    "model", "n_params", "text", "text_sha256", "window", "stride", "format", "method", "settings",
    "calibration_text_sha256", "calibration_samples", "calibration_length", "seed", "mix", "high", "q_target",
)  # fmt: skip


@dataclass(frozen=True)
class Contest:
    """The mixes of one model in one format by one method at one share.

    Attributes:
        model: its name.
        format: of the quantized share.
        method: that quantized it.
        mix: what is chosen as a whole, ``layer`` or ``matmul``.
        q_target: the share asked for.
        q_ratio: the share reached, the same for all of them.
        trials: how many random mixes there are.
        best: ``delta_nll`` of the best of them, nats per token; NaN if none is finite.
        mean: of all of them; NaN if one is not finite.
        ordered: ``delta_nll`` of the mix by each other selection.
    """

    model: str
    format: str
    method: str
    mix: str
    q_target: float
    q_ratio: float
    trials: int
    best: float
    mean: float
    ordered: dict[str, float]


@dataclass(frozen=True)
class Score:
    """How the mixes by one selection do against random trials.

    Attributes:
        select: the selection.
        cases: contests that it is in and that count; see ``scores``.
        lower: in how many its loss is lower than that of the best trial.
        equal: in how many it is the same, as it is when both quantize the same units.
        under_mean: in how many it is lower than the mean of the trials.
        trials: how many trials there are, of each contest.
    """

    select: str
    cases: int
    lower: int
    equal: int
    under_mean: int
    trials: tuple[int, ...]


def contests(table: pd.DataFrame) -> list[Contest]:
    """Return the contests of the mixed cells of ``table``, sorted as in ``Contest``."""
    rows = table[is_mixed(table)]
    found = []
    for values, part in rows.groupby(list(_SAME), sort=True, dropna=False):
        same = dict(zip(_SAME, values, strict=True))
        losses = part.loc[part["select"] == TRIALS, "delta_nll"].to_numpy("float64")
        finite = losses[[math.isfinite(loss) for loss in losses]]
        others = part[part["select"] != TRIALS]
        several = others.groupby("select")["select_settings"].transform("nunique") > 1
        names = others["select"].where(~several, others["select"] + " " + others["select_settings"])
        best = float(finite.min()) if len(finite) else math.nan
        mean = math.nan
        if len(losses) == len(finite) > 0:
            mean = best if losses.max() == best else float(losses.mean())
        ordered = dict(zip(names, others["delta_nll"].astype(float), strict=True))
        share = float(part["q_ratio"].median())
        model, fmt, method, mix = (str(same[name]) for name in ("model", "format", "method", "mix"))
        target = float(str(same["q_target"]))
        found.append(Contest(model, fmt, method, mix, target, share, len(losses), best, mean, ordered))
    return found


def scores(found: Iterable[Contest]) -> list[Score]:
    """Return the score of each selection, sorted by name.

    Contests without trials do not count, nor those in which all trials lost the same: there was nothing to choose.
    """
    with_trials = [contest for contest in found if contest.trials and contest.best != contest.mean]
    result = []
    for select in sorted({name for contest in with_trials for name in contest.ordered}):
        own = [contest for contest in with_trials if select in contest.ordered]
        gaps = [(contest.ordered[select] - contest.best, contest) for contest in own]
        equal = sum(abs(gap) <= 1e-9 for gap, _ in gaps)
        lower = sum(gap < -1e-9 or (math.isnan(gap) and math.isfinite(c.ordered[select])) for gap, c in gaps)
        under = sum(contest.ordered[select] < contest.mean for contest in own)
        trials = tuple(sorted({contest.trials for contest in own}))
        result.append(Score(select, len(own), lower, equal, under, trials))
    return result


def verdicts(table: pd.DataFrame) -> list[str]:
    """Return a sentence for each selection: in how many cases it beats the best of the random trials."""
    lines = []
    for score in scores(contests(table)):
        best = f"best of {words.several([str(count) for count in score.trials])} random mixes"
        beaten = score.cases - score.lower - score.equal
        does = (
            "beats" if beaten == 0 and score.lower else "does not beat" if score.lower == 0 else "does not always beat"
        )
        lines.append(
            f"Mixes ordered by {score.select.replace('_', ' ')}: this {does} the {best} at the same share of quantized "
            f"weights; the loss is lower in {score.lower} of {words.plural(score.cases, 'case')}, equal in "
            f"{score.equal}, higher in {beaten}, and lower than the mean of the trials in {score.under_mean}."
        )
    return lines


def section(table: pd.DataFrame, place: Place) -> str:
    """Return the page's section on mixes: verdicts, curves, means over models; empty if there are no mixed cells.

    Args:
        table: the results table.
        place: makes room for a figure.
    """
    found = contests(table)
    if not found:
        return ""
    selects = sorted({name for contest in found for name in contest.ordered})
    heads = ["format", "method", "chosen", "share", "models", "best trial", "mean trial", *selects]
    head = "".join(
        f'<th scope="col"{" class=n" if at > 2 else ""}>{escape(name.replace("_", " "))}</th>'
        for at, name in enumerate(heads)
    )
    body = "".join(_line(key, part, selects) for key, part in _by_kind(found).items())
    said = "".join(f"<li>{escape(line)}</li>" for line in verdicts(table))
    points = curve_points(found)
    drawn = "".join(
        place(
            curves(points, name),
            name,
            "The mean over models; each mix has the same share of the weights in the format.",
        )
        for name in sorted(points["panel"].unique())
    )
    means = scroll("Mixes", f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    return (
        '<section id="mixes"><h2>Mixed precision</h2><p class="soft">Loss added, in nats per token, where only a share '
        "of the weights is in the format and the rest in higher precision: means over the models. Mixes by sensitivity "
        "stand beside the best and the mean of the random trials at the same share.</p>"
        f'<div class="card"><ul class="summary">{said}</ul></div><div class="wide below">{drawn}</div>'
        f'<div class="card below">{means}</div></section>'
    )


def curve_points(found: Iterable[Contest]) -> pd.DataFrame:
    """Return what is drawn: ``panel`` (format, method, what is chosen), ``select``, ``share``, ``added``, ``models``.

    A point is a mean over the models that are finite at that share by every selection of the panel; panels of one
    share are left out, for they have no curve.
    """
    import pandas as pd

    panels: dict[tuple[str, str, str], list[Contest]] = {}
    for contest in found:
        panels.setdefault((contest.format, contest.method, contest.mix), []).append(contest)
    rows = []
    for (fmt, method, mix), part in sorted(panels.items()):
        units = words.MIXED[mix]
        names = sorted({name for contest in part for name in contest.ordered})
        names = [*(TRIAL_NAMES if any(contest.trials for contest in part) else ()), *names]
        for share in sorted({contest.q_target for contest in part}):
            each = [(c, _losses(c, names)) for c in part if c.q_target == share]
            whole = [(c, losses) for c, losses in each if all(map(math.isfinite, losses.values()))]
            for name in names if whole else ():
                added = sum(losses[name] for _, losses in whole) / len(whole)
                reached = sum(c.q_ratio for c, _ in whole) / len(whole)
                panel = f"{fmt} by {words.method(method)}, {units}"
                rows.append((panel, name.replace("_", " "), reached, added, len(whole)))
    points = pd.DataFrame(rows, columns=["panel", "select", "share", "added", "models"])
    shares = points.groupby("panel")["share"].transform("nunique")
    return points[shares > 1].reset_index(drop=True)


def curves(points: pd.DataFrame, panel: str) -> alt.LayerChart | alt.FacetChart:
    """Return the loss that is added against the share of weights in the format, a line for each selection.

    Args:
        points: from ``curve_points``, all panels: a selection has the same colour in each.
        panel: the panel to draw.
    """
    import altair as alt

    names = sorted(points["select"].unique(), key=lambda name: (name not in TRIAL_NAMES, name))
    own = points[points["panel"] == panel]
    key, ticks = alt.Legend(orient="right", symbolOpacity=1), alt.Axis(format="~g", tickCount=6)
    base = alt.Chart(scales.plain(own)).encode(
        x=alt.X(
            "share:Q", title="share of the weights in the format", scale=alt.Scale(zero=False, padding=12), axis=ticks
        ),
        y=alt.Y("added:Q", title="added loss, nats per token", scale=alt.Scale(zero=False)),
        color=alt.Color("select:N", title=None, scale=scales.named(names), legend=key),
        tooltip=[
            alt.Tooltip("select:N", title="mix by"),
            alt.Tooltip("share:Q", format=".3~g"),
            alt.Tooltip("added:Q", title="added loss, nats", format=".4~g"),
            alt.Tooltip("models:Q"),
        ],
    )
    layers = alt.layer(base.mark_line(strokeWidth=1.8), base.mark_point(filled=True, size=42, opacity=1))
    return layers.properties(width="container", height=240)


def _losses(contest: Contest, names: list[str]) -> dict[str, float]:
    """Return the losses of ``contest`` for the curves ``names``; NaN where it has none."""
    found = {**contest.ordered, **dict(zip(TRIAL_NAMES, (contest.best, contest.mean), strict=True))}
    return {name: found.get(name, math.nan) for name in names}


def _by_kind(found: Iterable[Contest]) -> dict[tuple[str, str, str, float], list[Contest]]:
    groups: dict[tuple[str, str, str, float], list[Contest]] = {}
    for contest in found:
        groups.setdefault((contest.format, contest.method, contest.mix, contest.q_target), []).append(contest)
    return dict(sorted(groups.items()))


def _line(key: tuple[str, str, str, float], part: list[Contest], selects: list[str]) -> str:
    columns = [[contest.best for contest in part], [contest.mean for contest in part]]
    columns += [[contest.ordered.get(name, math.nan) for contest in part] for name in selects]
    means = [words.loss(sum(column) / len(column)) for column in columns]
    cells = [key[0], words.method(key[1]), key[2], f"{key[3]:g}", str(len({contest.model for contest in part})), *means]
    tags = ["<td>" if at < 3 else '<td class="n">' for at in range(len(cells))]
    return "<tr>" + "".join(f"{tag}{escape(cell)}</td>" for tag, cell in zip(tags, cells, strict=True)) + "</tr>"
