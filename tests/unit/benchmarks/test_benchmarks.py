"""Every benchmark still runs: on the smallest input, with nothing said about its times."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "benchmarks"
LOOP = [f"{FOLDER.parent}/data/zoo/neox-0.1m", *("--evaluation", f"{FOLDER.parent}/README.md")]
LOOP += ["--calibration", f"{FOLDER.parent}/CONTRIBUTING.md", *("--rtn", "int4_g32_sym"), *("--gptq", "int4_g32_sym")]
LOOP += ["--tokens", "256", "--window", "64", "--samples", "2", "--length", "32", "--rounds", "1"]
SMALLEST = {
    "analysis.py": ["--rows", "300", "--laws", "kumar", "--bootstraps", "20"],
    "assignments.py": ["--models", "gpt2-0.1m", "--sets", "2"],
    "baseline_loop.py": LOOP,
    "cells.py": [
        *("--workers", "2", "--models", "gpt2-0.1m", "opt-0.1m", "--formats", "int4_b64"),
        *("--tokens", "2048", "--samples", "4", "--dtype", "float32", "--variants", "4"),
    ],
    "divergence.py": ["gpt2-0.1m"],
    "evaluation.py": ["--batch", "1"],
    "fake_quantize.py": ["--size", "256", "--rounds", "1", "mxint4_b32"],
    "gptq.py": ["--size", "128", "--rounds", "1"],
    "gpu.py": ["--help"],  # it needs a GPU
    "job_overhead.py": ["--rounds", "1"],
    "landscape.py": ["--models", "gpt2-0.1m"],
    "laws.py": ["--bootstraps", "20"],
    "page.py": ["--rows", "300", "--repeats", "1"],
    "scale.py": ["--help"],  # its smallest part takes a minute
    "untrained.py": ["FOLDER", "--models", "opt-5m", "neox-5m"],
}


def test_each_benchmark_is_here() -> None:
    assert set(SMALLEST) == {path.name for path in FOLDER.glob("*.py")} - {"common.py", "hand_loop.py"}


@pytest.mark.parametrize("name", SMALLEST)
def test_it_runs(name: str, tmp_path: Path) -> None:
    if name == "page.py" and shutil.which("chromium") is None:
        pytest.skip("needs chromium")
    env = {**os.environ, "PYTHONPATH": str(FOLDER.parent / "src"), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    words = [str(tmp_path) if word == "FOLDER" else word for word in SMALLEST[name]]
    command = [sys.executable, str(FOLDER / name), *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
