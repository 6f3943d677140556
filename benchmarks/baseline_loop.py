"""Cells by the loop that one would write without bitlaw, and by bitlaw: seconds for each cell, and the losses.

Run: ``python benchmarks/baseline_loop.py MODEL ... --evaluation TEXT --calibration TEXT [--grid FORMAT ...]``, on a GPU
with ``--compile``. A model is a folder in Hugging Face's form, a text a UTF-8 file.

The loop loads the model for each cell, rounds it with other packages, and evaluates it (``hand_loop.py``). bitlaw runs
the same cells and those of ``--grid`` as a study, ``bitlaw run --missing --until evaluate`` in this process, weights
in memory, each round into a new folder; its time is that of the whole study, the unquantized model, calibration and
files included, by the number of quantized cells. With ``--workers`` that is one study of all models in so many
processes, beside the loop's mean over models: what a user waits for. Start NVIDIA's MPS before, and give a ``--grid``
that is worth the start of the processes: they start, load and compile anew in each round, the loop's does so once. So
the time from the first cell to the last, by the number of cells between, stands beside that of the whole study.

Both sides see the same tokens. The loop's are made before its clock runs, for a careful user keeps them. Most loops
leave the evaluation to lm-eval, which tokenizes the text for each cell: where it is installed, each cell of the loop is
evaluated by it too, and the ratio with it stands beside. A round with few formats comes first and is not among the
medians: both sides import, load and compile most in it. Losses differ by the order of sums, and for ``asym`` by single
zero points that are ties.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import torch
import yaml
from common import machine, package, save, table, versions
from hand_loop import PARTS, Task, block_of, linears, loop_cell
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.pytorch_utils import Conv1D
from transformers.utils.logging import disable_progress_bar

from bitlaw.artifacts import read_json
from bitlaw.cli.main import main as bitlaw
from bitlaw.formats.grammar import expand
from bitlaw.models.calibration import sample_windows

PACKAGES = ("transformers", "compressed-tensors", "torchao", "llmcompressor", "lm-eval")
RTN = ["int4_g128_sym", "int4_g128_asym", "int3_g64_sym", "int8_g128_sym", "mxfp4_e2m1_b32_even"]
GPTQ = ["int4_g128_sym", "int4_g128_asym", "int3_g64_sym"]
METHODS: Mapping[str, Any] = {
    "rtn": "rtn",
    "gptq": {"name": "gptq", "static_groups": True},
    "gptq, sequential": {"name": "gptq", "static_groups": True, "sequential": True},
}
"""By the name in the table. llm-compressor's GPTQ, with scales from the weights as given, means the last one."""
SIDES = ("loop", "loop with lm-eval", "bitlaw", "bitlaw, running")
AIMS = {"rtn": 50, "gptq": 20}
"""The loop is to take so many times as long on a GPU."""


@dataclass
class Found:
    """What came of one method, loop and bitlaw.

    Attributes:
        parts: seconds of each part of each cell of the loop, by model, round after round but for the first.
        seconds: what a cell of bitlaw took, a round each, likewise.
        running: likewise, from the first cell to the last.
        nll: losses of the loop and of bitlaw, by model and format.
        cells: that bitlaw made in a round.
    """

    parts: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    running: list[float] = field(default_factory=list)
    nll: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    cells: int = 0


# bitlaw


def study(options: argparse.Namespace, tasks: Sequence[Task], formats: Sequence[str], method: Any) -> dict[str, Any]:
    """Return the study that makes the cells of ``formats`` for the models of ``tasks``."""
    text = {
        name: {"source": "file", "path": str(getattr(options, name).resolve())}
        for name in ("evaluation", "calibration")
    }
    dtype, tokens = str(tasks[0].dtype).removeprefix("torch."), tasks[0].ids.numel()
    how = {"batch": options.study_batch, "dtype": dtype, "compile": options.compile, "max_tokens": tokens}
    how["variants"] = options.variants
    return {
        "models": [{"source": "path", "path": str(task.model.resolve())} for task in tasks],
        "formats": list(formats),
        "methods": [method],
        "calibration": {"text": text["calibration"], "samples": options.samples, "length": options.length, "seed": 0},
        "evaluation": {"text": text["evaluation"], "window": options.window, "stride": options.window, **how},
        "device": options.device,
    }  # fmt: skip


def run_study(content: Mapping[str, Any], workers: int) -> tuple[float, float, dict[tuple[str, str], float]]:
    """Run a study in a new folder; return seconds for each cell, of all and once it runs, and losses by their names."""
    with tempfile.TemporaryDirectory(prefix="bitlaw-loop-") as name, chdir(name), redirect_stdout(StringIO()):
        Path("studies").mkdir()
        Path("studies", "cells.yaml").write_text(yaml.safe_dump(dict(content)), "utf-8")
        Path("params.yaml").write_text("study: cells\n", "utf-8")
        begin = time.perf_counter()
        held = ["--hold", "calibrate,factorize,quantize", "--workers", str(workers)]
        code = bitlaw(["run", "--missing", "--until", "evaluate", *held])
        seconds = time.perf_counter() - begin
        if code:
            raise SystemExit(f"bitlaw run ended with {code}")
        cells = {path: read_json(path) for path in Path("results", "evaluate").rglob("*.json")}
        times = [path.stat().st_mtime for path, cell in cells.items() if cell["quantized"]]
    quantized = {path: cell for path, cell in cells.items() if cell["quantized"]}
    losses = {(path.parts[2], cell["quantized"]["format"]): cell["nll"] for path, cell in quantized.items()}
    # A few cells say nothing of what another one takes.
    running = (max(times) - min(times)) / (len(times) - 1) if len(times) >= 10 * workers else math.nan
    return seconds / len(losses), running, losses


# Both


def compare(options: argparse.Namespace, tasks: Sequence[Task], name: str) -> Found:
    """Return what the loop and bitlaw make of the method ``name`` on some models, all rounds in turn."""
    gptq = name != "rtn"
    formats = options.gptq if gptq else options.rtn
    # Factors are shared by formats, which a grid shows; with `sequential` there is nothing to share.
    grid = [] if name == "gptq, sequential" else [each for text in options.grid for each in expand(text)]
    found = Found({task.model.name: [] for task in tasks})
    for number in range(1 + options.rounds):
        counts = number > 0
        # bitlaw takes one thread, and on a CPU that is what is compared.
        torch.set_num_threads((os.cpu_count() or 1) if options.device.startswith("cuda") else 1)
        loop = {}
        for task, each in product(tasks, formats if counts else formats[:1]):
            loop[task.model.name, each], parts = loop_cell(task, each, gptq=gptq)
            found.parts[task.model.name] += [parts] if counts else []
        chosen = list(dict.fromkeys([*formats, *(grid if counts else [])]))
        seconds, running, ours = run_study(study(options, tasks, chosen, METHODS[name]), options.workers)
        if counts:
            found.seconds.append(seconds)
            found.running.append(running)
            found.nll = {one: [loss, ours[one]] for one, loss in loop.items()}
            found.cells = len(ours)
    return found


def row(name: str, found: Found) -> dict[str, Any]:
    """Return the figures of one method on some models.

    Of the loop, the median of a model's cells and the mean of these over models, which is what as many cells of each
    would take.
    """
    formats = len(found.nll) // len(found.parts)

    def typical(*parts: str) -> float:
        each = [[sum(cell[part] for part in parts) for cell in cells] for cells in found.parts.values()]
        return statistics.fmean(statistics.median(cells) for cells in each)

    parts = [part for part in PARTS if all(part in cell for cells in found.parts.values() for cell in cells)]
    loops = {"loop": typical("load", "quantize", "evaluate")}
    if "lm-eval" in parts:
        loops["loop with lm-eval"] = typical("load", "quantize", "lm-eval")
    ours = {"bitlaw": statistics.median(found.seconds), "bitlaw, running": statistics.median(found.running)}
    ratios = {f"{loop} / {side}": took / own for loop, took in loops.items() for side, own in ours.items()}
    return {
        "model": " + ".join(found.parts),
        "method": name,
        "formats of the loop": formats,
        "cells of bitlaw": found.cells,
        **{part: typical(part) for part in parts},
        **loops,
        **ours,
        **ratios,
        "difference": max(abs(one - other) for one, other in found.nll.values()),
        "loops": {
            name: {part: statistics.median(cell[part] for cell in own) for part in parts}
            for name, own in found.parts.items()
        },
        "nll": {" ".join(one): both for one, both in found.nll.items()},
    }


def prepare(options: argparse.Namespace, model: Path) -> Task:
    """Return the task with the tokens of ``model``."""
    modules = linears(AutoModelForCausalLM.from_pretrained(model))
    for linear in modules:
        columns = linear.weight.shape[0 if isinstance(linear, Conv1D) else 1]
        for name in (*options.rtn, *options.gptq):
            if columns % block_of(name):
                raise SystemExit(f"{model}: the packages of the loop cannot round rows of {columns} weights to {name}")
    tokenizer = AutoTokenizer.from_pretrained(model)
    text = options.evaluation.read_text("utf-8")
    found = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"][: options.tokens]
    count = len(found) // options.window * options.window
    ids = torch.tensor(found[:count], device=options.device).view(-1, options.window)
    # Where windows begin is not what is compared: both take bitlaw's.
    calibration = options.calibration.read_text("utf-8")
    windows = sample_windows(tokenizer, calibration, options.samples, options.length, 0) if options.gptq else ids[:0]
    conv1d = any(isinstance(module, Conv1D) for module in modules)
    said = tokenizer.decode(found[:count], clean_up_tokenization_spaces=False)
    return Task(model, ids, windows, options.batch, getattr(torch, options.dtype), conv1d, said, tokenizer)


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a row for each method and model."""
    if options.gptq and package("llmcompressor") is None:
        print("GPTQ is left out: llmcompressor is not installed\n")
        options.gptq = []
    names = [name for name in options.methods if (options.rtn if name == "rtn" else options.gptq)]
    tasks = [prepare(options, model) for model in options.models]
    for name in names:
        able = [each for each in tasks if name == "rtn" or not each.conv1d]
        for task in [task for task in tasks if (name != "rtn" and task.conv1d)]:
            print(f"{name} of {task.model.name} is left out: llm-compressor quantizes no Conv1D\n")
        for group in [able] if options.workers > 1 else [[each] for each in able]:
            yield row(name, compare(options, group, name))


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    number = partial(parser.add_argument, type=int)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--evaluation", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--rtn", nargs="*", default=RTN, help="formats of both sides")
    parser.add_argument("--gptq", nargs="*", default=GPTQ, help="formats of both sides; none where these are too slow")
    parser.add_argument(
        "--grid", nargs="*", default=[], help="further formats that bitlaw runs, such as mxint{2..8}_b32"
    )
    number("--tokens", default=200_000, help="of the evaluation")
    number("--window", default=256)
    number("--batch", default=16, help="windows at a time in the loop")
    number("--study-batch", default=64, help="windows at a time in bitlaw")
    number("--variants", default=1, help="cells of a small model that bitlaw computes in one pass")
    number("--samples", default=128, help="windows of the calibration")
    number("--length", default=256, help="tokens in each of them")
    number("--rounds", default=3)
    number("--workers", default=1, help="processes of bitlaw; more than one run all models as one study")
    cuda = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--dtype", default="bfloat16" if cuda else "float32", help="of the passes on both sides")
    parser.add_argument("--compile", action="store_true", help="as `compile: true` in a study")
    parser.add_argument("--json", type=Path, help="also write the results here")
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    options = arguments()
    quiet()
    where = machine()
    if options.device.startswith("cuda"):
        where = f"{torch.cuda.get_device_name(options.device)}; {where}"
    found = versions(PACKAGES)
    chosen = json.loads(json.dumps(vars(options), default=str))
    rows = []
    for each in measure(options):
        rows.append(each)
        print(f"{each['model']}, {each['method']}: {each['loop / bitlaw']:.3g}x", file=sys.stderr, flush=True)
        save(options.json, {"machine": where, "packages": found, "options": chosen, "rows": rows})
    print(f"{where}, " + ", ".join(f"{name} {version}" for name, version in found.items()), end="\n\n")
    print(show(rows))
    for method in dict.fromkeys(each["method"] for each in rows):
        own = [each for each in rows if each["method"] == method]
        sides = [side for side in SIDES if side in own[0]]
        seconds = {side: sum(each[side] for each in own) for side in sides}
        said = ", ".join(f"{side} {one:.3g} s ({one / seconds['bitlaw']:.1f}x)" for side, one in seconds.items())
        aim = f"; at least {AIMS[method]}x wanted on a GPU" if method in AIMS else ""
        print(f"\n{method}, a cell of each model: {said}{aim}")


def quiet() -> None:
    """Let the packages say nothing but errors."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    disable_progress_bar()
    if package("llmcompressor"):  # its import makes loguru talk
        package("loguru").logger.remove()


def show(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the Markdown table."""
    columns = [column for column in rows[0] if column not in {"nll", "loops"}] if rows else ["model"]
    times = (*PARTS, *SIDES)
    units = {**dict.fromkeys(times, ", s"), "difference": " in NLL, at most"}
    cells = [[each[column] for column in columns] for each in rows]
    text = [[f"{one:.3g}" if isinstance(one, float) else str(one) for one in line] for line in cells]
    return table([column + units.get(column, "") for column in columns], text)


if __name__ == "__main__":
    main()
