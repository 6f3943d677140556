"""Laws, predictor and claims on a made-up table of 35,000 rows: seconds of each, and peak memory.

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
from bitlaw.laws import LAWS
from bitlaw.laws.compare import compare
from bitlaw.laws.fit import fit
from bitlaw.predictor.report import report
from bitlaw.table import COLUMNS, frame

FAMILIES, SIZES, METHODS = 5, 10, ("rtn", "gptq", "awq", "proxy")
TEXT = "sums"
MX = ("power_offset", "kumar", "ouyang", "gmse", "panferov")


def made(rows: int) -> pd.DataFrame:
    """Return a table of at least ``rows`` rows: 50 models, the usual names of formats, four methods."""
    rng = np.random.default_rng(0)
    names = [name for name in grammar.known_names() if "row" not in name and "none" not in name]
    step = max(1, len(names) * len(METHODS) * FAMILIES * SIZES // rows)
    formats = [grammar.parse(name) for name in names[::step]]
    found: list[dict[str, Any]] = []
    for family in range(FAMILIES):
        for at in range(SIZES):
            n = int(1e6 * 3**at)
            model = {
                "model": f"f{family}-{n}",
                "family": f"f{family}",
                "source": "made",
                "n_params": n,
                "n_total": 2 * n,
            }
            model |= {
                "n_tokens": 20 * n,
                "text": TEXT,
                "text_sha256": "ab" * 32,
                "window": 256,
                "stride": 255,
                "finite": True,
            }
            model |= {"eval_tokens": 8191, "eval_bytes": 20_000, "settings": "{}", "mix": "none", "dtype": "float32"}
            base = 1.5 + (10 + family) * n**-0.15
            found.append(_cell(model, None, "none", base, 0.0))
            for fmt in formats:
                bits = fmt.effective_bits((256, 4096))
                for shift, method in enumerate(METHODS):
                    delta = 30 * n**-0.3 * 4.0**-bits * math.exp(0.2 * rng.standard_normal() - 0.1 * shift) * 100
                    found.append(_cell(model, fmt, method, base, min(delta, 5.0)))
    return frame(found)


def _cell(model: dict[str, Any], fmt: Any, method: str, base: float, delta: float) -> dict[str, Any]:
    about = {"format": "unquantized", "element": "none", "bits": 16, "block": "none", "scale_rule": "none"}
    bits = 16.0
    if fmt is not None:
        bits = fmt.effective_bits((256, 4096))
        about = {"format": str(fmt), "element": fmt.element.name, "bits": fmt.bits, "block": str(fmt.block)}
        about["scale_rule"] = fmt.scale_rule
    numbers = {"effective_bits": bits, "model_bits": bits * model["n_params"], "q_ratio": 0.0 if fmt is None else 1.0}
    losses = {"nll": base + delta, "delta_nll": delta, "perplexity": math.exp(base + delta), "bits_per_byte": 1.0}
    known = {"scale_dtype": "none" if fmt is None else fmt.scale_dtype, "sqnr_db": None if fmt is None else 6.0 * bits}
    return {
        **dict.fromkeys(column.name for column in COLUMNS),
        **model,
        **about,
        **numbers,
        **losses,
        **known,
        "method": method,
        "key": f"{model['model']}/{about['format']}/{method}",
    }


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
    parser.add_argument("--laws", nargs="*", default=list(MX), help="names of laws; default: those of studies/mx.yaml")
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
