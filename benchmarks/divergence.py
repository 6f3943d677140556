"""What the distance from the unquantized model costs beside the loss alone, for models of the zoo.

Run: ``python benchmarks/divergence.py [MODEL ...]``, by default for all. The protocol is the embedded study's. Times
are of one thread's CPU, in milliseconds for each cell: the loss of quantized weights; with divergence and agreement,
when what is needed of the unquantized model has been kept; and the first time, when it has not.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bitlaw.evaluation.divergence import Text, compare, forget, own_loss
from bitlaw.evaluation.nll import nll
from bitlaw.formats.grammar import parse
from bitlaw.models.linears import quantizable, swapped
from bitlaw.models.load import load_model, load_tokenizer
from bitlaw.models.tokens import encode
from bitlaw.text import CORPORA

ROOT = Path(__file__).resolve().parents[1]
REPEATS = 3


def milliseconds(call: Callable[[], Any], before: Callable[[], Any] = lambda: None) -> float:
    """Return the least CPU time of ``call``, each time after ``before``, which is not counted."""
    times = []
    for _ in range(REPEATS):
        before()
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def measure(folder: Path, whole: str) -> tuple[float, float, float]:
    """Return the times of the loss alone, of the comparison, and of the first comparison."""
    location = {"pretrained": str(folder), "revision": None}
    model, ids = load_model(location), encode(load_tokenizer(location), whole, 8192).ids
    linears, number = quantizable(model), parse("int4_b64")
    weights = {linear.name: number.fake_quantize(linear.weight().clone()) for linear in linears}
    text = Text(ids, 256, 255, 8)

    def both() -> None:
        compare(model, lambda: swapped(linears, weights), text, folder.name)

    with swapped(linears, weights):
        alone = milliseconds(lambda: nll(model, ids, text.window, text.stride, text.batch))
    own_loss(model, text, folder.name)
    return alone, milliseconds(both), milliseconds(both, forget)


def main() -> None:
    """Print the table."""
    names = sys.argv[1:] or sorted(path.parent.name for path in (ROOT / "data" / "zoo").glob("*/config.json"))
    torch.set_num_threads(1)
    corpus = CORPORA["pydoc"]
    whole = corpus.read(corpus.Settings(source="pydoc"), ROOT)
    print("| model | loss alone | with the distance | the first time |\n| --- | --- | --- | --- |")
    for name in names:
        times = measure(ROOT / "data" / "zoo" / name, whole)
        print(f"| {name} | {' | '.join(f'{value:.0f}' for value in times)} |")
        forget()


if __name__ == "__main__":
    main()
