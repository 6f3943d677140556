"""Laws, predictor and claims on a made-up table of 35,000 rows on three texts: seconds of each, and peak memory.

python benchmarks/analysis.py [--rows 35000] [--laws kumar power_offset ...] [--bootstraps 1000]

What is timed is what the stages do: each law fitted, all compared on what they did not see, the predictor, the claims.
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from bitlaw.claims.run import run as test_claims
from bitlaw.formats import grammar
from bitlaw.formats.gmse import gmse
from bitlaw.laws import LAWS
from bitlaw.laws.compare import compare
from bitlaw.laws.fit import fit
from bitlaw.predictor.report import report
from bitlaw.table import COLUMNS, UNQUANTIZED, frame

LAWS_OF_MX = ("power_offset", "kumar", "ouyang", "gmse", "panferov")
FORMATS = [
    *grammar.expand("mxint{2..8}_b{32,64,128}"),
    *grammar.expand("mxfp{4_e2m1,6_e2m3,6_e3m2,8_e4m3,8_e5m2}_b{32,64,128}"),
    *grammar.expand("int{2..8}_b{64,128,256,1024}"),
    *grammar.expand("quantile{3..8}_b{64,256}"),
    *grammar.expand("dyn{3..8}_b{64,256}"),
]
FAMILIES = ("gpt2", "opt", "bloom", "llama", "neox")
SIZES = tuple(int(1e5 * 3**i) for i in range(6))
METHODS, TEXTS = ("rtn", "gptq", "awq", "proxy"), ("wikipedia", "wikitext-2", "novels")


def made(rows: int, seed: int = 0) -> pd.DataFrame:
    """Return a table of about ``rows`` rows whose losses follow noise, size and a family's own factor."""
    rng = np.random.default_rng(seed)
    known = {c.name: False if c.dtype == "bool" else None for c in COLUMNS}
    numbers = [grammar.parse(name) for name in FORMATS]
    noise = {str(number): gmse(number) for number in numbers}
    models = [
        (family, n, d * n) for d in (20, 5, 80) for n in SIZES for family in FAMILIES if family == "llama" or d == 20
    ]
    found = []
    for family, n, tokens in models:
        factor = float(np.exp(0.3 * FAMILIES.index(family)))
        for text in TEXTS:
            base = 1.5 + 40.0 * n**-0.25 + 100.0 * tokens**-0.3 + 0.01 * float(rng.standard_normal())
            one = {**known, "model": f"{family}-{n}-{tokens}", "family": family, "source": "train", "n_params": n}
            one |= {"n_total": n + 500_000, "n_tokens": tokens, "text": text, "text_sha256": text, "window": 256}
            one |= {"stride": 256, "eval_tokens": 200_000, "eval_bytes": 800_000, "finite": True, "settings": "{}"}
            one |= {"mix": "none", "dtype": "bfloat16"}
            plain = {"format": UNQUANTIZED, "method": "none", "bits": 16, "effective_bits": 16.0, "q_ratio": 0.0}
            found.append({**one, **plain, "nll": base, "delta_nll": 0.0, "model_bits": 16.0 * (n + 500_000)})
            for number in numbers:
                bits = number.effective_bits((256, 256))
                for method in METHODS:
                    x = factor * 30.0 * noise[str(number)] * n**-0.15 * float(np.exp(0.2 * rng.standard_normal()))
                    delta = 4.0 * -np.expm1(-x / 4.0)
                    found.append({**one, "format": str(number), "method": method, "element": number.element.name,
                                  "bits": number.bits, "block": str(number.block), "scale_rule": number.scale_rule,
                                  "scale_dtype": number.scale_dtype, "effective_bits": bits, "q_ratio": 1.0,
                                  "nll": base + delta, "delta_nll": delta, "calibration_samples": 64,
                                  "sqnr_db": -10.0 * math.log10(noise[str(number)]),
                                  "model_bits": n * bits + 16.0 * 500_000})  # fmt: skip
    kept = set(rng.permutation(len(found))[:rows])
    table = [{**row, "key": str(i)} for i, row in enumerate(found) if row["format"] == UNQUANTIZED or i in kept]
    return frame(table)


def timed(name: str, work: Callable[[], Any]) -> float:
    """Do ``work``, print its seconds and return them."""
    begin = time.perf_counter()
    work()
    seconds = time.perf_counter() - begin
    print(f"{name:<24}{seconds:>8.1f} s", flush=True)
    return seconds


def main() -> None:
    """Print the seconds of each part, their sum, and the peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=35_000)
    parser.add_argument(
        "--laws", nargs="*", default=list(LAWS_OF_MX), help="names of laws; default: those of studies/mx.yaml"
    )
    parser.add_argument("--bootstraps", type=int, default=1000)
    options = parser.parse_args()
    table = made(options.rows)
    print(f"{len(table):,} rows, {table['model'].nunique()} models, {table['format'].nunique()} formats")
    total = 0.0
    for name in options.laws:
        law = LAWS[name]
        total += timed(
            f"law {name}", lambda law=law: fit(law, table, law.settings(), seed=0, bootstraps=options.bootstraps)
        )
    laws = {name: LAWS[name] for name in options.laws}
    total += timed("comparison", lambda: compare(table, laws, seed=0))
    total += timed("predictor", lambda: report(table, 0))
    total += timed("claims", lambda: test_claims(table, 0))
    print(
        f"{'sum':<24}{total:>8.1f} s, peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"
    )


if __name__ == "__main__":
    main()
