"""Loss added by quantization against the noise of the format, size and training tokens, up to a ceiling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.laws.base import Constant, Law
from bitlaw.laws.ceiling import A, C, G, S, Settings, noise_and_size, plain, up_to
from bitlaw.laws.ceiling import pool as without_tokens
from bitlaw.laws.damage import clipped_exp, problems, tokens_vary
from bitlaw.laws.format_noise import format_noise

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.laws.base import Array, Values

H = Constant("h", "h", "exponent of training tokens", (-3.0, 3.0), (0.0, 1.0))
SCALE = Constant(C.name, C.latex, C.meaning, (1e-18, 1e12), (1e-6, 1e2), log=True)


def function(inputs: Values, constants: Values) -> Array:
    """Return S (1 - exp(-x / S)) with x = C (Q_r G)^a D^h N^-g, in nats per token."""
    import numpy as np

    tokens = constants["h"] * np.log(inputs["n_tokens"])
    return up_to(constants["S"], clipped_exp(np.log(constants["C"]) + tokens + noise_and_size(inputs, constants)))


def pool(rows: pd.DataFrame) -> tuple[tuple[Constant, ...], tuple[str, ...]]:
    """Hold what the rows cannot tell."""
    (_, a, g, s), notes = without_tokens(rows)
    if tokens_vary(rows):
        return (SCALE, a, g, H, s), notes
    note = "h is held at 0: the training tokens do not vary independently of the parameters."
    return (SCALE, a, g, H.hold(0.0), s), (*notes, note)


LAW = Law(
    name="gmse_tokens",
    title="Loss added against the noise of the format and training tokens",
    formula=r"\delta(N, D, Q_r, G) = S \left(1 - \exp\left(-\frac{C (Q_r G)^a D^h N^{-g}}{S}\right)\right)",
    source="bitlaw; the noise G is the GMSE of Panferov et al. 2025, arXiv:2506.01863",
    target="delta_nll",
    inputs=("n_params", "n_tokens", "q_ratio", "gmse"),
    constants=(SCALE, A, G, H, S),
    function=function,
    select=problems(pool, mixed=True),
    pool=pool,
    settings=Settings,
    derived={"gmse": format_noise},
    resample="model",
    plain=plain,
)
