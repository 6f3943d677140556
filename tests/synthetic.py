"""Made-up results tables that obey the laws with known constants."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bitlaw.landscape.columns import LANDSCAPE_COLUMNS
from bitlaw.table import frame

if TYPE_CHECKING:
    import pandas as pd

FAMILIES = ("bloom", "gpt2", "gpt_neox", "llama", "opt")
SIZES = (100_000, 440_000, 1_600_000)
FORMATS = (
    ("int", 2, "64"),
    ("int", 3, "64"),
    ("int", 4, "64"),
    ("int", 5, "64"),
    ("int", 4, "row"),
    ("mxint", 3, "32"),
    ("mxint", 4, "32"),
)
ENTROPY = 1.2
CURVE = {
    "bloom": (40.0, 0.22),
    "gpt2": (60.0, 0.26),
    "gpt_neox": (80.0, 0.28),
    "llama": (90.0, 0.30),
    "opt": (50.0, 0.24),
}
KUMAR = {"rtn": (0.2, 0.30, 0.60), "gptq": (0.1, 0.34, 0.55)}
GAMMA_D = 0.5068


def row(**values: Any) -> dict[str, Any]:
    """Return one table row: a baseline of a small model with ``values`` put in."""
    given = {
        "model": "gpt2-s", "family": "gpt2", "source": "train", "n_params": 100_000, "n_total": 400_000,
        "n_tokens": 450_000_000, "format": "unquantized", "element": "none", "bits": 16, "block": "none",
        "scale_rule": "none", "scale_dtype": "none",
        "effective_bits": 16.0, "method": "none", "settings": "{}", "seed": None, "q_ratio": 0.0, "model_bits": 6.4e6,
        "mix": "none", "high": "none", "select": "none", "select_settings": "{}",
        "q_target": None, "trial": None,
        "sqnr_db": None, "nll": 4.0, "delta_nll": 0.0, "bits_per_byte": 2.0, "finite": True,
        "kl": 0.0, "top1_agreement": 1.0, "output_sqnr_db": None, "accuracy": None, "accuracy_stderr": None,
        "tasks": None, "dtype": "float32",
        "window": 128, "stride": 128, "eval_tokens": 20_000, "eval_bytes": 60_000, "text": "manual",
        "text_sha256": "ab" * 32, "calibration_text": None, "calibration_text_sha256": None,
        "calibration_samples": None, "calibration_length": None, **dict.fromkeys(LANDSCAPE_COLUMNS),
    }  # fmt: skip
    given |= values
    given.setdefault("perplexity", math.exp(min(given["nll"], 700.0)))
    given.setdefault("key", f"{given['model']}/{given['format']}/{given['method']}/{given['text']}")
    return given


def table(
    *,
    families: tuple[str, ...] = FAMILIES,
    sizes: tuple[int, ...] = SIZES,
    tokens: tuple[int, ...] = (450_000_000,),
    formats: tuple[tuple[str, int, str], ...] = FORMATS,
    noise: float = 0.01,
    seed: int = 0,
) -> pd.DataFrame:
    """Return a table of every family at every size and token count, in every format by RTN and GPTQ.

    Args:
        families: names, with constants in ``CURVE``.
        sizes: non-embedding parameters.
        tokens: training tokens.
        formats: element, bits, block.
        noise: standard deviation of the logarithm of losses (baseline) and of loss differences.
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for family in families:
        scale, alpha = CURVE[family]
        for n in sizes:
            for d in tokens:
                base = (ENTROPY + scale * n**-alpha) * math.exp(noise * rng.standard_normal())
                shared = {
                    "model": f"{family}-{n}-{d}",
                    "family": family,
                    "n_params": n,
                    "n_total": n + 300_000,
                    "n_tokens": d,
                }
                rows.append(row(**shared, nll=base, model_bits=16.0 * (n + 300_000)))
                rows += [_quantized(shared, base, *f, method, noise, rng) for f in formats for method in KUMAR]
    return frame(rows)


def _quantized(
    shared: dict[str, Any], base: float, element: str, bits: int, block: str, method: str, noise: float, rng: Any
) -> dict[str, Any]:
    c, gamma_n, gamma_post = KUMAR[method]
    overhead = {"64": 16 / 64, "32": 8 / 32, "row": 0.02}[block]
    effective, n = bits + overhead, shared["n_params"]
    delta = c * shared["n_tokens"] ** GAMMA_D * n**-gamma_n * math.exp(-effective / gamma_post)
    delta *= math.exp(noise * rng.standard_normal())
    name = f"{element}{bits}_{'row' if block == 'row' else 'b' + block}"
    return row(
        **shared, format=name, element=f"{element}{bits}", bits=bits, block=block, effective_bits=effective,
        scale_rule="floor" if element == "mxint" else "absmax", scale_dtype="e8m0" if element == "mxint" else "float16",
        method=method,
        nll=base + delta, delta_nll=delta, q_ratio=1.0, sqnr_db=6.02 * bits, model_bits=n * effective + 16.0 * 300_000,
        settings='{"damping":0.01}' if method == "gptq" else "{}",
        calibration_text="train" if method == "gptq" else None, calibration_samples=64 if method == "gptq" else None,
    )  # fmt: skip


def laws(
    table: pd.DataFrame, bootstraps: int = 20, names: tuple[str, ...] = ("kumar", "power_offset")
) -> dict[str, Any]:
    """Return what the laws stage says of ``table``, with the laws ``names`` at their default settings."""
    from bitlaw.laws import LAWS
    from bitlaw.laws.compare import compare
    from bitlaw.laws.fit import fit

    records = {}
    for name in names:
        law = LAWS[name]
        declared = {"title": law.title, "formula": law.formula, "source": law.source, "target": law.target}
        fitted = fit(law, table, law.settings(), seed=0, bootstraps=bootstraps)
        records[name] = {**declared, "inputs": list(law.inputs), **fitted}
    comparison = compare(table, {name: LAWS[name] for name in names}, seed=0)
    return {"laws": records, "comparison": comparison, "seed": 0, "bootstraps": bootstraps}


def landscapes(table: pd.DataFrame) -> dict[str, Any]:
    """Return what the landscape stage might say of each model of ``table``."""
    r_db = [-40.0, -30.0, -20.0, -10.0, 0.0]
    profiles = [[level * 10 ** (r / 10) for r in r_db] for level in (2.0, 4.0)]
    radial = {"gaussian": {"r_db": r_db, "delta_nll": profiles, "step": {"height": 4.0}}}
    return {name: {"radial": radial} for name in table["model"].unique()}


def mixes(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows of mixed cells: two shares of the weights of each model of ``table``, by trials and by an order."""
    found = []
    for model in table[table["method"] == "none"].to_dict("records"):
        about = {name: model[name] for name in ("model", "family", "n_params", "n_total", "n_tokens")}
        for share in (0.5, 0.9):
            for select, trial, factor in (("random", 0, 1.0), ("random", 1, 1.4), ("output_error", None, 0.8)):
                delta = 0.1 * share * factor
                kind = {"format": "int4_b64", "element": "int4", "bits": 4, "block": "64", "effective_bits": 10.0}
                mix = {"mix": "matmul", "select": select, "trial": trial, "q_target": share, "q_ratio": share}
                loss = {"nll": model["nll"] + delta, "delta_nll": delta, "model_bits": 0.6 * model["model_bits"]}
                key = f"{model['model']}/{share}/{select}/{trial}"
                found.append(row(**about, **kind, **mix, **loss, method="rtn", sqnr_db=25.0, key=key))
    return found


def predictor(table: pd.DataFrame, most: int = 3000) -> dict[str, Any]:
    """Return what the predictor stage might say of ``table``, with at most ``most`` points in each figure."""
    rng = np.random.default_rng(0)
    quantized = table[table["method"] != "none"]
    some = quantized[quantized["finite"]].iloc[:: max(1, len(quantized) // most)]
    points = [
        {
            "measured": float(one.delta_nll), "predicted": float(one.delta_nll * (1 + 0.1 * rng.standard_normal())),
            "low": 0.8 * float(one.delta_nll), "high": 1.2 * float(one.delta_nll),
            "model": one.model, "format": one.format, "method": one.method, "key": one.key,
        }
        for one in some.itertuples()
    ]  # fmt: skip
    error = {"mae": 0.01, "median": 0.005, "r2": 0.9}
    folds = [{"held_out": name, "model": "forest", **error} for name in sorted(table["family"].dropna().unique())]
    records = {
        name: {
            "protocol": name, "says": "as made up", "errors": {"chosen": error, "forest": error}, "folds": folds,
            "coverage": 0.9, "points": points,
        }
        for name in ("family", "largest", "format")
    }  # fmt: skip
    one = {"evaluation": "manual", "cells": len(quantized), "excluded": {}, "records": records, "refused": {}}
    return {"seed": 0, "evaluations": [one]}


def claims() -> dict[str, Any]:
    """Return what the claims stage might say: one claim of each verdict."""
    points = [{"x": 10.0**i, "y": 0.1 * i, "group": group} for i in range(5, 9) for group in ("opt", "bloom")]
    drawn = {"points": points, "x": "parameters", "y": "share", "log_x": True, "line": 0.0}
    shared = {"paper": "A paper 2023", "measure": "a share", "rule": "above 0", "why": "as made up", "figure": drawn}
    numbers = {"statistic": 0.5, "low": 0.1, "high": 0.9}
    verdicts = ("holds", "does not hold", "not enough data")
    return {
        "refused": None,
        "claims": [{"title": f"Claim that {verdict}", "verdict": verdict, **shared, **numbers} for verdict in verdicts],
    }
