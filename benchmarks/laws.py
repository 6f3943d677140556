"""How long Chinchilla's fit with 4,000 resamples takes.

Run: ``python benchmarks/laws.py [FILE] [--bootstraps 4000]``. FILE holds the runs of Hoffmann et al. 2022 as read off
their figure by Besiroglu et al. 2024 (``bitlaw.published.chinchilla.SOURCE``); without it, as many runs are made up
from the constants found there, with noise of 0.5 %.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bitlaw.laws import LAWS
from bitlaw.laws.fit import fit
from bitlaw.published.chinchilla import points
from bitlaw.table import COLUMNS, UNQUANTIZED, frame

RUNS = 240


def made() -> pd.DataFrame:
    """Return as many runs as the figure has, of 1e8 to 1e10 parameters and 1e9 to 1e12 tokens."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for run in range(RUNS):
        n, tokens = int(10 ** rng.uniform(8, 10)), int(10 ** rng.uniform(9, 12))
        loss = (1.8172 + 482.01 * n**-0.3478 + 2085.43 * tokens**-0.3658) * float(np.exp(0.005 * rng.standard_normal()))
        rows.append(
            {c.name: False if c.dtype == "bool" else None for c in COLUMNS}
            | {
                "model": f"run-{run}",
                "family": "made",
                "source": "made",
                "n_params": n,
                "n_total": n,
                "n_tokens": tokens,
            }
            | {"format": UNQUANTIZED, "method": "none", "bits": 16, "effective_bits": 16.0, "q_ratio": 0.0, "nll": loss}
            | {"delta_nll": 0.0, "text": "made", "finite": True, "key": str(run)}
        )
    return frame(rows)


def main() -> None:
    """Fit, and print the constants and the seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--bootstraps", type=int, default=4000)
    options = parser.parse_args()
    law, runs = LAWS["chinchilla"], points(options.file) if options.file else made()
    begin = time.perf_counter()
    (found,) = fit(law, runs, law.settings(), seed=0, bootstraps=options.bootstraps)["fits"]
    constants = ", ".join(f"{one['name']} {one['value']:.5g}" for one in found["constants"])
    print(f"{len(runs)} runs, {options.bootstraps:,} resamples: {time.perf_counter() - begin:.1f} s; {constants}")


if __name__ == "__main__":
    main()
