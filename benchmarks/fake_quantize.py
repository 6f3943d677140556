"""Fake quantization of a float32 matrix on one CPU core, as multiples of the time of a plain copy.

Run: ``python benchmarks/fake_quantize.py [--json FILE] [--size 4096] [--rounds 20]``. bitlaw and the copy write to the
same kept matrix. Plain torch is the code that defines the formats; the packages (those of them that are installed)
return a new matrix, as their functions do. "memory" is what the process grew by at most, beyond the two matrices.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from common import machine, medians, package, save, table, versions
from torch import Tensor

from bitlaw.formats.grammar import parse

TARGETS = {
    **{"mxint4_b32": 2, "mxfp4_e2m1_b32": 2, "int4_g128_sym": 2, "int4_g128_asym": None, "nvfp4_b16": None},
    **{"nf4_b64": 4, "fp4_e2m1_b64": 4, "dyn4_b64": 4, "quantile4_b64": 4},
    **{"fp8_e4m3_b64": 12, "dyn8_b64": 12, "quantile8_b64": 12},
}
"""At most so many times as long as a copy."""

PACKAGES = ("auto-round", "torchao", "bitsandbytes", "compressed-tensors")
Call = Callable[[], object]


def auto_round(w: Tensor, name: str) -> Call | None:
    """Return auto-round's call for the format ``name``."""
    if (mx := package("auto_round.data_type.mxfp")) and name.startswith("mx"):
        kind = {"mxint4_b32": "mx_int4", "mxfp4_e2m1_b32": "mx_fp4e2m1"}[name]
        return lambda: mx.quant_mx(w, data_type=kind, group_size=32)
    if (integers := package("auto_round.data_type.int")) and name.startswith("int4"):
        function = integers.quant_tensor_asym if name.endswith("asym") else integers.quant_tensor_sym_gptq
        return lambda: function(w, 4, 128, scale_dtype=torch.float32)
    return None


def torchao(w: Tensor, name: str) -> Call | None:
    """Return torchao's call for the format ``name``."""
    if name == "mxfp4_e2m1_b32" and (mx := package("torchao.prototype.mx_formats.mx_tensor")):
        return lambda: mx.MXTensor.to_mx(w, torch.float4_e2m1fn_x2, 32).dequantize(torch.float32)
    if name == "nvfp4_b16" and (nv := package("torchao.prototype.mx_formats.nvfp4_tensor")):

        def call() -> Tensor:
            scale = nv.per_tensor_amax_to_scale(w.abs().amax())
            return nv.NVFP4Tensor.to_nvfp4(w, per_tensor_scale=scale).dequantize(torch.float32)

        return call
    if name.startswith("int4_g128") and (p := package("torchao.quantization.quant_primitives")):
        symmetric, size = not name.endswith("asym"), (1, 128)
        kind = p.MappingType.SYMMETRIC if symmetric else p.MappingType.ASYMMETRIC
        dtype, low, high = (torch.int8, -8, 7) if symmetric else (torch.uint8, 0, 15)

        def affine() -> Tensor:
            scale, zero = p.choose_qparams_affine(w, kind, size, dtype, low, high, scale_dtype=torch.float32)
            codes = p.quantize_affine(w, size, scale, zero, dtype, low, high)
            return p.dequantize_affine(codes, size, scale, zero, dtype, low, high)

        return affine
    return None


def bitsandbytes(w: Tensor, name: str) -> Call | None:
    """Return bitsandbytes' call for the format ``name``."""
    if not name.startswith(("nf4", "fp4", "fp8", "dyn")) or not (f := package("bitsandbytes.functional")):
        return None
    if name == "nf4_b64":
        return lambda: f.dequantize_4bit(*f.quantize_4bit(w, blocksize=64, quant_type="nf4"))
    bits = int(name.removeprefix("dyn").removeprefix("fp")[0])
    if name.startswith("dyn"):
        code = f.create_dynamic_map(True, bits - 1, bits)
    else:
        code = f.create_fp8_map(True, int(name[5]), int(name[7]), bits)
    return lambda: f.dequantize_blockwise(*f.quantize_blockwise(w, code=code, blocksize=64))


def compressed_tensors(w: Tensor, name: str) -> Call | None:
    """Return compressed-tensors' call for the format ``name``."""
    if name not in ("mxfp4_e2m1_b32", "int4_g128_sym", "int4_g128_asym"):
        return None
    q, helpers = package("compressed_tensors.quantization"), package("compressed_tensors.quantization.utils")
    if q is None:
        return None
    block = 32 if name.startswith("mx") else 128
    options: dict[str, Any] = {"num_bits": 4, "strategy": "group", "group_size": block}
    if name.startswith("mx"):
        args = q.QuantizationArgs(type="float", scale_dtype=torch.uint8, zp_dtype=torch.uint8, **options)
    else:
        args = q.QuantizationArgs(type="int", symmetric=not name.endswith("asym"), **options)

    def call() -> Tensor:
        blocks = w.unflatten(-1, (-1, block))
        return q.fake_quantize(w, *helpers.calculate_qparams(blocks.amin(-1), blocks.amax(-1), args), args)

    return call


RIVALS = {
    "auto-round": auto_round,
    "torchao": torchao,
    "bitsandbytes": bitsandbytes,
    "compressed-tensors": compressed_tensors,
}


def measure(name: str, w: Tensor, out: Tensor, rounds: int) -> dict[str, float]:
    """Return the median seconds of all sides for the format ``name``."""
    fmt = parse(name)
    calls: dict[str, Call] = {"copy": lambda: out.copy_(w), "bitlaw": lambda: fmt.fake_quantize(w, out=out)}
    calls["plain torch"] = lambda: fmt._fake_quantize(w, fmt.shared(w), out)
    calls |= {rival: call for rival, make in RIVALS.items() if (call := make(w, name)) is not None}
    return medians(calls, rounds)


MEMORY = """
import resource, sys, torch
from bitlaw.formats.grammar import parse
torch.set_num_threads(1)
w, out = torch.randn(2 * (int(sys.argv[2]),)), torch.zeros(2 * (int(sys.argv[2]),))
fmt = parse(sys.argv[1])
fmt.fake_quantize(w[:64], out=out[:64])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fmt.fake_quantize(w, out=out)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def memory(name: str, size: int) -> float:
    """Return the MiB that a fresh process grows by at most while it rounds a matrix."""
    command = [sys.executable, "-c", MEMORY, name, str(size)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def cells(result: dict[str, Any]) -> Iterator[str]:
    """Yield the cells of a row of the table."""
    copy = result["seconds"]["copy"]
    target = TARGETS[result["format"]]
    yield from (f"`{result['format']}`", f"{copy * 1e3:.1f} ms", "" if target is None else f"{target}x")
    yield f"**{result['seconds']['bitlaw'] / copy:.1f}x**"
    for side in ("plain torch", *RIVALS):
        yield f"{result['seconds'][side] / copy:.0f}x" if side in result["seconds"] else ""
    yield f"{result['memory']:.1f} MiB"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of the matrix")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("formats", nargs="*", default=list(TARGETS))
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    w = 0.02 * torch.randn(chosen.size, chosen.size, generator=torch.Generator().manual_seed(0))
    out = torch.zeros_like(w)
    results = [
        {"format": name, "seconds": measure(name, w, out, chosen.rounds), "memory": memory(name, chosen.size)}
        for name in chosen.formats
    ]
    found = versions(PACKAGES)
    head = ["format", "copy", "at most", "bitlaw", "plain torch", *RIVALS, "memory"]
    print(f"{chosen.size} x {chosen.size} float32, one thread; {machine()}", end="")
    print("".join(f", {name} {version}" for name, version in found.items()), end="\n\n")
    print(table(head, [list(cells(result)) for result in results]))
    save(chosen.json, {"machine": machine(), "packages": found, "size": chosen.size, "results": results})


if __name__ == "__main__":
    main()
