"""The models: what they must keep to, and what they must find."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import synthetic
from bitlaw.predictor import MODELS
from bitlaw.predictor.base import KNEE, learn, squash, stretch
from bitlaw.predictor.cells import Cells, collect
from bitlaw.predictor.features import features
from bitlaw.predictor.models.nearest import nearest


@pytest.fixture(scope="module")
def cells() -> Cells:
    return collect(synthetic.table())


@pytest.fixture(scope="module")
def rows(cells: Cells) -> pd.DataFrame:
    found = features(cells)
    return found.assign(log_radial=np.log(10 ** (-found["noise_db"] / 10)))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_same_seed_gives_the_same_predictions(name: str, cells: Cells, rows: pd.DataFrame) -> None:
    one, other = (learn(MODELS[name], rows, cells.y, 3)(rows) for _ in range(2))
    assert np.array_equal(one, other) and np.isfinite(one).all()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_predictions_belong_to_rows_not_to_their_order(name: str, cells: Cells, rows: pd.DataFrame) -> None:
    predict = learn(MODELS[name], rows, cells.y, 0)
    order = np.random.default_rng(0).permutation(len(rows))
    assert predict(rows.iloc[order]) == pytest.approx(predict(rows)[order])


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_law_without_noise_is_found(name: str, cells: Cells, rows: pd.DataFrame) -> None:
    baselines = np.abs(cells.y - cells.y.mean()).mean()
    error = np.abs(learn(MODELS[name], rows, cells.y, 0)(rows) - cells.y).mean()
    assert error < 0.5 * baselines


def test_candidates_have_an_order_and_laws_are_the_simplest() -> None:
    ranks = [model.complexity for model in MODELS.values() if model.role == "candidate"]
    assert len(set(ranks)) == len(ranks) and min(ranks) > 0
    laws = [model.complexity for model in MODELS.values() if model.law]
    assert sorted(ranks)[: len(laws)] == sorted(laws)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 209), st.floats(0.0, 8.0), st.floats(0.01, 8.0))
def test_more_effective_bits_never_predict_more_loss(place: int, bits: float, more: float) -> None:
    predict, rows = _boosted()
    one = rows.iloc[[place]].assign(effective_bits=bits)
    assert predict(one.assign(effective_bits=bits + more))[0] <= predict(one)[0] + 1e-12


_KEPT: dict[str, Any] = {}


def _boosted() -> Any:
    if not _KEPT:
        cells = collect(synthetic.table(noise=0.3))
        rows = features(cells)
        _KEPT["it"] = learn(MODELS["boosting"], rows, cells.y, 0), rows
    return _KEPT["it"]


def test_the_noise_law_is_a_power_of_the_noise_where_it_is_weak_and_linear_in_db_where_it_is_strong() -> None:
    table = synthetic.table(families=("opt",), formats=tuple(("int", bits, "64") for bits in range(2, 9)))
    cells = collect(table)
    rows = features(cells)
    predict = learn(MODELS["noise"], rows, cells.y, 0)
    typical = rows.iloc[[0]]
    weak = predict(pd.concat([typical.assign(noise_db=db) for db in (60.0, 70.0, 80.0)]))
    assert weak[0] / weak[1] == pytest.approx(weak[1] / weak[2], rel=1e-3) and weak[0] > weak[1] > 0
    strong = predict(pd.concat([typical.assign(noise_db=db) for db in (-40.0, -50.0, -60.0)]))
    assert strong[1] - strong[0] == pytest.approx(strong[2] - strong[1], rel=1e-3)


def test_the_nearest_cell_is_the_nearest_of_its_method(cells: Cells, rows: pd.DataFrame) -> None:
    from bitlaw.predictor.features import Encoder
    from bitlaw.predictor.models.nearest import NAMES

    encoder = Encoder(rows, NAMES, ("method",))
    numbers = encoder.scaled(rows)[:, : len(encoder.names)]
    places, distances = nearest(encoder, rows, rows)
    assert distances.max() == pytest.approx(0.0)
    odd = rows.iloc[[7]].assign(log_n=rows["log_n"].max() + 3)
    scaled = encoder.scaled(odd)[0, : len(encoder.names)]
    same = (rows["method"] == odd["method"].iloc[0]).to_numpy()
    slow = min(np.flatnonzero(same), key=lambda at: float(((numbers[at] - scaled) ** 2).sum()))
    assert places[7] == 7 and nearest(encoder, rows, odd)[0][0] == slow


def test_squash_is_linear_for_small_and_logarithmic_for_large_losses() -> None:
    values = np.array([-3.0, -1e-4, 0.0, 1e-4, 5.0])
    assert stretch(squash(values)) == pytest.approx(values)
    assert squash(np.array([1e-4])) == pytest.approx(1e-4 / KNEE, rel=1e-3)
    assert squash(np.array([10.0])) - squash(np.array([1.0])) == pytest.approx(np.log(10), rel=1e-3)


def test_kumar_recovers_exact_data_and_falls_back_on_its_method() -> None:
    table = synthetic.table(noise=0.0, sizes=(10**5, 10**6, 10**7))
    cells = collect(table)
    rows = features(cells)
    small = cells.y <= 1.0
    predict = learn(MODELS["kumar"], rows, cells.y, 0)
    assert predict(rows[small]) == pytest.approx(cells.y[small], rel=0.05)
    stranger = rows[small].assign(kind="other")
    assert np.abs(np.log(predict(stranger) / cells.y[small])).max() < 2
