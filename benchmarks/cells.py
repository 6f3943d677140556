"""Cells a second: ``bitlaw run`` on the embedded models with several processes, with and without NVIDIA's MPS.

Run: ``python benchmarks/cells.py [--workers 1 4 8] [--mps] [--variants 1 8] [--models NAME ...] [--tokens N]``.

Every model in the formats of ``FORMATS`` by ``rtn`` and ``gptq`` on one text, weights held in memory. What is printed
is the time from the first cell of all to the last, after a run that is not counted: it compiles kernels; and what
quantizing and evaluating a cell took in its process, medians. Processes on one GPU take turns; with ``--mps`` each
number of processes is also measured under MPS, which lets them run at once. The server is started for the measurement
and stopped behind it.
"""

from __future__ import annotations

import argparse
import os
import pydoc_data.topics
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import torch
import yaml
from common import machine, save, table

from bitlaw.study.load import load_study
from bitlaw.study.seconds import read_seconds

FORMATS = ["mxint{2..5}_b32", "int{3,4}_b64", "quantile4_b64", "fp4_e2m1_b64", "int{3..8}_b128"]
MODELS = ["*-1.6m", "gpt2-0.4m", "llama-0.4m", "opt-0.4m"]
HOLD = "calibrate,factorize,quantize"
STAGES = ("quantize", "evaluate")
CONTROL = "nvidia-cuda-mps-control"


def study(arguments: argparse.Namespace, text: str, variants: int) -> dict[str, object]:
    """Return the study that is run, ``variants`` cells of a small model in one pass."""
    return {
        "models": [{"source": "zoo", "name": arguments.models}],
        "formats": arguments.formats,
        "methods": ["rtn", "gptq"],
        "calibration": {"text": {"source": "file", "path": text}, "samples": arguments.samples, "length": 256},
        "evaluation": {
            "text": {"source": "file", "path": text},
            "window": 256,
            "stride": 256,
            "max_tokens": arguments.tokens,
            "batch": 800,
            "dtype": arguments.dtype,
            "variants": variants,
        },
    }


def run(arguments: argparse.Namespace, workers: int, variants: int, extra: dict[str, str]) -> dict[str, float]:
    """Return what a run in a new folder took.

    Returns:
        ``cells``: their number; ``seconds`` between the first and the last; medians of ``quantize`` and ``evaluate``.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "studies").mkdir()
        (root / "params.yaml").write_text("study: cells\n", "utf-8")
        topics = "\n".join(pydoc_data.topics.topics.values())
        (root / "text.txt").write_text(topics * -(-arguments.tokens * 8 // len(topics)), "utf-8")
        (root / "studies" / "cells.yaml").write_text(yaml.safe_dump(study(arguments, "text.txt", variants)), "utf-8")
        load_study(root)  # a mistake is told before anything runs
        command = [sys.executable, "-m", "bitlaw", "run", "--workers", str(workers), "--hold", HOLD]
        subprocess.run([*command, "--until", "evaluate"], cwd=root, check=True, capture_output=True, env=extra)
        times = sorted(path.stat().st_mtime for path in (root / "results" / "evaluate").rglob("*.json"))
        took = [(Path(path).parts[1], seconds) for path, seconds in read_seconds(root).items()]
        medians = {stage: statistics.median(one for name, one in took if name == stage) for stage in STAGES}
        return {"cells": len(times), "seconds": times[-1] - times[0], **medians}


@contextmanager
def mps(wanted: bool) -> Iterator[dict[str, str]]:
    """Give the variables of processes that shall share a GPU, with MPS running if it is ``wanted``."""
    if not wanted:
        yield dict(os.environ)
        return
    with tempfile.TemporaryDirectory() as folder:
        where = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        env = {**os.environ, **where}
        subprocess.run([CONTROL, "-d"], env=env, check=True, capture_output=True)
        try:
            yield env
        finally:
            subprocess.run([CONTROL], input="quit\n", text=True, env=env, check=True, capture_output=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--mps", action="store_true", help="measure under NVIDIA's Multi-Process Service too")
    parser.add_argument("--variants", type=int, nargs="+", default=[1], help="cells of a small model in one pass")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--formats", nargs="+", default=FORMATS)
    parser.add_argument("--tokens", type=int, default=204_800)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--dtype", default="float16")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.mps and shutil.which(CONTROL) is None:
        parser.error(f"--mps needs {CONTROL}")
    print(torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU", machine(), sep="; ")
    for variants in arguments.variants:
        run(arguments, max(arguments.workers), variants, dict(os.environ))
    rows, record = [], []
    for workers in arguments.workers:
        for shared, variants in product([False, True] if arguments.mps else [False], arguments.variants):
            with mps(shared) as env:
                found = run(arguments, workers, variants, env)
            record.append({"workers": workers, "mps": shared, "variants": variants, **found})
            cells, seconds = found["cells"], found["seconds"]
            row = [str(workers), "yes" if shared else "no", str(variants), str(cells), f"{seconds:.1f}"]
            own = [f"{(cells - 1) / seconds:.1f}", *(f"{1e3 * found[stage]:.1f}" for stage in STAGES)]
            rows.append([*row, *own])
    print(table(["processes", "MPS", "variants", "cells", "s", "cells/s", *(f"{stage}, ms" for stage in STAGES)], rows))
    save(arguments.json, {"machine": machine(), "rows": record})


if __name__ == "__main__":
    main()
