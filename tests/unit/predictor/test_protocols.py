"""What is left out is not learned from, and the predictor does what it is meant to on real results."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import synthetic
from bitlaw.errors import UserError
from bitlaw.predictor import MODELS
from bitlaw.predictor.base import Model
from bitlaw.predictor.cells import collect
from bitlaw.predictor.crossed import chosen, cross, groups
from bitlaw.predictor.features import features
from bitlaw.predictor.protocols import CHOSEN, PROTOCOLS, run
from bitlaw.predictor.report import report
from bitlaw.predictor.training import EVALUATION, shipped

if TYPE_CHECKING:
    from bitlaw.predictor.base import Array, Predict

FORMATS = tuple(("int", bits, "64") for bits in (2, 3, 4, 5)) + tuple(("mxint", bits, "32") for bits in (3, 4))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return synthetic.table(families=("bloom", "gpt2", "llama", "opt"), formats=FORMATS, noise=0.05)


def test_a_family_is_predicted_by_fits_without_it(table: pd.DataFrame) -> None:
    seen: list[set[str]] = []

    def spy(rows: pd.DataFrame, y: Array, seed: int) -> Predict:
        seen.append(set(rows["family"]))
        return lambda others: np.full(len(others), float(len(set(others["family"]) & seen[-1])))

    cells = collect(table)
    rows = features(cells)
    model = Model("noise", "", "candidate", spy)
    crossed = cross(rows, cells.y, {"noise": model}, 0)
    assert not crossed.single["noise"].any() and len(seen) == 4 + 6
    assert not any(values.any() for values in crossed.double["noise"].values())
    for family in ("bloom", "opt"):
        places, _ = crossed.inner("noise", family)
        assert set(rows["family"].iloc[places]) == {"bloom", "gpt2", "llama", "opt"} - {family}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_protocol_compares_with_the_baselines(protocol: str, table: pd.DataFrame) -> None:
    cells = collect(table)
    rows = features(cells)
    record = run(protocol, cells, rows, 0)
    json.dumps(record, allow_nan=False)
    assert {"forest", "nearest", "kumar", CHOSEN} <= set(record["errors"])
    assert record["errors"][CHOSEN]["mae"] < 0.5 * record["errors"]["forest"]["mae"]
    points = record["points"]
    assert len(points) == record["errors"][CHOSEN]["n"] == sum(fold["n"] for fold in record["folds"])
    error = np.mean([abs(point["measured"] - point["predicted"]) for point in points])
    assert error == pytest.approx(record["errors"][CHOSEN]["mae"])
    assert run(protocol, cells, rows, 0) == record


def test_coverage_on_families_left_out(table: pd.DataFrame) -> None:
    cells = collect(table)
    record = run("family", cells, features(cells), 0)
    inside = [point["low"] <= point["measured"] <= point["high"] for point in record["points"]]
    assert record["coverage"] == pytest.approx(np.mean(inside)) and record["coverage"] > 0.85


def test_the_largest_models_are_left_out(table: pd.DataFrame) -> None:
    cells = collect(table)
    rows = features(cells)
    largest = run("largest", cells, rows, 0)
    assert all(name.split("-")[1] == "1600000" for name in largest["held_out"]) and len(largest["held_out"]) == 4
    above = run("largest", cells, rows, 0, up_to=500_000)
    assert {name.split("-")[1] for name in above["held_out"]} == {"440000", "1600000"}
    with pytest.raises(UserError, match="no largest models"):
        run("largest", cells, rows, 0, up_to=1e12)


def test_too_few_families(table: pd.DataFrame) -> None:
    cells = collect(table[table["family"].isin(["opt", "llama"])])
    rows = features(cells)
    with pytest.raises(UserError, match="2 families or models are too few"):
        run("family", cells, rows, 0)
    assert len(set(groups(rows))) == 5  # models are left out to choose one
    name, _, _ = chosen(rows, cells.y, {"noise": MODELS["noise"], "noise_size": MODELS["noise_size"]}, 0)
    assert name == "noise_size"  # the made-up losses depend on the size
    with pytest.raises(UserError, match="unknown protocol 'famly'; did you mean 'family'"):
        run("famly", cells, rows, 0)


def test_the_report_says_what_cannot_be_done_and_does_the_rest(table: pd.DataFrame) -> None:
    other = table[table["family"] == "opt"].assign(text="novel", text_sha256="cd" * 32)
    found = report(pd.concat([table, other], ignore_index=True), 0)
    assert [one["evaluation"] for one in found] == ["manual@128", "novel@128"]
    assert set(found[0]["records"]) == set(PROTOCOLS) and not found[0]["refused"]
    assert set(found[1]["records"]) == {"largest", "format"} and "too few" in found[1]["refused"]["family"]
    assert "too few" in report(table.head(3), 0)[0]["refused"]["table"]


@pytest.fixture(scope="module")
def large() -> dict[str, Any]:
    cells = collect(shipped(), text=EVALUATION)
    return run("largest", cells, features(cells), 0, up_to=13.5e9)


@pytest.mark.parametrize(("bits", "most"), [(4, 0.03), (3, 0.10)])
def test_published_large_models_from_smaller_ones(large: dict[str, Any], bits: int, most: float) -> None:
    """Trained on models of up to 13 B, GPTQ of 30 B to 176 B; the error of the loss is that of log perplexity."""
    held = set(large["held_out"])
    assert {"opt-30b", "opt-175b", "bloom-176b", "llama-30b", "llama-65b"} <= held
    one = next(one for one in large["by_bits"] if (one["bits"], one["method"]) == (bits, "gptq"))
    assert one["n"] >= 10 and one["median"] <= most
    assert one["median"] < one["forest_median"]


def test_published_families_are_covered() -> None:
    cells = collect(shipped(), text=EVALUATION)
    record = run("family", cells, features(cells), 0)
    assert 0.85 <= record["coverage"] <= 0.97
    assert record["errors"][CHOSEN]["judged"] < record["errors"]["forest"]["judged"]
