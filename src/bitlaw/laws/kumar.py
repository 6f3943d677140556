"""Loss added by quantization after training, against size, training tokens and bits (Kumar et al. 2024)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bitlaw.laws.base import Constant, Law
from bitlaw.laws.damage import DamageSettings, clipped_exp, hold_d, hold_n, problems

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from bitlaw.laws.base import Array, Values

C_T = Constant("C_T", "C_T", "scale", (1e-12, 1e12), (1e-6, 1e4), log=True, published=0.0598)
GAMMA_D = Constant("gamma_D", r"\gamma_D", "exponent of training tokens", (-3.0, 3.0), (0.0, 1.0), published=0.5068)
GAMMA_N = Constant("gamma_N", r"\gamma_N", "exponent of size", (-3.0, 3.0), (0.0, 1.0), published=0.3439)
GAMMA_POST = Constant(
    "gamma_post",
    r"\gamma_{post}",
    "bits in which the loss falls by e",
    (0.05, 20.0),
    (0.2, 2.0),
    log=True,
    published=0.5907,
)


def function(inputs: Values, constants: Values) -> Array:
    """Return C_T D^gamma_D N^-gamma_N exp(-P / gamma_post) in nats per token."""
    import numpy as np

    size = np.log(inputs["n_tokens"]) * constants["gamma_D"] - np.log(inputs["n_params"]) * constants["gamma_N"]
    exponent = np.log(constants["C_T"]) + size - inputs["effective_bits"] / constants["gamma_post"]
    return clipped_exp(exponent)


def plain(constants: Mapping[str, float]) -> str:
    """Return what a bit and ten times the parameters do, as far as ``constants`` tell."""
    said = []
    if "gamma_post" in constants:
        said.append(f"one more bit divides it by {math.exp(1.0 / constants['gamma_post']):.2g}")
    if "gamma_N" in constants:
        exponent = constants["gamma_N"]
        does = "divide" if exponent >= 0 else "multiply"
        said.append(f"ten times the parameters {does} it by {10.0 ** abs(exponent):.2g}")
    return ", ".join(said)


def pool(rows: pd.DataFrame) -> tuple[tuple[Constant, ...], tuple[str, ...]]:
    """Hold the exponents that the rows cannot tell."""
    notes = ["C_T stands for the paper's C_T times exp(b): its offset b = 1.1277 cannot be told from C_T."]
    gamma_n, gamma_d = hold_n(rows, GAMMA_N, notes), hold_d(rows, GAMMA_D, notes)
    return (C_T, gamma_d, gamma_n, GAMMA_POST), tuple(notes)


LAW = Law(
    name="kumar",
    title="Loss added by quantization",
    formula=r"\delta(N, D, P) = C_T \, \frac{D^{\gamma_D}}{N^{\gamma_N}} \, \exp\left(-\frac{P}{\gamma_{post}}\right)",
    source="Kumar et al. 2024, arXiv:2411.04330, post-training term, constants of Table 2",
    target="delta_nll",
    inputs=("n_params", "n_tokens", "effective_bits"),
    constants=(C_T, GAMMA_D, GAMMA_N, GAMMA_POST),
    function=function,
    select=problems(pool, "element", bits=True),
    pool=pool,
    settings=DamageSettings,
    resample="model",
    plain=plain,
)
