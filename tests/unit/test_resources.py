"""What jobs ask of a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bitlaw.resources import BASE_MB, UNKNOWN_MB, mem_mb, runtime


def order(stage: str, **location: Any) -> dict[str, Any]:
    inputs = {} if stage == "model" else {"model": ["results/model/m/key.json"]}
    path = f"results/{stage}/m/key.json"
    return {"stage": stage, "path": path, "inputs": inputs, "hints": {"model": location} if location else {}}


def folder(root: Path, megabytes: int, dtype: str) -> str:
    model = root / f"{dtype}-{megabytes}"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"dtype": dtype}))
    with (model / "model.safetensors").open("wb") as file:
        file.truncate(megabytes * 1_000_000)
    return str(model)


def test_memory_and_time_grow_with_the_model_and_with_each_attempt(tmp_path: Path) -> None:
    small, large = (order("evaluate", pretrained=folder(tmp_path, size, "float32")) for size in (10, 10_000))
    assert BASE_MB < mem_mb(small, tmp_path, 1) < BASE_MB + 1000
    assert mem_mb(large, tmp_path, 1) > BASE_MB + 10_000
    assert 60 <= runtime(small, tmp_path, 1) < 70 < 600 < runtime(large, tmp_path, 1)
    for what in (mem_mb, runtime):
        assert [what(large, tmp_path, n) for n in (2, 3)] == [n * what(large, tmp_path, 1) for n in (2, 3)]


def test_weights_of_16_bits_count_twice(tmp_path: Path) -> None:
    full, half = (order("quantize", pretrained=folder(tmp_path, *one)) for one in ((200, "float32"), (100, "bfloat16")))
    assert mem_mb(full, tmp_path, 1) == mem_mb(half, tmp_path, 1)


def test_a_model_of_the_hub_is_unknown_until_it_is_described(tmp_path: Path) -> None:
    one = order("evaluate", pretrained="owner/name")
    assert [mem_mb(one, tmp_path, n) for n in (1, 2)] == [UNKNOWN_MB, 2 * UNKNOWN_MB]
    described = tmp_path / "results" / "model" / "m" / "key.json"
    described.parent.mkdir(parents=True)
    described.write_text(json.dumps({"result": {"n_total": 1_000_000}}))
    assert BASE_MB < mem_mb(one, tmp_path, 1) < BASE_MB + 100


@pytest.mark.parametrize("stage", ["table", "laws", "report"])
def test_steps_without_a_model_ask_for_little(tmp_path: Path, stage: str) -> None:
    assert mem_mb(order(stage), tmp_path, 1) == BASE_MB
    assert runtime(order(stage), tmp_path, 2) == 120


def test_a_damaged_description_is_left_to_the_stage_that_reads_it(tmp_path: Path) -> None:
    described = tmp_path / "results" / "model" / "m" / "key.json"
    described.parent.mkdir(parents=True)
    described.write_text("{")
    assert mem_mb(order("evaluate", pretrained="owner/name"), tmp_path, 1) == UNKNOWN_MB
