"""Tables that no law may be fitted to, and fits that do not depend on chance or on the order of rows."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

import synthetic
from bitlaw.errors import UserError
from bitlaw.laws import LAWS
from bitlaw.laws.compare import compare
from bitlaw.laws.fit import fit


def run(name: str, table: pd.DataFrame, **settings: Any) -> dict[str, Any]:
    return fit(LAWS[name], table, LAWS[name].settings(**settings), seed=0, bootstraps=5)


@pytest.mark.parametrize("name", sorted(LAWS))
def test_a_cell_that_is_there_twice_is_an_error(name: str) -> None:
    table = synthetic.table()
    twice = pd.concat([table, table.iloc[[7]].assign(nll=3.0, key="again")], ignore_index=True)
    with pytest.raises(UserError, match=r"1 cells are in the table more than once, such as bloom-100000"):
        run(name, twice)


@pytest.mark.parametrize("name", sorted(LAWS))
def test_two_texts_under_one_label_are_an_error(name: str) -> None:
    table = synthetic.table()
    table.loc[table["family"] == "opt", "text_sha256"] = "ef" * 32
    with pytest.raises(UserError, match="'manual' is the label of 2 different texts"):
        run(name, table)
    with pytest.raises(UserError, match="2 different texts"):
        compare(table, {name: LAWS[name]}, seed=0)


@pytest.mark.parametrize("name", sorted(LAWS))
def test_fewer_than_five_points_are_not_fitted(name: str) -> None:
    table = synthetic.table(families=("opt",), sizes=(100_000, 1_600_000), formats=(("int", 4, "64"),))
    found = run(name, table)
    assert found["fits"] == []
    assert found["not_fitted"][0]["reason"]


def test_four_points_for_two_constants_are_said() -> None:
    table = synthetic.table(families=("opt",), sizes=(10**3, 10**4, 10**5, 10**6), formats=())
    (entry,) = run("kaplan_n", table)["not_fitted"]
    assert entry["reason"] == "4 points: fewer than 5 tell nothing"


@pytest.mark.parametrize("name", sorted(LAWS))
def test_a_column_without_values_is_said_and_never_fitted(name: str) -> None:
    table = synthetic.table()
    column = LAWS[name].inputs[0]
    dtype = table[column].dtype
    found = run(name, table.assign(**{column: pd.array([pd.NA] * len(table), dtype=dtype)}))
    assert found["fits"] == []
    assert found["not_fitted"][0]["reason"].startswith(f"{column} has no value in any row")


@pytest.mark.parametrize("name", sorted(LAWS))
def test_losses_that_are_all_nan_are_never_fitted(name: str) -> None:
    table = synthetic.table().assign(nll=np.nan, delta_nll=np.nan, finite=False)
    found = run(name, table)
    assert found["fits"] == []
    assert found["excluded"] == {"the loss is not finite": len(table)}


@pytest.mark.parametrize("name", ["gmse", "kumar", "panferov"])
def test_a_fit_is_the_same_for_a_seed(name: str) -> None:
    table = synthetic.table()
    assert json.dumps(run(name, table)) == json.dumps(run(name, table))
