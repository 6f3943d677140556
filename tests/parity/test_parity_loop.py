"""The loop that bitlaw's speed is compared with does the same work: its losses are those of the same cells here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from oracles import package

from projects import REPOSITORY, ZOO

SAME = ("int3_g32_sym", "mxfp4_e2m1_b32_even")
"""Formats in which the packages give the same weights bit for bit; the rest is the order of float32's sums."""


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, tuple[float, float]]]:
    """Return the losses of the loop and of bitlaw, by method and format."""
    package("llmcompressor")
    folder = tmp_path_factory.mktemp("loop")
    options = {
        "--evaluation": [REPOSITORY / "README.md"], "--calibration": [REPOSITORY / "docs" / "study.md"],
        "--rtn": SAME, "--gptq": SAME[:1], "--tokens": [2048], "--window": [128], "--samples": [16], "--length": [128],
        "--rounds": [1], "--json": [folder / "loop.json"],
    }  # fmt: skip
    words = [str(word) for name, values in options.items() for word in (name, *values)]
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "baseline_loop.py"), str(ZOO / "neox-0.1m"), *words]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(Path(folder / "loop.json").read_text("utf-8"))["rows"]
    return {row["method"]: {name.split()[-1]: both for name, both in row["nll"].items()} for row in rows}


@pytest.mark.parametrize("name", SAME)
def test_rounding_to_nearest(losses: Mapping[str, Mapping[str, tuple[float, float]]], name: str) -> None:
    loop, ours = losses["rtn"][name]
    assert loop == pytest.approx(ours, abs=1e-5)


def test_gptq(losses: Mapping[str, Mapping[str, tuple[float, float]]]) -> None:
    """A code that is rounded otherwise, after a sum in another order, moves all after it: not bit for bit."""
    nearest, _ = losses["rtn"][SAME[0]]
    loop, ours = losses["gptq, sequential"][SAME[0]]
    assert loop < nearest
    assert abs(loop - ours) < 0.1 * (nearest - loop)
