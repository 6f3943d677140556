"""How long the laws take: a made-up table of 35,000 rows, and Chinchilla's fit with 4,000 resamples.

python benchmarks/laws.py [--rows 35000] [--bootstraps 1000] [--chinchilla FILE]
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd

from bitlaw.formats import grammar
from bitlaw.formats.gmse import gmse
from bitlaw.laws import LAWS
from bitlaw.laws.compare import compare
from bitlaw.laws.fit import fit
from bitlaw.published.chinchilla import points
from bitlaw.table import COLUMNS, UNQUANTIZED, frame

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
                                  "model_bits": n * bits + 16.0 * 500_000})  # fmt: skip
    kept = set(rng.permutation(len(found))[:rows])
    table = [{**row, "key": str(i)} for i, row in enumerate(found) if row["format"] == UNQUANTIZED or i in kept]
    return frame(table)


def main() -> None:
    """Fit and compare; print wall and CPU seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=35_000)
    parser.add_argument("--bootstraps", type=int, default=1000)
    parser.add_argument("--laws", default="power_offset,kumar,ouyang,gmse,panferov")
    parser.add_argument("--chinchilla", metavar="FILE")
    options = parser.parse_args()
    table = made(options.rows)
    print(f"{len(table)} rows, {table['model'].nunique()} models, {len(FORMATS)} formats")
    total, cpu = time.perf_counter(), time.process_time()
    names = options.laws.split(",")
    for name in names:
        begin = time.perf_counter()
        record = fit(LAWS[name], table, LAWS[name].settings(), seed=0, bootstraps=options.bootstraps)
        print(f"{name}: {len(record['fits'])} fits, {time.perf_counter() - begin:.1f} s")
    begin = time.perf_counter()
    compare(table, {name: LAWS[name] for name in names}, seed=0)
    print(f"comparison: {time.perf_counter() - begin:.1f} s")
    print(f"together: {time.perf_counter() - total:.1f} s, {time.process_time() - cpu:.1f} s of one core")
    if options.chinchilla:
        law, runs = LAWS["chinchilla"], points(Path(options.chinchilla))
        begin = time.perf_counter()
        fit(law, runs, law.settings(), seed=0, bootstraps=4000)
        print(f"chinchilla, 4,000 resamples: {time.perf_counter() - begin:.1f} s")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
