"""Loss added when a share of the weights is quantized: size, ratio and block (Cao et al. 2025, strong law)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.laws.base import Constant, Law
from bitlaw.laws.damage import DamageSettings, clipped_exp, problems
from bitlaw.laws.inputs import block_values

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.laws.base import Array, Values

C = Constant("C", "C", "scale, nats per token", (1e-12, 1e12), (1e-6, 1e4), log=True)
A = Constant("A", "A", "e-folds of loss as the ratio goes from 0 to 1", (-10.0, 40.0), (0.0, 10.0))
GAMMA_N = Constant("gamma_N", r"\gamma_N", "exponent of size", (-3.0, 3.0), (0.0, 1.0))
D = Constant("d", "d", "values added to the block", (0.0, 1e4), (0.0, 100.0))
GAMMA_C = Constant("gamma_c", r"\gamma_c", "exponent of the block", (-3.0, 10.0), (0.0, 2.0))


def function(inputs: Values, constants: Values) -> Array:
    """Return C exp(A Q_r) N^-gamma_N (Q_b + d)^gamma_c in nats per token."""
    import numpy as np

    exponent = constants["A"] * inputs["q_ratio"] - constants["gamma_N"] * np.log(inputs["n_params"])
    block = constants["gamma_c"] * np.log(inputs["block_values"] + constants["d"])
    return clipped_exp(np.log(constants["C"]) + exponent + block)


def pool(rows: pd.DataFrame) -> tuple[tuple[Constant, ...], tuple[str, ...]]:
    """Leave out what the rows cannot tell: a constant whose input has one value, d where there are two blocks."""
    notes: list[str] = []
    one_ratio, blocks = rows["q_ratio"].nunique() == 1, rows["block_values"].nunique()
    if one_ratio:
        notes.append("A is held at 0: only one ratio was run, so it cannot be told from C.")
    if blocks < 3:
        notes.append(f"d is held at 0: {blocks} sizes of blocks do not tell it from gamma_c.")
    gamma_n = GAMMA_N if rows["n_params"].nunique() > 1 else GAMMA_N.hold(0.0)
    gamma_c = GAMMA_C if blocks > 1 else GAMMA_C.hold(0.0)
    return (C, A.hold(0.0) if one_ratio else A, gamma_n, D if blocks > 2 else D.hold(0.0), gamma_c), tuple(notes)


LAW = Law(
    name="cao_strong",
    title="Loss added against the share of weights quantized and the block",
    formula=r"\delta(N, Q_r, Q_b) = C \, \exp(A Q_r) \, N^{-\gamma_N} \, (Q_b + d)^{\gamma_c}",
    source="Cao et al. 2025, arXiv:2410.06722, strong law; its constants are not published here",
    target="delta_nll",
    inputs=("n_params", "q_ratio", "block_values"),
    constants=(C, A, GAMMA_N, D, GAMMA_C),
    function=function,
    select=problems(pool, "bits", "element", mixed=True),
    pool=pool,
    settings=DamageSettings,
    derived={"block_values": block_values},
    resample="model",
)
