"""Which tables are learned from where none is named: those with the models nearest in size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import synthetic
from bitlaw.cli.main import main
from bitlaw.predictor import training
from bitlaw.predictor.cells import collect
from bitlaw.reference import shipped


@pytest.fixture
def reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Let a made-up study on two texts be the one that comes with bitlaw."""
    texts = [
        synthetic.table().assign(text=text, text_sha256=text, key=lambda rows, text=text: text + rows["key"])
        for text in ("novels", "wikitext-2")
    ]
    table = pd.concat(texts, ignore_index=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shipped, "is_there", lambda name=shipped.RESULTS: True)
    monkeypatch.setattr(shipped, "load", lambda name=shipped.RESULTS: table.assign(seconds=1.0))
    return table


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main([*words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


CELL = ("--format", "int4_b64", "--method", "gptq")


def test_a_small_model_is_answered_from_the_reference_study(
    reference: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = ask(capsys, "predict", "--model", "mine-5m", *CELL)
    assert answer["evaluation"] == "wikitext-2@128" and answer["learned_from"]["models"] == 15
    known = ask(capsys, "predict", "--model", "gpt2-440000-450000000", *CELL)
    own = reference[(reference["model"] == "gpt2-440000-450000000") & (reference["format"] == "unquantized")]
    assert known["base_nll"] == own.loc[own["text"] == "wikitext-2", "nll"].iloc[0]


def test_a_large_one_gets_the_answer_that_it_gets_without_the_study(
    reference: pd.DataFrame, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = [
        ("predict", "--model", "opt-66b", *CELL),
        ("advise", "--budget", "9GiB", "--model", "llama-7b", "--format", "int4_g128_asym", "--top", "2"),
    ]
    answers = [ask(capsys, *question) for question in questions]
    monkeypatch.setattr(shipped, "is_there", lambda name=shipped.RESULTS: False)
    assert answers == [ask(capsys, *question) for question in questions]
    assert answers[0]["evaluation"] == training.EVALUATION


def test_advice_for_a_small_model_is_of_the_reference_study(
    reference: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = ("advise", "--budget", "1MiB", "--context", "16", "--format", "int4_b64")
    found = ask(capsys, *budget, "--model", "opt-440000-450000000")
    assert {one["evaluation"] for one in found["choices"]} == {"wikitext-2@128"}
    assert {one["measured"] for one in found["choices"] if one["method"] in ("rtn", "gptq")} == {True}


def test_a_text_that_is_named_is_taken(reference: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(capsys, "predict", "--model", "mine-5m", "--text", "novels", *CELL)["evaluation"] == "novels@128"
    large = ask(capsys, "predict", "--model", "mine-5m", "--text", training.EVALUATION, *CELL)
    assert large["evaluation"] == training.EVALUATION


def test_own_cells_count_where_they_were_measured_on_the_same_text(reference: pd.DataFrame, tmp_path: Path) -> None:
    one = reference[reference["text"] == "wikitext-2"].iloc[:8]
    own = one.assign(model="mine", key=one["key"] + "mine")
    other = own.assign(text_sha256="another", model="other", key=own["key"] + "other")
    pd.concat([own, other]).to_parquet(tmp_path / "own.parquet")
    table, text = training.Usual(str(tmp_path / "own.parquet")).for_sizes([1e6], None)
    assert text == "wikitext-2@128"
    assert {"mine"} == {"mine", "other"} & set(table["model"]) and set(table["text"]) == {"wikitext-2"}


def test_own_cells_stand_beside_published_ones_of_the_same_text_and_stride(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = synthetic.table(families=("opt",), sizes=(10_000_000_000,), tokens=(200_000_000_000,))
    own = one.assign(text="wikitext-2", window=2048, stride=2048, model="mine")
    strided = own.assign(stride=2047, model="strided", key=own["key"] + "s")
    pd.concat([own, strided]).to_parquet(tmp_path / "own.parquet")
    table, text = training.Usual(str(tmp_path / "own.parquet")).for_sizes([10e9], None)
    models = set(collect(table, text=text).rows["model"])
    assert "mine" in models and "opt-13b" in models and "strided" not in models


def test_the_study_has_a_name_for_commands_on_tables(
    reference: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ask(capsys, "claims", "three_bits", "--table", "reference")
    assert found == ask(capsys, "claims", "three_bits", "--table", "reference")
    assert training.read(["reference"]).shape == reference.shape  # how cells were made is no part of it
    records = ask(capsys, "holdout", "--table", "reference", "--text", "novels@128", "--protocol", "largest")
    assert len(records) == 1


def test_a_study_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    if shipped.is_there():
        pytest.skip("this checkout has the reference study")
    monkeypatch.chdir(tmp_path)
    assert main(["claims", "--table", "reference"]) == 2
    error = capsys.readouterr().err
    assert "comes without the reference study" in error and error.count("\n") == 1
