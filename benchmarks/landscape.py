"""The cost of a landscape in forward passes: a batched radial profile, a plain loop, and products with the Hessian.

Run: ``python benchmarks/landscape.py [--json FILE] [--device cpu] [--models NAME ...]``, from the repository's folder.
A forward pass is the model as ``transformers`` calls it, with its usual attention, under ``inference_mode``, and the
loss of the same windows. Every column is in units of it. ``--compare`` also measures the same landscape on the CPU and
prints how far the two are apart.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from common import machine, save, table
from torch.func import grad, jvp

from bitlaw.landscape.curvature import extremes, trace
from bitlaw.landscape.radial import distances_db, profiles
from bitlaw.landscape.step import locate
from bitlaw.landscape.surface import Surface, cut
from bitlaw.landscape.vectors import Weights, gaussian, moved, seeds
from bitlaw.models.load import load_model, load_tokenizer
from bitlaw.models.tokens import encode

ZOO = Path(__file__).resolve().parents[1] / "data" / "zoo"
POINTS, ROUNDS = 16, 3
HEAD = ("model", "tokens", "forward", "loop", "batched", "at once", "product", "forward over reverse")


def seconds(call: Callable[[], object], device: str) -> float:
    """Return the median seconds of a call: of this process on a CPU, of the clock on a GPU."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    found = []
    for _ in range(ROUNDS + 1):
        start = clock()
        call()
        if device != "cpu":
            torch.cuda.synchronize()
        found.append(clock() - start)
    return statistics.median(found[1:])


def surface_of(name: str, device: str, windows: int, window: int) -> Surface:
    """Return the surface of a model of the zoo on CPython's manual."""
    place = {"pretrained": str(ZOO / name)}
    text = "\n".join(text for _, text in sorted(topics.items()))
    ids = encode(load_tokenizer(place), text, windows * window).ids
    return Surface(load_model({**place, "device": device}), cut(ids, window), windows)


def plain(surface: Surface) -> Callable[[], object]:
    """Return the forward pass that costs are counted in."""

    @torch.inference_mode()
    def call() -> float:
        logits = surface.model(input_ids=surface.windows, use_cache=False).logits[:, :-1].flatten(0, 1)
        targets = surface.windows[:, 1:].flatten()
        return float(torch.nn.functional.cross_entropy(logits, targets, reduction="none").double().sum())

    return call


def over_reverse(surface: Surface, v: Weights) -> Callable[[], object]:
    """Return a product with the Hessian by forward mode over reverse mode, for comparison."""

    def call() -> None:
        with surface._differentiable():
            jvp(grad(lambda w: surface._sum(w, surface.windows)), (surface.weights,), (v,))

    return call


def measure(name: str, device: str, windows: int, window: int) -> dict[str, Any]:
    """Return seconds of a forward pass, and costs in forward passes."""
    surface = surface_of(name, device, windows, window)
    v = gaussian(surface.weights, 0)
    points = [moved(surface.weights, v, 1e-3 * i) for i in range(POINTS)]
    unit = seconds(plain(surface), device)
    return {
        "model": name,
        "tokens": windows * window,
        "forward": unit,
        "loop": seconds(lambda: surface.losses(points, 1), device) / POINTS / unit,
        "batched": seconds(lambda: surface.losses(points), device) / POINTS / unit,
        "at_once": surface.at_once,
        "product": seconds(lambda: surface.hvp(v), device) / unit,
        "forward_over_reverse": seconds(over_reverse(surface, v), device) / unit,
    }


def features(name: str, device: str) -> dict[str, float]:
    """Return a small landscape."""
    surface = surface_of(name, device, 8, 128)
    r_db = distances_db(13)
    found = profiles(surface, (gaussian(surface.weights, seed) for seed in seeds(0, 3)), r_db)
    step = locate(r_db, found, surface.loss, 2048)
    return {
        "loss": surface.loss,
        "farthest point of a profile": found[0][-1],
        "step_db": step.step_db,
        "step_width_db": step.width_db,
        "hessian_trace": trace(surface.hvp, surface.weights, 4, 0).value,
        "top_eigenvalue": extremes(surface.hvp, surface.weights, 12, 0).top,
    }


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models", nargs="+", default=["gpt2-0.1m", "bloom-0.4m", "llama-1.6m"])
    parser.add_argument("--compare", action="store_true", help="also compare the values with those of the CPU")
    chosen = parser.parse_args()
    device = "" if chosen.device == "cpu" else f", {torch.cuda.get_device_name()}"
    print(f"{machine()}{device}; float32, {POINTS} sets of weights\n")
    sizes = ((1, 64), (8, 256))
    costs = [measure(name, chosen.device, *size) for name in chosen.models for size in sizes]
    rows = [
        [f"`{c['model']}`", f"{c['tokens']:,}", f"{1e3 * c['forward']:.1f} ms"]
        + [f"{c[key]:.2f}" for key in ("loop", "batched")]
        + [str(c["at_once"]), f"{c['product']:.1f}", f"{c['forward_over_reverse']:.1f}"]
        for c in costs
    ]
    print(table(HEAD, rows))
    compared = {}
    if chosen.compare:
        for name in chosen.models:
            here, there = features(name, "cpu"), features(name, chosen.device)
            compared[name] = {"cpu": here, chosen.device: there}
            lines = [[key, f"{here[key]:.6g}", f"{there[key]:.6g}"] for key in here]
            print(f"\n{name}\n\n{table(['', 'cpu', chosen.device], lines)}")
    save(chosen.json, {"machine": machine() + device, "costs": costs, "compared": compared})


if __name__ == "__main__":
    main()
