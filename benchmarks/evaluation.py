"""How near the loss of a text comes to the rate of plain matrix products, and what swapping in weights costs.

Run: ``python benchmarks/evaluation.py [--device cuda] [--dtype bfloat16] [--compile] [--json PATH]``. The measure is
the share of the rate that matrix products reach in the same run, for the operations that the model's definition needs:
two for each weight of its linears and each token (head included), and causal attention. Two rates are given: that of
one large square product, and that of products of the model's own shapes, which is what a model could reach at best.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from bitlaw.evaluation.nll import nll
from bitlaw.formats.grammar import parse
from bitlaw.models.linears import quantizable, swapped

SIZES = {"25 M": (512, 8, 8192), "110 M": (768, 12, 32000), "400 M": (1024, 24, 32000)}
"""Width, depth and vocabulary of Llamas, by their rough number of parameters."""


def seconds(call: Callable[[], object], device: str, repeats: int) -> float:
    """Return the median time of ``call``, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def llama(width: int, depth: int, vocabulary: int, window: int) -> Any:
    """Return an untrained Llama: the time does not depend on its weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=width // 64,
        intermediate_size=int(width * 8 / 3 / 64) * 64,
        vocab_size=vocabulary,
        max_position_embeddings=window,
    )
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def operations(model: Any, tokens: int, window: int) -> float:
    """Return the floating-point operations that the loss of ``tokens`` tokens needs, causal attention counted half."""
    config = model.config
    weights = sum(linear.parameter.numel() for linear in quantizable(model)) + config.vocab_size * config.hidden_size
    return tokens * (2.0 * weights + 2.0 * config.num_hidden_layers * config.hidden_size * window)


def square_rate(device: str, dtype: torch.dtype, repeats: int) -> float:
    """Return the operations per second of one large matrix product."""
    n = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)
    return 2.0 * n**3 / seconds(lambda: torch.mm(a, b, out=out), device, repeats)


def own_rate(model: Any, tokens: int, device: str, dtype: torch.dtype, repeats: int) -> float:
    """Return the operations per second of the products of one block and the head on ``tokens`` tokens."""
    weights = [linear.weight() for linear in quantizable(model) if ".0." in linear.name]
    inputs = {w.shape[1]: torch.randn(tokens, w.shape[1], device=device, dtype=dtype) for w in weights}

    def run() -> None:
        for w in weights:
            nn.functional.linear(inputs[w.shape[1]], w)

    return 2.0 * tokens * sum(w.numel() for w in weights) / seconds(run, device, repeats)


def measure(
    device: str, dtype: torch.dtype, sizes: list[str], batch: int, *, compiled: bool
) -> Iterator[dict[str, Any]]:
    """Yield a row for each size of model."""
    repeats, window = (10, 1024) if device == "cuda" else (3, 256)
    for size in sizes:
        model = llama(*SIZES[size], window).to(device=device, dtype=dtype)
        if compiled:
            model.base_model.compile(dynamic=False)
        count = batch * (4 if device == "cuda" else 1)
        tokens = torch.randint(0, model.config.vocab_size, (1 + count * (window - 1),))
        used = count * window
        # Turn by turn, so that a busy machine slows all sides.
        rates: dict[str, list[float]] = {"square": [], "own": [], "nll": []}
        for _ in range(3):
            rates["square"].append(square_rate(device, dtype, repeats))
            rates["own"].append(own_rate(model, batch * window, device, dtype, repeats))
            spent = seconds(partial(nll, model, tokens, window, window - 1, batch), device, repeats)
            rates["nll"].append(operations(model, used, window) / spent)
        square, own, reached = (statistics.median(rates[name]) for name in ("square", "own", "nll"))
        yield {
            "model": size,
            "tokens/s": used * reached / operations(model, used, window),
            "TFLOP/s": reached / 1e12,
            "square product": square / 1e12,
            "% of it": 100 * reached / square,
            "own shapes": own / 1e12,
            "% of them": 100 * reached / own,
            **swap(model, device, repeats),
        }


def swap(model: Any, device: str, repeats: int) -> dict[str, Any]:
    """Return the time and the memory of swapping all of a cell's weights in and out, in copies of these weights."""
    linears = quantizable(model)
    weights = {linear.name: parse("int8_b64").fake_quantize(linear.weight().float()) for linear in linears}
    copies = [linear.parameter.detach().clone() for linear in linears]

    def copy() -> None:
        for kept, linear in zip(copies, linears, strict=True):
            kept.copy_(linear.parameter)

    def exchange() -> None:
        with swapped(linears, weights):
            pass

    one = sum(part.nbytes for part in copies)
    found = {"swap/copy": seconds(exchange, device, repeats) / seconds(copy, device, repeats)}
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        exchange()
        found["swap memory/weights"] = (torch.cuda.max_memory_allocated() - before) / one
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default=None, help="default: bfloat16 on a GPU, float32 on a CPU")
    parser.add_argument("--sizes", nargs="+", default=None, choices=list(SIZES))
    parser.add_argument("--batch", type=int, default=None, help="windows at once")
    parser.add_argument("--compile", action="store_true", help="as `compile: true` in a study")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cuda = options.device == "cuda"
    if not cuda:
        torch.set_num_threads(1)
    dtype = getattr(torch, options.dtype or ("bfloat16" if cuda else "float32"))
    sizes = options.sizes or (list(SIZES) if cuda else ["25 M"])
    batch = options.batch or (64 if cuda else 16)
    rows = []
    for row in measure(options.device, dtype, sizes, batch, compiled=options.compile):
        rows.append(row)
        print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
    if options.json:
        name = torch.cuda.get_device_name() if cuda else "cpu"
        options.json.write_text(json.dumps({"device": name, "torch": torch.__version__, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
