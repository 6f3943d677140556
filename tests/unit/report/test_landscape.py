"""The section on the loss around the weights."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import synthetic
from bitlaw.landscape.radial import distances_db
from bitlaw.report import landscape
from bitlaw.report.charts import Charts
from bitlaw.report.page import page

if TYPE_CHECKING:
    from collections.abc import Mapping

R_DB = distances_db(7)
FAMILIES = ("gpt2", "llama")


@pytest.fixture
def table() -> pd.DataFrame:
    """Two families of three sizes; each prediction is nine tenths of what was measured."""
    found = synthetic.table(families=FAMILIES)
    found["predicted_delta_nll"] = 0.9 * found["delta_nll"]
    return found


def landscapes(table: pd.DataFrame, kinds: tuple[str, ...] = ("gaussian", "filter")) -> Mapping[str, Any]:
    def radial(level: float) -> dict[str, Any]:
        profiles = [[level * 10 ** (r / 10) * share for r in R_DB] for share in (0.5, 1.5)]
        return {"r_db": R_DB, "delta_nll": profiles, "step": {"height": 4.0}}

    # As it is read from an artifact: its names in the order of the alphabet.
    return {
        name: {"radial": {kind: radial(3.0 if kind == "gaussian" else 1.0) for kind in sorted(kinds)}}
        for name in table["model"].unique()
    }


def test_points_are_means_over_directions_by_their_signal_to_noise(table: pd.DataFrame) -> None:
    points = landscape.radial_points(landscapes(table), table)
    assert len(points) == 6 * len(R_DB) and set(points["family"]) == set(FAMILIES)
    assert sorted(points["rank"].unique()) == [0, 0.5, 1]
    for snr, added in zip(points["snr"], points["added"], strict=True):
        assert added == pytest.approx(3.0 * 10 ** (-snr / 10))
    only = landscape.radial_points(landscapes(table, ("filter",)), table)
    assert only["added"].max() == pytest.approx(1.0)


def test_what_is_broken_is_as_high_as_a_guess(table: pd.DataFrame) -> None:
    found = landscapes(table)
    name = str(table["model"].iloc[0])
    found[name]["radial"]["gaussian"]["delta_nll"][0][-1] = math.inf
    found[name]["radial"]["gaussian"]["delta_nll"][1][-2] = 900.0
    points = landscape.radial_points(found, table)
    assert points[points["model"] == name]["added"].tail(2).tolist() == [4.0, 4.0]


def test_cells_that_have_no_logarithm_are_left_out(table: pd.DataFrame) -> None:
    cells = landscape.predicted_cells(table)
    assert len(cells) == (table["format"] != "unquantized").sum()
    row = cells.index[0]
    for value in (math.nan, -0.1, 0.0, math.inf):
        table.loc[row, "predicted_delta_nll"] = value
        assert row not in landscape.predicted_cells(table).index
    assert (landscape.predicted_cells(table)["predicted"] < landscape.predicted_cells(table)["measured"]).all()


def test_a_figure_for_each_family_and_one_of_predictions(table: pd.DataFrame) -> None:
    charts = Charts()
    html = landscape.section(landscapes(table), table, charts.of("landscape"))
    assert re.findall("<h3>(.*?)</h3>", html) == [*FAMILIES, "Predicted by curvature"]
    assert len(charts.figures) == 3


def test_nothing_without_a_landscape(table: pd.DataFrame) -> None:
    nothing = synthetic.table(families=FAMILIES)
    assert landscape.section({}, nothing, Charts().of("landscape")) == ""
    only = {name: {"radial": None} for name in nothing["model"].unique()}
    assert landscape.section(only, nothing, Charts().of("landscape")) == ""


def test_the_page_has_the_section_and_its_entry_in_the_menu(table: pd.DataFrame) -> None:
    about: dict[str, Any] = {"title": "T", "study": "s", "keys": {"report": "r"}}
    laws = synthetic.laws(table, bootstraps=2)
    with_it = page(table, laws, **about, landscapes=landscapes(table))
    without = page(synthetic.table(families=FAMILIES), laws, **about)
    assert '<section id="landscape">' in with_it and '<a href="#landscape">' in with_it
    assert "landscape" not in without.split("<footer>")[0].split("</style>")[1]
    for target in re.findall('<a href="#([a-z]+)">', with_it + without):
        assert f'<section id="{target}">' in with_it
