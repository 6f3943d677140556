"""Loss added by quantization against the noise of the format and the size, up to a ceiling: the project's own law."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.laws.base import Law
from bitlaw.laws.ceiling import A, C, G, S, Settings, noise_and_size, plain, pool, up_to
from bitlaw.laws.damage import clipped_exp, problems
from bitlaw.laws.format_noise import format_noise

if TYPE_CHECKING:
    from bitlaw.laws.base import Array, Values


def function(inputs: Values, constants: Values) -> Array:
    """Return S (1 - exp(-x / S)) with x = C (Q_r G)^a N^-g, in nats per token."""
    import numpy as np

    return up_to(constants["S"], clipped_exp(np.log(constants["C"]) + noise_and_size(inputs, constants)))


LAW = Law(
    name="gmse",
    title="Loss added against the noise of the format",
    formula=r"\delta(N, Q_r, G) = S \left(1 - \exp\left(-\frac{C (Q_r G)^a N^{-g}}{S}\right)\right)",
    source="bitlaw; the noise G is the GMSE of Panferov et al. 2025, arXiv:2506.01863",
    target="delta_nll",
    inputs=("n_params", "q_ratio", "gmse"),
    constants=(C, A, G, S),
    function=function,
    select=problems(pool, mixed=True),
    pool=pool,
    settings=Settings,
    derived={"gmse": format_noise},
    resample="model",
    plain=plain,
)
