"""Loss added when a share of the weights is quantized: size against the ratio (Cao et al. 2025, weak law)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.laws.base import Constant, Law
from bitlaw.laws.damage import DamageSettings, clipped_exp, problems

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.laws.base import Array, Values

C = Constant("C", "C", "scale, nats per token", (1e-12, 1e12), (1e-6, 1e4), log=True)
A = Constant("A", "A", "e-folds of loss as the ratio goes from 0 to 1", (-10.0, 40.0), (0.0, 10.0))
GAMMA_N = Constant("gamma_N", r"\gamma_N", "exponent of size", (-3.0, 3.0), (0.0, 1.0))


def function(inputs: Values, constants: Values) -> Array:
    """Return C exp(A Q_r) N^-gamma_N in nats per token."""
    import numpy as np

    exponent = constants["A"] * inputs["q_ratio"] - constants["gamma_N"] * np.log(inputs["n_params"])
    return clipped_exp(np.log(constants["C"]) + exponent)


def pool(rows: pd.DataFrame) -> tuple[tuple[Constant, ...], tuple[str, ...]]:
    """Leave out what the rows cannot tell: A where one ratio was run, gamma_N where there is one size."""
    notes: list[str] = []
    one_ratio = rows["q_ratio"].nunique() == 1
    if one_ratio:
        notes.append("A is held at 0: only one ratio was run, so it cannot be told from C.")
    gamma = GAMMA_N if rows["n_params"].nunique() > 1 else GAMMA_N.hold(0.0)
    return (C, A.hold(0.0) if one_ratio else A, gamma), tuple(notes)


LAW = Law(
    name="cao_weak",
    title="Loss added against the share of weights quantized",
    formula=r"\delta(N, Q_r) = C \, \exp(A Q_r) \, N^{-\gamma_N}",
    source="Cao et al. 2025, arXiv:2410.06722, weak law; its constants are not published here",
    target="delta_nll",
    inputs=("n_params", "q_ratio"),
    constants=(C, A, GAMMA_N),
    function=function,
    select=problems(pool, "format", mixed=True, ratios=True),
    pool=pool,
    settings=DamageSettings,
    resample="model",
)
