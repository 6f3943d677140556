"""Loss against size and training tokens: L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from bitlaw.laws.base import Constant, Law, LawSettings
from bitlaw.laws.pretraining import unquantized

if TYPE_CHECKING:
    from bitlaw.laws.base import Array, Values


class Settings(LawSettings):
    """Settings of ``chinchilla``: Hoffmann's threshold."""

    huber: float = Field(0.001, gt=0)


# The published values are those of the refit by Besiroglu et al. 2024; Hoffmann's own do not fit their data.
E = Constant("E", "E", "entropy of the text, nats per token", (1e-3, 20.0), (0.3, 3.0), log=True, published=1.8172)
A = Constant("A", "A", "scale of the loss that size removes", (1e-3, 1e12), (1.0, 1e5), log=True, published=482.01)
B = Constant("B", "B", "scale of the loss that tokens remove", (1e-3, 1e12), (1.0, 1e5), log=True, published=2085.43)
ALPHA = Constant("alpha", r"\alpha", "exponent of size", (0.0, 3.0), (0.05, 1.0), published=0.3478)
BETA = Constant("beta", r"\beta", "exponent of training tokens", (0.0, 3.0), (0.05, 1.0), published=0.3658)
CONSTANTS = (E, A, B, ALPHA, BETA)


def function(inputs: Values, constants: Values) -> Array:
    """Return E + A N^-alpha + B D^-beta in nats per token."""
    size = constants["A"] * inputs["n_params"] ** -constants["alpha"]
    return constants["E"] + size + constants["B"] * inputs["n_tokens"] ** -constants["beta"]


LAW = Law(
    name="chinchilla",
    title="Loss against model size and training tokens",
    formula=r"L(N, D) = E + \frac{A}{N^{\alpha}} + \frac{B}{D^{\beta}}",
    source="Hoffmann et al. 2022, arXiv:2203.15556, approach 3; constants of Besiroglu et al. 2024, arXiv:2404.10102",
    target="nll",
    inputs=("n_params", "n_tokens"),
    constants=CONSTANTS,
    function=function,
    select=unquantized(CONSTANTS, tokens=True),
    settings=Settings,
)
