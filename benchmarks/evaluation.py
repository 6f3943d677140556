"""How near the loss of a text comes to the rate of plain matrix products, and what swapping in weights costs.

Run: ``python benchmarks/evaluation.py [--device cuda] [--dtype bfloat16] [--variants eager compiled] [--json PATH]``.
The measure is the share of the rate that matrix products reach in the same run, for the operations that the model's
definition needs: two for each weight of its linears and each token (head included), and causal attention. Two rates are
given: that of one large square product, and that of products of the model's own shapes, which is what a model could
reach at best.

Where the time goes: ``body alone`` is a run of all but the head; products, attention, loss and rest are what torch's
profiler saw the device do, by kernels' names; ``idle`` is what is left of the time without the profiler. ``cell/loss``
is the time of a cell's loss with its distance from the model's own predictions, which are kept, beside the loss alone.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

from bitlaw.evaluation.divergence import Text, compare, forget, own_loss
from bitlaw.evaluation.nll import nll
from bitlaw.formats.grammar import parse
from bitlaw.models.compiled import compile_blocks
from bitlaw.models.linears import quantizable, swapped

SIZES = {"25 M": (512, 8, 8192), "110 M": (768, 12, 32000), "400 M": (1024, 24, 32000)}
"""Width, depth and vocabulary of Llamas, by their rough number of parameters."""

VARIANTS = ("eager", "compiled", "body", "compiled-cudnn", "compiled-flash")
"""As it stands; as ``compile: true`` in a study; all but the head compiled as one, which makes masks; as ``compiled``,
with attention by this kernel."""

KINDS = {
    "attention": "flash|fmha|attention|sdpa",
    "loss": "_describe|_compare|softmax|nll_loss|cross_entropy",
    "products": r"gemm|nvjet|cutlass|xmma|cublas|splitk|aten::(add)?b?mm",
}
"""What kernels do, by what is in their names; the first that fits."""


def synchronize(device: str) -> None:
    """Wait for a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def once(call: Callable[[], object], device: str) -> float:
    """Return the time of ``call``, with all that is compiled in it."""
    start = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - start


def seconds(call: Callable[[], object], device: str, repeats: int) -> float:
    """Return the median time of ``call``, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        synchronize(device)
        start = time.perf_counter()
        call()
        synchronize(device)
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


@contextmanager
def variant(name: str, model: Any) -> Iterator[None]:
    """Compute as ``VARIANTS`` says inside the ``with`` block."""
    torch._dynamo.reset()
    if name.startswith("compiled"):
        compile_blocks(model)
    if name == "body":
        model.base_model.compile(dynamic=False)
    first = {"compiled-cudnn": SDPBackend.CUDNN_ATTENTION, "compiled-flash": SDPBackend.FLASH_ATTENTION}.get(name)
    order = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    with sdpa_kernel([first, *order], set_priority=True) if first else nullcontext():
        yield


def parts(call: Callable[[], object], device: str) -> dict[str, float]:
    """Return the seconds of ``call`` that the device spends with each of ``KINDS``, and with the rest, by name."""
    kind = ProfilerActivity.CUDA if device == "cuda" else ProfilerActivity.CPU
    with profile(activities=[kind], acc_events=True) as profiler:
        call()
        synchronize(device)
    spent: dict[str, float] = {}
    for event in profiler.key_averages():
        took = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
        spent[event.key] = spent.get(event.key, 0.0) + took / 1e6
    return spent


def grouped(spent: dict[str, float]) -> dict[str, float]:
    """Return the sum over the names of each kind in ``KINDS``, and ``rest``."""
    sums = dict.fromkeys([*KINDS, "rest"], 0.0)
    for name, took in spent.items():
        found = next((kind for kind, words in KINDS.items() if re.search(words, name, re.IGNORECASE)), "rest")
        sums[found] += took
    return sums


def measure(
    device: str, dtype: torch.dtype, sizes: list[str], variants: list[str], batch: int
) -> Iterator[dict[str, Any]]:
    """Yield a row for each size of model and each variant."""
    repeats, window = (3, 1024) if device == "cuda" else (3, 256)
    for size, name in product(sizes, variants):
        model = llama(*SIZES[size], window).to(device=device, dtype=dtype)
        count = batch * (4 if device == "cuda" else 1)
        tokens = torch.randint(0, model.config.vocab_size, (1 + count * (window - 1),)).to(device)
        inputs = tokens[:window].repeat(batch, 1)
        needed = operations(model, count * window, window)
        with variant(name, model):
            loss = partial(nll, model, tokens, window, window - 1, batch)
            first = once(loss, device)
            # Turn by turn, so that a busy machine slows all sides.
            rates: dict[str, list[float]] = {"square": [], "own": [], "nll": []}
            for _ in range(3):
                rates["square"].append(square_rate(device, dtype, repeats))
                rates["own"].append(own_rate(model, batch * window, device, dtype, repeats))
                rates["nll"].append(needed / seconds(loss, device, repeats))
            square, own, reached = (statistics.median(rates[name]) for name in ("square", "own", "nll"))
            body = seconds(partial(run_body, model, inputs), device, repeats) * count / batch
            cell = seconds(cell_of(model, tokens, window, batch), device, repeats)
            spent = parts(loss, device)
        forget()
        whole = needed / reached
        sums = grouped(spent)
        busy = sum(sums.values())
        yield {
            "model": size,
            "variant": name,
            "first run s": first,
            "tokens/s": count * window / whole,
            "TFLOP/s": reached / 1e12,
            "square product": square / 1e12,
            "% of it": 100 * reached / square,
            "own shapes": own / 1e12,
            "% of them": 100 * reached / own,
            "ms": 1e3 * whole,
            "ms body alone": 1e3 * body,
            **{f"ms {kind}": 1e3 * took for kind, took in sums.items()},
            # Kernels take longer under the profiler, a little: below zero means that the device never waits.
            "ms idle": 1e3 * (whole - busy),
            "cell/loss": cell / whole,
            **swap(model, device, repeats),
            "longest": [f"{key[:60]} {1e3 * took:.2f}" for key, took in sorted(spent.items(), key=lambda x: -x[1])[:8]],
        }
        del model


@torch.inference_mode()
def run_body(model: Any, inputs: torch.Tensor) -> None:
    """Run all but the head on one batch of windows."""
    model.base_model(input_ids=inputs, use_cache=False)


def cell_of(model: Any, tokens: torch.Tensor, window: int, batch: int) -> Callable[[], object]:
    """Return what compares changed weights with the model's own, of which what is needed has been kept."""
    text = Text(tokens, window, window - 1, batch)
    own_loss(model, text, "own")
    return partial(compare, model, nullcontext, text, "own")


def attention(device: str, dtype: torch.dtype, sizes: list[str], batch: int) -> Iterator[dict[str, Any]]:
    """Yield the time of one block's attention by each kernel that torch has, and by its own choice, with a mask too."""
    window = 1024
    for size in sizes:
        width, depth, _ = SIZES[size]
        q, k, v = (torch.randn(batch, width // 64, window, 64, device=device, dtype=dtype) for _ in range(3))
        mask = torch.ones(window, window, dtype=torch.bool, device=device).tril().expand(batch, 1, -1, -1)
        causal = partial(nn.functional.scaled_dot_product_attention, q, k, v, is_causal=True)
        masked = partial(nn.functional.scaled_dot_product_attention, q, k, v, attn_mask=mask)
        row: dict[str, Any] = {"model": size, "blocks": depth}
        for name, call, backend in (
            ("causal", causal, None),
            ("masked", masked, None),
            ("cudnn", causal, SDPBackend.CUDNN_ATTENTION),
            ("flash", causal, SDPBackend.FLASH_ATTENTION),
            ("efficient", causal, SDPBackend.EFFICIENT_ATTENTION),
        ):
            try:
                with sdpa_kernel(backend) if backend else nullcontext():
                    row[f"ms {name}"] = 1e3 * seconds(call, device, 20)
            except RuntimeError as error:
                row[f"ms {name}"] = str(error).splitlines()[0]
        yield row


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


def show(row: dict[str, Any]) -> None:
    """Print ``row``."""
    print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default=None, help="default: bfloat16 on a GPU, float32 on a CPU")
    parser.add_argument("--sizes", nargs="+", default=None, choices=list(SIZES))
    parser.add_argument("--batch", type=int, default=None, help="windows at once")
    parser.add_argument("--variants", nargs="+", default=["eager", "compiled"], choices=VARIANTS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cuda = options.device == "cuda"
    if not cuda:
        torch.set_num_threads(1)
    dtype = getattr(torch, options.dtype or ("bfloat16" if cuda else "float32"))
    sizes = options.sizes or (list(SIZES) if cuda else ["25 M"])
    batch = options.batch or (64 if cuda else 16)
    rows = []
    if cuda:
        for row in attention(options.device, dtype, sizes, batch):
            rows.append(row)
            show(row)
    for row in measure(options.device, dtype, sizes, options.variants, batch):
        rows.append(row)
        show(row)
    if options.json:
        name = torch.cuda.get_device_name() if cuda else "cpu"
        options.json.write_text(json.dumps({"device": name, "torch": torch.__version__, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
