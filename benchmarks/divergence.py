"""What the distance from the unquantized model costs beside the loss alone, for models of the zoo.

Run: ``python benchmarks/divergence.py [MODEL ...] [--device cuda --dtype float16 --tokens 200000 --batch 800]``, by
default for all models with the embedded study's protocol. Milliseconds for each cell, of one thread's CPU or of wall
time on a GPU: the loss of quantized weights; with divergence and agreement, when what is needed of the unquantized
model has been kept; and the first time, when it has not. On a GPU a second line is without kernels for logits.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bitlaw.evaluation import logits
from bitlaw.evaluation.divergence import Text, compare, forget, own_loss
from bitlaw.evaluation.nll import nll
from bitlaw.formats.grammar import parse
from bitlaw.models.linears import quantizable, swapped
from bitlaw.models.load import load_model, load_tokenizer
from bitlaw.models.tokens import encode
from bitlaw.text import CORPORA

ROOT = Path(__file__).resolve().parents[1]
REPEATS = 3


def clock(device: str) -> float:
    """Return the time that counts on ``device``, in seconds, when all that was asked of it is done."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def milliseconds(call: Callable[[], Any], device: str, before: Callable[[], Any] = lambda: None) -> float:
    """Return the least time of ``call``, each time after ``before``, which is not counted."""
    times = []
    for _ in range(REPEATS):
        before()
        start = clock(device)
        call()
        times.append(clock(device) - start)
    return 1e3 * min(times)


@contextmanager
def plain_torch() -> Iterator[None]:
    """Do without kernels for logits inside the ``with`` block."""
    taken = logits._by_kernel
    logits._by_kernel = lambda rows: False
    try:
        yield
    finally:
        logits._by_kernel = taken


def measure(folder: Path, whole: str, options: argparse.Namespace) -> tuple[float, float, float]:
    """Return the times of the loss alone, of the comparison, and of the first comparison."""
    location = {"pretrained": str(folder), "revision": None, "device": options.device}
    model = load_model(location, options.dtype)
    ids = encode(load_tokenizer(location), whole, options.tokens).ids.to(model.device)
    linears, number = quantizable(model), parse("int4_b64")
    weights = {linear.name: number.fake_quantize(linear.weight().clone()) for linear in linears}
    text = Text(ids, 256, 255, options.batch)

    def both() -> None:
        compare(model, lambda: swapped(linears, weights), text, folder.name)

    with swapped(linears, weights):
        alone = milliseconds(lambda: nll(model, ids, text.window, text.stride, text.batch), options.device)
    own_loss(model, text, folder.name)
    return alone, milliseconds(both, options.device), milliseconds(both, options.device, forget)


def main() -> None:
    """Print the table."""
    zoo = sorted(path.parent.name for path in (ROOT / "data" / "zoo").glob("*/config.json"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--batch", type=int, default=8, help="windows at once")
    options = parser.parse_args()
    torch.set_num_threads(1)
    corpus = CORPORA["pydoc"]
    whole = corpus.read(corpus.Settings(source="pydoc"), ROOT)
    print("| model | loss alone | with the distance | the first time |\n| --- | --- | --- | --- |")
    for name in options.models or zoo:
        rows = {name: measure(ROOT / "data" / "zoo" / name, whole, options)}
        forget()
        if options.device != "cpu":
            with plain_torch():
                rows[f"{name}, plain torch"] = measure(ROOT / "data" / "zoo" / name, whole, options)
            forget()
        for label, times in rows.items():
            print(f"| {label} | {' | '.join(f'{value:.1f}' for value in times)} |", flush=True)


if __name__ == "__main__":
    main()
