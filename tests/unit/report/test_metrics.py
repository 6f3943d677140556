"""The numbers that DVC compares: means of the table, constants of the laws, nothing that is not a finite number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import synthetic
from bitlaw.artifacts import write_json, write_table
from bitlaw.cli.main import main
from bitlaw.laws import LAWS
from bitlaw.laws.fit import fit
from bitlaw.report.metrics import fits, losses, metrics
from bitlaw.stage import Header


@pytest.fixture(scope="module")
def table() -> Any:
    return synthetic.table()


@pytest.fixture(scope="module")
def laws(table: Any) -> dict[str, Any]:
    law = LAWS["kumar"]
    return {"laws": {"kumar": {"title": law.title, **fit(law, table, law.settings(), seed=0, bootstraps=20)}}}


def test_the_numbers_are_those_of_the_table(table: Any, laws: dict[str, Any]) -> None:
    numbers = metrics(table, laws)
    json.dumps(numbers, allow_nan=False)
    own = table[(table["format"] == "int4_b64") & (table["method"] == "rtn")]
    assert numbers["cells"] == len(table) and numbers["without_finite_loss"] == 0
    assert numbers["delta_nll"]["rtn"]["int4_b64"] == pytest.approx(float(own["delta_nll"].mean()))
    assert len(numbers["nll"]) == table["model"].nunique()
    record = laws["laws"]["kumar"]
    assert len(numbers["laws"]["kumar"]) == len(record["fits"]) > 1
    assert all(0.9 < found["r2"] <= 1.0 for found in numbers["laws"]["kumar"].values())
    assert any("gamma_N" in found for found in numbers["laws"]["kumar"].values())
    assert len(fits(laws)["kumar"]) == sum(one["n"] for one in record["fits"])


def test_texts_are_kept_apart(table: Any) -> None:
    other = table.assign(text="novels", nll=table["nll"] + 1.0, delta_nll=2 * table["delta_nll"])
    both = pd.concat([table, other], ignore_index=True)
    one, two = (metrics(each, {"laws": {}}) for each in (table, both))
    assert {f"{name} manual": value for name, value in one["nll"].items()}.items() <= two["nll"].items()
    assert len(two["nll"]) == 2 * len(one["nll"])
    assert two["delta_nll"]["rtn manual"] == one["delta_nll"]["rtn"]
    assert two["delta_nll"]["rtn novels"]["int4_b64"] == pytest.approx(2 * one["delta_nll"]["rtn"]["int4_b64"])


def test_what_is_not_finite_is_left_out(table: Any) -> None:
    broken = table.copy()
    chosen = (broken["format"] == "int4_b64") & (broken["method"] == "rtn")
    broken.loc[chosen, ["nll", "delta_nll"]] = np.nan
    broken.loc[chosen, "finite"] = False
    numbers = metrics(broken, {"laws": {}})
    json.dumps(numbers, allow_nan=False)
    assert "int4_b64" not in numbers["delta_nll"]["rtn"] and "int4_b64" in numbers["delta_nll"]["gptq"]
    assert numbers["without_finite_loss"] == int(chosen.sum())


def test_a_method_with_several_settings_is_several(table: Any, laws: dict[str, Any], tmp_path: Path) -> None:
    twice = table.copy()
    half = (twice["method"] == "gptq") & (twice["bits"] > 3)
    twice.loc[half, "settings"] = '{"damping":0.1}'
    assert len(losses(twice)) == 3 and "rtn" in losses(twice)
    header = Header("table", "0" * 32, {}, {}, "c")
    (tmp_path / "report").mkdir()
    (tmp_path / "params.yaml").write_text("study: x\n")
    write_table(tmp_path / "report" / "table.parquet", header, twice)
    write_json(tmp_path / "report" / "laws.json", header, laws)
    assert main(["metrics", "--root", str(tmp_path)]) == 0
    written = sorted(
        str(path.relative_to(tmp_path / "report")) for path in (tmp_path / "report" / "plots").rglob("*.json")
    )
    assert written == [
        "plots/laws/kumar.json",
        "plots/loss/gptq-1.json",
        "plots/loss/gptq-2.json",
        "plots/loss/rtn.json",
    ]
    first = (tmp_path / "report" / "metrics.json").read_bytes()
    assert main(["metrics", "--root", str(tmp_path)]) == 0
    assert (tmp_path / "report" / "metrics.json").read_bytes() == first
