"""GPTQ of one layer on one CPU core, Hessian given: the first format, and each further one with the factor kept.

Run: ``python benchmarks/gptq.py [--json FILE] [--size 2048] [--rounds 8]``. llm-compressor is measured if it is
installed, with the settings under which it means the same (groups with static scales). On a GPU: ``gpu.py``.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from common import machine, medians, package, save, table, versions
from torch import Tensor

from bitlaw.formats.grammar import parse
from bitlaw.methods.gptq_factor import factorize
from bitlaw.methods.gptq_solver import solve

FORMATS = ("int4_g128_sym", "int4_g128_asym", "mxint4_b32", "mxfp4_e2m1_b32", "nf4_b64", "dyn8_b64")


def problem(size: int) -> tuple[Tensor, Tensor]:
    """Return weights, and the Hessian of correlated inputs, some of them much larger than others."""
    generator = torch.Generator().manual_seed(0)
    w = 0.02 * torch.randn(size, size, generator=generator)
    mix = torch.randn(size, size, generator=generator) / size**0.5 + torch.eye(size)
    x = torch.randn(2 * size, size, generator=generator) @ mix * torch.randn(size, generator=generator).exp()
    return w, 2 * x.T @ x / len(x)


def llm_compressor(w: Tensor, h: Tensor) -> Any:
    """Return its call for 4-bit symmetric integers in groups of 128, or ``None`` if it is not installed."""
    gptq = package("llmcompressor.modifiers.gptq.gptq_quantize")
    if gptq is None:
        return None
    q, helpers = package("compressed_tensors.quantization"), package("compressed_tensors.quantization.utils")
    args = q.QuantizationArgs(num_bits=4, type="int", strategy="group", group_size=128, symmetric=True)

    def call() -> None:
        blocks = w.unflatten(-1, (-1, 128))
        scale, zero = helpers.calculate_qparams(blocks.amin(-1), blocks.amax(-1), args)
        batch = [part.unsqueeze(0).clone() for part in (w, h, scale, zero)]
        gptq.quantize_weight(*batch, None, args, blocksize=128, percdamp=0.01)

    return call


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--size", type=int, default=2048, help="rows and columns of the layer")
    parser.add_argument("--rounds", type=int, default=8)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    w, h = problem(chosen.size)
    factor = factorize(h, 0.01, act_order=False)
    settings: dict[str, Any] = {"block_columns": 128, "energy": 1.0}
    calls: dict[str, Any] = {"factorize": lambda: factorize(h, 0.01, act_order=False)}
    for fmt in map(parse, FORMATS):
        for static in (False, True):
            key = f"{fmt}, {'static' if static else 'running'} scales"
            calls[key] = lambda fmt=fmt, static=static: solve(w, factor, fmt, static_groups=static, **settings)
    other = llm_compressor(w, h)
    seconds = medians(calls | ({"llm-compressor": other} if other else {}), chosen.rounds)
    first = seconds["factorize"]
    found = versions(("llmcompressor", "compressed-tensors"))
    print(f"{chosen.size} x {chosen.size} float32, one thread; {machine()}", end="")
    print("".join(f", {name} {version}" for name, version in found.items()), end="\n\n")
    rows = [[f"`{key}`", f"{first + seconds[key]:.2f} s", f"{seconds[key]:.2f} s"] for key in list(calls)[1:]]
    if other:
        rows.append(["llm-compressor, int4 g128 sym, static scales", *2 * [f"{seconds['llm-compressor']:.2f} s"]])
    print(table(["GPTQ", "first format", "each further one"], rows))
    print(f"\nOf the first, the factor takes {first:.2f} s.")
    save(chosen.json, {"machine": machine(), "packages": found, "size": chosen.size, "seconds": seconds})


if __name__ == "__main__":
    main()
