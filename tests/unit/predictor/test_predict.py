"""Answers for models that were never run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import synthetic
from bitlaw.cli.main import main
from bitlaw.errors import UserError
from bitlaw.formats.grammar import parse
from bitlaw.predictor.known import find, weights_db
from bitlaw.predictor.predict import predict
from bitlaw.predictor.training import EVALUATION, shipped

ZOO = Path(__file__).resolve().parents[3] / "data" / "zoo"


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return synthetic.table(noise=0.02)


def ask(table: pd.DataFrame, model: str, fmt: str = "int4_b64", method: str = "gptq", **more: Any) -> dict[str, Any]:
    return predict(table, find(model, table), parse(fmt), method, **more)


def test_an_answer_has_interval_reasons_and_what_is_near(table: pd.DataFrame) -> None:
    answer = ask(table, "gpt2-440000-450000000")
    json.dumps(answer, allow_nan=False)
    own = table[(table["model"] == "gpt2-440000-450000000") & (table["format"] == "int4_b64")]
    measured = float(own.loc[own["method"] == "gptq", "delta_nll"].iloc[0])
    assert answer["low"] <= answer["delta_nll"] <= answer["high"]
    assert answer["delta_nll"] == pytest.approx(measured, rel=0.5) and answer["low"] <= measured <= answer["high"]
    assert answer["nearest"]["model"] == "gpt2-440000-450000000" and answer["nearest"]["method"] == "gptq"
    assert answer["extrapolates"] == []
    assert ask(table, "gpt2-440000-450000000") == answer


def test_the_reasons_add_up(table: pd.DataFrame) -> None:
    answer = ask(table, "gpt2-440000-450000000", "int3_b64", "rtn")
    parts = sum(part["adds"] for part in answer["reasons"]["parts"])
    assert answer["reasons"]["typical"] + parts == pytest.approx(answer["delta_nll"])
    assert {part["group"] for part in answer["reasons"]["parts"]} >= {"size", "format", "method", "unquantized loss"}


def test_it_says_when_it_extrapolates(table: pd.DataFrame) -> None:
    said = " ".join(ask(table, "mystery-7b", "fp8_e4m3_b64", "rtn")["extrapolates"])
    assert "non-embedding parameters: 7e+09 is outside what was measured" in said
    assert "family: no cell of 'none'" in said and "kind of element: no cell of 'fp'" in said
    assert "bits of an element: 8 is outside" in said


def test_what_is_assumed_is_said_and_widens_the_interval(table: pd.DataFrame) -> None:
    unknown, known = ask(table, "opt-800k"), ask(table, "opt-800k", nll=3.0)
    assert any("unquantized loss" in line for line in unknown["assumed"])
    assert not any("unquantized loss" in line for line in known["assumed"])
    assert known["base_nll"] == 3.0 and known["nll"] == pytest.approx(3.0 + known["delta_nll"])


def test_a_folder_tells_its_size_and_what_rounding_does_to_it(table: pd.DataFrame) -> None:
    known = find(str(ZOO / "llama-0.4m"), table)
    assert known.family == "llama" and known.n_params == 443_232 and known.n_tokens is not None
    fmt = parse("int4_row")
    shapes = known.shapes
    assert known.effective_bits(fmt) == pytest.approx(
        4 + 16 * sum(r for r, _ in shapes) / sum(r * c for r, c in shapes)
    )
    assert 10 < weights_db(known, fmt) < 25
    assert np.isnan(weights_db(find("opt-800k", table), fmt))


@pytest.mark.parametrize(
    ("name", "family", "n"),
    [("facebook/opt-30b", "opt", 29_599_496_192), ("EleutherAI/pythia-1.4b", None, 1.4e9), ("Llama-9B", "llama", 9e9)],
)
def test_names_tell_sizes(name: str, family: str | None, n: float) -> None:
    known = find(name, shipped())
    assert (known.family, known.n_params) == (family, n)


def test_what_cannot_be_told(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its name tells no size.*--params"):
        find("mystery", table)
    assert find("mystery", table, params=1e6).n_params == 1e6
    with pytest.raises(UserError, match=r"no config\.json"):
        find(str(tmp_path), table)
    with pytest.raises(UserError, match="unknown method 'gptw'; did you mean 'gptq'"):
        ask(table, "opt-800k", method="gptw")
    with pytest.raises(UserError, match="mixes evaluations"):
        predict(shipped(), find("opt-66b", shipped()), parse("int4_row"), "rtn")


def test_a_published_model_that_was_not_measured_is_within_the_interval() -> None:
    """LLaMA-2-70B in int4_g128 by GPTQ: 3.32 to 3.42 in the OmniQuant paper's table 1 (arXiv 2308.13137)."""
    table = shipped()
    answer = predict(
        table, find("llama-2-70b", table), parse("int4_g128_asym"), "gptq", text=EVALUATION, nll=np.log(3.32)
    )
    assert answer["low"] <= np.log(3.42 / 3.32) <= answer["high"]


def test_the_commands(table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "table.parquet"
    table.to_parquet(file)
    assert (
        main(
            [
                "predict",
                "--model",
                str(ZOO / "opt-0.1m"),
                "--format",
                "int4_b64",
                "--method",
                "rtn",
                "--table",
                str(file),
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert said.startswith("opt-0.1m in int4_b64 by rtn, on manual@128:") and "90% interval" in said
    assert "nats from" in said
    assert main(["holdout", "--table", str(file), "--protocol", "largest"]) == 0
    said = capsys.readouterr().out
    assert "(baseline)" in said and "chosen" in said and "left out: bloom-1600000" in said
    assert main(["holdout", "--table", "published"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["holdout", "--table", str(tmp_path / "no.parquet")]) == 2
    assert "no such table" in capsys.readouterr().err
