"""Mixes in the report: who beats the best of the random trials, counted by hand."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from bitlaw.report.charts import Charts
from bitlaw.report.headline import headline
from bitlaw.report.mixed import contests, curve_points, scores, section, verdicts
from bitlaw.report.page import page
from bitlaw.table import frame, whole
from synthetic import laws, row, table

KIND = {"format": "int4_b64", "method": "rtn", "element": "int4", "bits": 4, "block": "64", "effective_bits": 8.0}


def mixed(model: str, share: float, select: str, delta: float, trial: int | None = None, **more: Any) -> dict[str, Any]:
    key = f"{model}/{share}/{select}/{trial}/{sorted(more.items())}"
    given = {"mix": "matmul", "select": select, "q_target": share, "q_ratio": share, "trial": trial, "key": key}
    return row(model=model, delta_nll=delta, nll=4.0 + delta, **KIND, **{**given, **more})


def example() -> pd.DataFrame:
    rows = []
    # a: the order beats all trials; b: it equals the best; c: it is worse than the best, not than the mean.
    for model, losses, order in (("a", (0.2, 0.3), 0.1), ("b", (0.2, 0.3), 0.2), ("c", (0.2, 0.4), 0.25)):
        rows += [mixed(model, 0.5, "random", loss, i) for i, loss in enumerate(losses)]
        rows.append(mixed(model, 0.5, "loss", order))
    # Nothing to choose from, nothing to compare with, and one trial that is not finite.
    rows += [mixed("d", 0.9, "random", 0.3, i) for i in range(2)] + [mixed("d", 0.9, "loss", 0.3)]
    rows.append(mixed("e", 0.5, "loss", 0.3))
    rows += [mixed("f", 0.5, "random", math.nan, 0), mixed("f", 0.5, "random", 0.3, 1), mixed("f", 0.5, "loss", 0.4)]
    return frame(rows)


def test_contests_and_scores() -> None:
    found = {contest.model: contest for contest in contests(example())}
    assert set(found) == set("abcdef")
    assert (found["a"].best, found["a"].mean, found["a"].trials) == (0.2, 0.25, 2)
    assert found["a"].ordered == {"loss": 0.1}
    assert found["f"].best == 0.3
    assert math.isnan(found["f"].mean)
    assert math.isnan(found["e"].best)
    (score,) = scores(found.values())
    # d has nothing to choose from and e no trials.
    assert (score.cases, score.lower, score.equal, score.under_mean) == (4, 1, 1, 3)


def test_what_is_said() -> None:
    (line,) = verdicts(example())
    assert "does not always beat the best of 2 random mixes" in line
    assert "lower in 1 of 4 cases, equal in 1, higher in 2" in line
    better = frame([mixed("a", 0.5, "random", 0.2 + i / 10, i) for i in range(3)] + [mixed("a", 0.5, "loss", 0.1)])
    assert "by loss: this beats the best of 3 random mixes" in verdicts(better)[0]
    worse = frame([mixed("a", 0.5, "random", 0.2 + i / 10, i) for i in range(3)] + [mixed("a", 0.5, "loss", 0.3)])
    assert "this does not beat the best of 3 random mixes" in verdicts(worse)[0]


def test_settings_of_one_selection_are_told_apart() -> None:
    rows = [mixed("a", 0.5, "random", 0.2 + i / 10, i) for i in range(2)]
    rows += [mixed("a", 0.5, "curvature", 0.1 * d, select_settings=f'{{"draws":{d}}}') for d in (1, 4)]
    (contest,) = contests(frame(rows))
    assert contest.ordered == {'curvature {"draws":1}': pytest.approx(0.1), 'curvature {"draws":4}': pytest.approx(0.4)}


def test_curves_are_means_of_the_models_that_are_finite_by_all_selections() -> None:
    rows = []
    for model, factor in (("a", 1.0), ("b", 3.0)):
        for share in (0.5, 0.9):
            rows += [mixed(model, share, "random", factor * share * loss, i) for i, loss in enumerate((0.2, 0.4))]
            rows.append(mixed(model, share, "output_error", factor * share * 0.1))
    rows += [mixed("c", 0.9, "random", math.nan, 0), mixed("c", 0.9, "output_error", 0.1)]
    points = curve_points(contests(frame(rows)))
    assert set(points["panel"]) == {"int4_b64 by RTN, single linears"}
    found = {(row.select, row.share): row.added for row in points.itertuples()}
    for share in (0.5, 0.9):
        assert found["best trial", share] == pytest.approx(2 * share * 0.2)
        assert found["mean trial", share] == pytest.approx(2 * share * 0.3)
        assert found["output error", share] == pytest.approx(2 * share * 0.1)
    assert (points["models"] == 2).all()
    charts = Charts()
    html = section(frame(rows), charts.of("mixes"))
    assert list(charts.figures) == ["mixes-int4-b64-by-rtn-single-linears"]
    assert 'id="chart-mixes-int4-b64-by-rtn-single-linears"' in html


def test_one_share_is_no_curve() -> None:
    rows = [mixed("a", 0.5, "random", 0.2 + i / 10, i) for i in range(2)] + [mixed("a", 0.5, "loss", 0.1)]
    assert curve_points(contests(frame(rows))).empty


def test_a_table_without_mixes_says_nothing() -> None:
    plain = table()
    assert contests(plain) == []
    assert verdicts(plain) == []
    assert section(plain, Charts().of("mixes")) == ""
    assert 'href="#mixes"' not in _page(plain)


def test_mixed_cells_stay_out_of_all_else() -> None:
    plain = table()
    both = pd.concat([plain, example()], ignore_index=True)
    assert len(whole(both)) == len(plain)
    said = headline(both, laws(plain))
    assert [line for line in said[1:] if not line.startswith("Mixes")] == headline(plain, laws(plain))[1:]
    assert laws(both)["laws"]["kumar"]["fits"] == laws(plain)["laws"]["kumar"]["fits"]
    html = _page(both)
    assert 'id="mixes"' in html
    assert 'href="#mixes"' in html


def _page(rows: pd.DataFrame) -> str:
    return page(rows, laws(whole(rows)), title="t", study="s", keys={})
