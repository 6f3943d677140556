"""The comparison: the true law wins where it is put to the test, and nothing of what is held out is seen."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

import synthetic
from bitlaw.laws import LAWS, bitlevel
from bitlaw.laws.compare import CELL, Cells, _judge, compare
from bitlaw.laws.holdout import folds
from bitlaw.laws.inputs import derive

SIZES = tuple(int(1e5 * 3**i) for i in range(5))
OF_DAMAGE = {name: law for name, law in LAWS.items() if law.pool is not None}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Losses that follow the noise of the format: the family of the project's own law."""
    made = synthetic.table(sizes=SIZES)
    made = derive(made, LAWS["gmse"].derived)
    rng = np.random.default_rng(0)
    delta = 30.0 * made["gmse"] * made["n_params"].astype(float) ** -0.2 * np.exp(0.02 * rng.standard_normal(len(made)))
    base = made["nll"] - made["delta_nll"]
    return made.assign(delta_nll=delta, nll=base + delta).drop(columns="gmse")


@pytest.fixture(scope="module")
def found(table: pd.DataFrame) -> dict[str, Any]:
    return compare(table, OF_DAMAGE, seed=0)


def test_the_law_that_made_the_losses_wins_everywhere(found: dict[str, Any]) -> None:
    assert [group["by"]["method"] for group in found["groups"]] == ["gptq", "rtn"]
    for group in found["groups"]:
        assert {entry["situation"] for entry in group["trust"]} == {"family", "size", "bits", "kind"}
        for entry in group["trust"]:
            assert entry["best"] in ("gmse", "gmse_tokens")
            assert entry["clear"] and entry["next"] not in ("gmse", "gmse_tokens")
            assert entry["mae"] < 0.03 < entry["next_mae"] * 10
        in_sample = {name: law["bic"] for name, law in group["laws"].items() if "bic" in law}
        # With one number of tokens, held, gmse_tokens is the same law: last digits decide between the two.
        assert in_sample["gmse"] == pytest.approx(min(in_sample.values()), abs=1e-3)
        assert all(value > in_sample["gmse"] + 10 for name, value in in_sample.items() if "gmse" not in name)


def test_what_a_law_cannot_say_is_not_scored(found: dict[str, Any]) -> None:
    held = found["groups"][0]["laws"]["frantar"]["held_out"]
    assert held["bits"]["mae"] is None and held["bits"]["silent"] > 0  # a constant of each format
    assert held["family"]["mae"] is not None
    assert "zhou" in found["groups"][1]["absent"]  # round-to-nearest is not calibrated


def test_it_is_the_same_for_a_seed(table: pd.DataFrame, found: dict[str, Any]) -> None:
    assert json.dumps(compare(table, OF_DAMAGE, seed=0)) == json.dumps(found)


@pytest.mark.parametrize("name", ["gmse", "kumar", "panferov", "cao_strong"])
def test_held_out_losses_do_not_move_their_predictions(table: pd.DataFrame, name: str) -> None:
    law = LAWS[name]
    rows = derive(table, law.derived)
    baselines = rows[rows["format"] == "unquantized"]
    rows = rows[(rows["method"] == "rtn") & (rows["delta_nll"] < 1.0)].dropna(subset=list(law.inputs))
    rows = rows.reset_index(drop=True)
    (fold,) = (fold for fold in folds(rows) if fold.name == "opt")

    def predicted(by: float) -> np.ndarray:
        """Return the predictions when the held-out losses are ``by`` nats higher, so that all errors are from below."""
        moved = rows.assign(delta_nll=rows["delta_nll"] + by * fold.held, nll=rows["nll"] + by * fold.held)
        _, (errors,) = _judge(law, Cells(moved, baselines, [fold]), np.random.default_rng(0))
        return moved["delta_nll"].to_numpy("float64")[fold.held] - errors

    np.testing.assert_allclose(predicted(2.0), predicted(4.0), atol=2e-3)  # the optimum is reached from another start


def test_saturated_cells_are_left_out_for_all_laws_alike(table: pd.DataFrame) -> None:
    above = int((table["delta_nll"] > 0.05).sum())
    found = compare(table, {"gmse": LAWS["gmse"]}, seed=0, saturated_above=0.05)
    assert found["rule"].startswith(f"{above} of ")
    assert sum(group["cells"] for group in found["groups"]) == int((table["format"] != "unquantized").sum()) - above


def test_few_cells_are_not_compared() -> None:
    found = compare(synthetic.table(families=("opt",), formats=(("int", 4, "64"),)), OF_DAMAGE, seed=0)
    assert found["groups"] == []
    assert found["not_compared"][0]["reason"] == "3 cells: fewer than 15"


def test_the_same_cell_is_the_mean_of_the_others(found: dict[str, Any], table: pd.DataFrame) -> None:
    rows = table[(table["method"] == "rtn") & (table["delta_nll"] <= 1.0)]
    assert "cao_strong" in found["groups"][1]["absent"]  # one scale a row: no block to speak of
    errors = []
    for family in rows["family"].unique():
        mean = rows[rows["family"] != family].groupby("format")["delta_nll"].mean()
        own = rows[rows["family"] == family]
        errors += [abs(value - mean[name]) for name, value in zip(own["format"], own["delta_nll"], strict=True)]
    (group,) = (group for group in found["groups"] if group["by"]["method"] == "rtn")
    assert group["laws"][CELL]["held_out"]["family"]["mae"] == pytest.approx(np.mean(errors))


def test_sizes_and_bits_roll_and_leave_two_steps(table: pd.DataFrame) -> None:
    rows = table[table["method"] == "rtn"]
    sizes = [fold for fold in folds(rows) if fold.situation == "size"]
    assert len(sizes) == 3
    for fold, smaller in itertools.pairwise(sizes):
        assert (fold.held <= smaller.held).all() and fold.held.sum() < smaller.held.sum()
    assert rows["n_params"].to_numpy()[~sizes[-1].held].max() < rows["n_params"].to_numpy()[sizes[-1].held].min()
    few = rows[rows["n_params"] <= SIZES[1]]
    assert not [fold for fold in folds(few) if fold.situation == "size"]


def curves(offset: float, bits: float) -> pd.DataFrame:
    """Return two families whose ``mxint4`` needs ``offset`` log2 bits fewer than 16 bits for the same loss."""
    rows = []
    for family, at in (("opt", 3.0), ("llama", 2.8)):
        for n in (1e6, 1e7, 1e8, 1e9):
            shared = {"family": family, "model": f"{family}-{n}", "n_params": int(n)}
            rows.append({**shared, "format": "unquantized", "method": "none", "effective_bits": 16.0,
                         "model_bits": 16 * n, "nll": at - 0.1 * np.log2(16 * n), "delta_nll": 0.0})  # fmt: skip
            loss = at - 0.1 * (np.log2(bits * n) + offset)
            rows.append({**shared, "format": "mxint4_b32", "method": "rtn", "effective_bits": bits,
                         "model_bits": bits * n, "nll": loss, "delta_nll": loss - rows[-1]["nll"]})  # fmt: skip
    return pd.DataFrame(rows).assign(text="t")


def test_the_offset_between_precisions_is_found() -> None:
    found = bitlevel.offsets(curves(offset=1.5, bits=4.25))
    assert found[["method", "format", "cells"]].to_numpy().tolist() == [["rtn", "mxint4_b32", 8]]
    assert found["offset"].tolist() == [pytest.approx(1.5)]


def test_parallel_curves_predict_a_family_that_was_not_quantized() -> None:
    table = curves(offset=1.5, bits=4.25)
    quantized, baselines = table[table["format"] != "unquantized"], table[table["format"] == "unquantized"]
    held = quantized[quantized["family"] == "opt"]
    predicted = bitlevel.predict(quantized[quantized["family"] == "llama"], baselines, held)
    np.testing.assert_allclose(predicted, held["delta_nll"], atol=1e-9)


def test_a_curve_interpolates_and_goes_on_straight() -> None:
    curve = bitlevel.Curve(np.array([1.0, 2.0, 4.0]), np.array([3.0, 2.0, 1.0]))
    np.testing.assert_allclose(curve.at(np.array([0.0, 1.5, 3.0, 6.0])), [4.0, 2.5, 1.5, 0.0])
    np.testing.assert_allclose(curve.where(np.array([4.0, 2.5, 0.0])), [0.0, 1.5, 6.0])
    flat = bitlevel.Curve(np.array([1.0, 2.0]), np.array([3.0, 3.0]))
    assert np.isnan(flat.where(np.array([3.0]))).all()
