"""What the Triton kernels reach on a GPU: fake quantization against a plain copy, and GPTQ of one layer.

Run: ``python benchmarks/gpu.py [--json PATH] [--compile]``. Fake quantization reads and writes bfloat16, and so does
the copy whose bandwidth it is compared with: the same bytes in the same run. Times are medians; matrices are far
larger than the cache. The baseline is the plain torch code that defines the formats.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from bitlaw.formats import kernels
from bitlaw.formats.grammar import parse

ROWS, COLUMNS = 8192, 16384
TARGETS = {
    **dict.fromkeys(("mxint4_b32", "mxint8_b32", "mxfp4_e2m1_b32", "mxfp6_e2m3_b32", "mxfp6_e3m2_b32"), 75),
    **dict.fromkeys(("mxfp8_e4m3_b32", "mxfp8_e5m2_b32", "int4_b64", "int4_g128_sym", "int4_g128_asym"), 75),
    **dict.fromkeys(("nf4_b64", "fp4_e2m1_b64", "dyn4_b64", "quantile4_b64"), 60),
    **dict.fromkeys(("dyn8_b64", "quantile8_b64", "fp8_e4m3_b64"), 40),
    "nvfp4_b16": 50,
}
"""Percent of a copy's bandwidth that a format should reach; NVFP4 reads the matrix twice, so its limit is 67."""

COMPILED = ("int4_b64", "mxint4_b32")
"""Formats whose plain code may also be given to torch.compile."""

LAYER = 4096
GPTQ = ("int4_g128_asym", "int4_g128_sym", "mxint4_b32", "mxfp4_e2m1_b32", "nf4_b64")


def milliseconds(call: Callable[[], object], repeats: int = 30) -> float:
    """Return the median time of ``call`` on the GPU, after two that are not counted."""
    for _ in range(2):
        call()
    marks = []
    for _ in range(repeats):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        stop.record()
        marks.append((start, stop))
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(stop) for start, stop in marks)


def fake_quantization() -> list[dict[str, Any]]:
    """Return the times of all formats: of all of ``Format.fake_quantize``, of its last kernel, and of plain torch."""
    w = torch.randn(ROWS, COLUMNS, device="cuda").bfloat16()
    out = torch.empty_like(w)
    copy = milliseconds(lambda: out.copy_(w))
    rows = [{"what": "copy", "ms": copy, "percent of copy": 100.0, "GB/s": w.nbytes * 2 / copy / 1e6}]
    for name, target in TARGETS.items():
        fmt = parse(name)
        shared = fmt.shared(w)
        if not kernels.fake_quantize(fmt, w, shared, out):
            raise SystemExit(f"no kernel takes {name}")
        copy = milliseconds(lambda: out.copy_(w))
        times = {
            "ms": milliseconds(partial(fmt.fake_quantize, w, out)),
            "shared parts given": milliseconds(partial(kernels.fake_quantize, fmt, w, shared, out)),
            "plain": milliseconds(partial(fmt._fake_quantize, w, shared, out), 3),
        }
        rows.append({"what": name, **times, "percent of copy": 100 * copy / times["ms"], "target": target})
    return rows


def compiled() -> list[dict[str, Any]]:
    """Return the times of the plain code of some formats under torch.compile."""
    w = torch.randn(ROWS, COLUMNS, device="cuda").bfloat16()
    out = torch.empty_like(w)
    rows = []
    for name in COMPILED:
        call = torch.compile(parse(name)._fake_quantize)
        rows.append({"what": name, "ms": milliseconds(partial(call, w, {}, out))})
    return rows


def gptq() -> list[dict[str, Any]]:
    """Return the times of GPTQ of one square layer: the factor, made once, and each format on it."""
    from bitlaw.methods import gptq_factor, gptq_solver

    generator = torch.Generator("cuda").manual_seed(0)
    x = torch.randn(2 * LAYER, LAYER, device="cuda", generator=generator)
    h = x.T @ x / LAYER
    w = torch.randn(LAYER, LAYER, device="cuda", generator=generator)
    energy = float((w @ h).mul_(w).sum())
    rows = []
    for order in (False, True):
        factorize = partial(gptq_factor.factorize, h, 0.01, act_order=order)
        factor = factorize()
        rows.append({"what": f"factorize{', act-order' if order else ''}", "ms": wall(factorize)})
        for name, static in product(GPTQ, (False, True)):
            if order and not static:
                continue  # the one combination whose scales are taken column by column
            options = {"block_columns": 128, "static_groups": static, "energy": energy}
            solve = partial(gptq_solver.solve, w, factor, parse(name), **options)
            loss = float(solve()[1]["proxy_loss"])
            what = f"solve {name}{', static' if static else ''}{', act-order' if order else ''}"
            rows.append({"what": what, "ms": wall(solve), "proxy loss": loss})
    return rows


def wall(call: Callable[[], object], repeats: int = 10) -> float:
    """Return the median of the whole time of ``call``, the host's work included, in milliseconds."""
    import time

    call()
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def table(rows: list[dict[str, Any]], columns: list[str]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in rows:
        cells = [row.get(column, "") for column in columns]
        lines.append("| " + " | ".join(f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write all numbers here")
    parser.add_argument("--compile", action="store_true", help=f"also time torch.compile of {' and '.join(COMPILED)}")
    parser.add_argument("--skip", choices=["formats", "gptq"], help="leave out a half")
    chosen = parser.parse_args()
    machine = torch.cuda.get_device_name()
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}"
    result: dict[str, Any] = {"machine": machine, "versions": versions}
    print(f"## {machine}, {versions}\n")
    if chosen.skip != "formats":
        result["fake quantization"] = rows = fake_quantization()
        print(f"\nFake quantization, {ROWS} x {COLUMNS}, bfloat16 in and out, ms:\n")
        columns = ["what", "ms", "percent of copy", "target", "shared parts given", "plain", "GB/s"]
        print(table(rows, columns))
    if chosen.skip != "gptq":
        result["gptq"] = rows = gptq()
        print(f"\nGPTQ, {LAYER} x {LAYER}, Hessian given, ms:\n")
        print(table(rows, ["what", "ms", "proxy loss"]))
    if chosen.compile:  # last: its workers take processor time from what follows
        result["torch.compile"] = rows = compiled()
        print(f"\nPlain code under torch.compile, {ROWS} x {COLUMNS}, ms:\n")
        print(table(rows, ["what", "ms"]))
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
