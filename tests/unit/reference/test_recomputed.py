"""Cells of the shipped table made again on a CPU, from models of the study that come with the repository.

The study ran on a GPU: its losses are those of float16 through compiled blocks, and what GPTQ and AWQ look at was
summed in another order. So a loss differs in its last digits where the weights are the same, and by a little more where
a weight lay at a tie between two codes and was rounded to the other one: only methods that look at data can do that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from bitlaw.artifacts import read_table
from bitlaw.reference import shipped
from bitlaw.study.make import make_missing
from projects import REPOSITORY, SHARED, Project

MODELS = REPOSITORY / "data" / "reference" / "models"
STUDY = REPOSITORY / "studies" / "reference.yaml"
AGREE = 0.005  # of the loss
SAME_WEIGHTS = 0.0005  # of the loss: float16, whose last place is 0.0005 of a number, averages out over the tokens
LOOKING = ("gptq", "awq")
TEXTS = {
    "wikipedia": ("wiki/wiki_test.txt.xz", ("gpt2-0.1m", "opt-0.1m")),
    "wikitext-2": ("eval/wikitext2_test_raw.txt", ("bloom-0.1m", "llama-0.1m")),
    "novels": ("novels/novels_test.txt.xz", ("neox-0.1m", "llama-0.3m-d5")),
}
DATA = SHARED / "data"
CALIBRATION = DATA / "wiki" / "wiki_valid.txt.xz"
GRIDS: list[Mapping[str, Any]] = [
    {"formats": ["mxint4_b32", "quantile4_none", "fp4_e2m1_b64"], "methods": ["rtn"]},
    {"formats": ["int3_b64", "mxfp4_e2m1_b32"], "methods": ["gptq"]},
    {"formats": ["int3_b64"], "methods": ["awq", "proxy", {"name": "gptq", "sequential": True}]},
]
WHAT = ["model", "format", "method", "settings", "mix", "q_target", "trial", "text"]


def recomputed(root: Path, text: str) -> pd.DataFrame:
    """Return the table of some of the study's cells on one of its texts, in float32."""
    file, models = TEXTS[text]
    whole = yaml.safe_load(STUDY.read_text("utf-8"))
    first, *others = GRIDS
    evaluation = next(one for one in whole["evaluation"] if one["name"] == text)
    project = Project(
        root,
        models=[{"source": "path", "path": str(MODELS / name)} for name in models],
        **first,
        grids=others,
        mixes=[{**whole["mixes"][0], "q_ratio": [0.5], "trials": 1, "formats": ["mxint2_b32"]}],
        calibration={**whole["calibration"], "text": {"source": "file", "path": str(CALIBRATION)}},
        evaluation={
            **evaluation,
            "text": {"source": "file", "path": str(DATA / file)},
            **{"batch": 16, "dtype": "float32", "compile": False},
        },
        device="cpu",
    )
    plan = project.plan()
    made = {"model", "calibrate", "factorize", "quantize", "mix", "evaluate", "table"}
    assert not make_missing(plan, made, hold=("calibrate", "factorize", "quantize"), workers=2)
    return read_table(root / plan.grid.table.path)


def why(row: Mapping[str, Any]) -> str:
    """Return what may make the loss of a cell differ."""
    return "codes at ties, float16" if row["method"] in LOOKING else "float16"


@pytest.mark.recompute
@pytest.mark.parametrize("text", list(TEXTS))
def test_the_gpus_losses_are_those_of_a_cpu(text: str, tmp_path: Path) -> None:
    if not shipped.is_there():
        pytest.skip("this checkout has no reference study")
    missing = [path for path in (DATA / TEXTS[text][0], CALIBRATION) if not path.exists()]
    if missing:
        pytest.skip(f"the study's texts are no part of the repository: no {missing[0].name}")
    there = shipped.load()
    both = recomputed(tmp_path, text).merge(there, on=WHAT, suffixes=("", "_there"), validate="1:1")
    assert len(both) == 2 * 10, both[WHAT]
    assert (both["text_sha256"] == both["text_sha256_there"]).all() and (
        both["n_params"] == both["n_params_there"]
    ).all()
    assert (both["eval_tokens"] == both["eval_tokens_there"]).all()
    assert both["effective_bits"].to_numpy() == pytest.approx(both["effective_bits_there"].to_numpy(), rel=1e-6)
    both["apart"] = (both["nll"] / both["nll_there"] - 1).abs()
    for _, row in both.sort_values("apart", ascending=False).iterrows():
        print(f"{row['apart']:.5%} {row['model']} {row['format']} {row['method']} {row['mix']}: {why(row)}")
    assert both["apart"].max() < AGREE
    assert both.loc[~both["method"].isin(LOOKING), "apart"].max() < SAME_WEIGHTS


def test_the_models_are_those_of_the_study() -> None:
    if not MODELS.is_dir():
        pytest.skip("this checkout has no reference study")
    entries = {entry["name"]: entry for entry in yaml.safe_load(STUDY.read_text("utf-8"))["models"]}
    for folder in MODELS.iterdir():
        recipe = json.loads((folder / "recipe.json").read_text("utf-8"))
        entry = entries[folder.name]
        assert recipe["architecture"] == entry["architecture"] and recipe["curve"]
        same = {key: value for key, value in entry["recipe"].items() if key != "text"}
        assert same == {key: recipe["recipe"][key] for key in same}
