"""Loss added by quantization with calibration: size, bits, group and calibration samples (Zhou et al. 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.laws.base import Constant, Law
from bitlaw.laws.damage import DamageSettings, clipped_exp, hold_n, hold_unvaried, problems
from bitlaw.laws.inputs import block_values

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.laws.base import Array, Values

A = Constant("A", "A", "scale", (1e-12, 1e12), (1e-4, 1e4), log=True)
ALPHA = Constant("alpha", r"\alpha", "exponent of size", (-3.0, 3.0), (-1.0, 0.0), published=-0.359)
BETA = Constant("beta", r"\beta", "exponent of log2 bits", (-20.0, 3.0), (-5.0, 0.0), published=-1.067)
GAMMA = Constant("gamma", r"\gamma", "exponent of log2 calibration samples", (-5.0, 5.0), (-0.5, 0.5), published=-0.032)
DELTA = Constant("delta", r"\delta", "exponent of the group", (-3.0, 3.0), (-0.5, 0.5), published=0.073)


def function(inputs: Values, constants: Values) -> Array:
    """Return A N^alpha (log2 B)^beta (log2 C_b)^gamma G^delta in nats per token."""
    import numpy as np

    bits = constants["beta"] * np.log(np.log2(inputs["bits"]))
    calibration = constants["gamma"] * np.log(np.log2(np.maximum(inputs["calibration_samples"], 2.0)))
    group = constants["delta"] * np.log(inputs["block_values"])
    size = constants["alpha"] * np.log(inputs["n_params"])
    return clipped_exp(np.log(constants["A"]) + size + bits + calibration + group)


def pool(rows: pd.DataFrame) -> tuple[tuple[Constant, ...], tuple[str, ...]]:
    """Hold the exponents of what does not vary."""
    notes = [
        "The paper fits -ln of accuracy above chance; here the same product is fitted to the loss added, so its "
        "exponents are not those to expect."
    ]
    alpha, beta = hold_n(rows, ALPHA, notes), hold_unvaried(rows, "bits", BETA, notes)
    gamma = hold_unvaried(rows, "calibration_samples", GAMMA, notes)
    return (A, alpha, beta, gamma, hold_unvaried(rows, "block_values", DELTA, notes)), tuple(notes)


LAW = Law(
    name="zhou",
    title="Loss added by calibrated quantization",
    formula=r"\delta(N, B, C_b, G) = A \, N^{\alpha} (\log_2 B)^{\beta} (\log_2 C_b)^{\gamma} G^{\delta}",
    source="Zhou et al. 2025, arXiv:2508.18609, general task, constants as quoted elsewhere",
    target="delta_nll",
    inputs=("n_params", "bits", "calibration_samples", "block_values"),
    constants=(A, ALPHA, BETA, GAMMA, DELTA),
    function=function,
    select=problems(pool, varied=("settings", "calibration_text")),
    pool=pool,
    settings=DamageSettings,
    derived={"block_values": block_values},
    resample="model",
)
