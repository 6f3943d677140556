"""Loss added by quantization as a product of powers of size, training tokens and bits (Ouyang et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.laws.base import Constant, Law
from bitlaw.laws.damage import DamageSettings, clipped_exp, hold_d, hold_n, problems

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.laws.base import Array, Values

K = Constant("k", "k", "scale", (1e-12, 1e12), (1e-6, 1e4), log=True, published=0.017)
ALPHA = Constant("alpha", r"\alpha", "exponent of size", (-3.0, 3.0), (0.0, 1.0), published=0.2261)
BETA = Constant("beta", r"\beta", "exponent of training tokens", (-3.0, 3.0), (0.0, 1.0), published=0.5251)
GAMMA = Constant("gamma", r"\gamma", "exponent of bits", (0.0, 40.0), (1.0, 10.0), published=5.4967)


def function(inputs: Values, constants: Values) -> Array:
    """Return k D^beta / (N^alpha P^gamma) in nats per token."""
    import numpy as np

    size = np.log(inputs["n_tokens"]) * constants["beta"] - np.log(inputs["n_params"]) * constants["alpha"]
    return clipped_exp(np.log(constants["k"]) + size - np.log(inputs["effective_bits"]) * constants["gamma"])


def pool(rows: pd.DataFrame) -> tuple[tuple[Constant, ...], tuple[str, ...]]:
    """Hold the exponents that the rows cannot tell."""
    notes: list[str] = []
    constants = (K, hold_n(rows, ALPHA, notes), hold_d(rows, BETA, notes), GAMMA)
    return constants, tuple(notes)


LAW = Law(
    name="ouyang",
    title="Loss added by quantization, powers of bits",
    formula=r"\delta(N, D, P) = k \, \frac{D^{\beta}}{N^{\alpha} P^{\gamma}}",
    source="Ouyang et al. 2024, arXiv:2411.17691, constants of GPTQ on Pythia as quoted elsewhere",
    target="delta_nll",
    inputs=("n_params", "n_tokens", "effective_bits"),
    constants=(K, ALPHA, BETA, GAMMA),
    function=function,
    select=problems(pool, "element", bits=True),
    pool=pool,
    settings=DamageSettings,
    resample="model",
)
