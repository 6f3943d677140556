"""Loss against size: L(N) = (N_c / N)^alpha_N (Kaplan et al. 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.laws.base import Constant, Law
from bitlaw.laws.pretraining import unquantized

if TYPE_CHECKING:
    from bitlaw.laws.base import Array, Values

N_C = Constant("N_c", "N_c", "size with a loss of 1 nat", (1.0, 1e60), (1e6, 1e20), log=True, published=8.8e13)
ALPHA_N = Constant("alpha_N", r"\alpha_N", "exponent of size", (1e-3, 3.0), (0.01, 0.5), published=0.076)
CONSTANTS = (N_C, ALPHA_N)


def function(inputs: Values, constants: Values) -> Array:
    """Return (N_c / N)^alpha_N in nats per token."""
    return (constants["N_c"] / inputs["n_params"]) ** constants["alpha_N"]


LAW = Law(
    name="kaplan_n",
    title="Loss against model size, no offset",
    formula=r"L(N) = \left(\frac{N_c}{N}\right)^{\alpha_N}",
    source="Kaplan et al. 2020, arXiv:2001.08361, equation 1.1",
    target="nll",
    inputs=("n_params",),
    constants=CONSTANTS,
    function=function,
    select=unquantized(CONSTANTS, tokens=False),
    curve="n_params",
)
