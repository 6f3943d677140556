"""Loss against size and training tokens (Kaplan et al. 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.laws.base import Constant, Law
from bitlaw.laws.pretraining import unquantized

if TYPE_CHECKING:
    from bitlaw.laws.base import Array, Values

N_C = Constant("N_c", "N_c", "scale of size", (1.0, 1e60), (1e6, 1e20), log=True, published=6.4e13)
D_C = Constant("D_c", "D_c", "scale of training tokens", (1.0, 1e60), (1e6, 1e20), log=True, published=1.8e13)
ALPHA_N = Constant("alpha_N", r"\alpha_N", "exponent of size", (1e-3, 3.0), (0.01, 0.5), published=0.076)
ALPHA_D = Constant("alpha_D", r"\alpha_D", "exponent of training tokens", (1e-3, 3.0), (0.01, 0.5), published=0.103)
CONSTANTS = (N_C, D_C, ALPHA_N, ALPHA_D)


def function(inputs: Values, constants: Values) -> Array:
    """Return ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D in nats per token."""
    size = (constants["N_c"] / inputs["n_params"]) ** (constants["alpha_N"] / constants["alpha_D"])
    return (size + constants["D_c"] / inputs["n_tokens"]) ** constants["alpha_D"]


LAW = Law(
    name="kaplan_nd",
    title="Loss against model size and training tokens, no offset",
    formula=r"L(N, D) = \left(\left(\frac{N_c}{N}\right)^{\frac{\alpha_N}{\alpha_D}} + \frac{D_c}{D}\right)^{\alpha_D}",
    source="Kaplan et al. 2020, arXiv:2001.08361, equation 1.5; constants as commonly quoted",
    target="nll",
    inputs=("n_params", "n_tokens"),
    constants=CONSTANTS,
    function=function,
    select=unquantized(CONSTANTS, tokens=True),
)
