"""Loss through an effective size that follows from the noise of the format (Panferov et al. 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from bitlaw.laws.base import Constant, Law
from bitlaw.laws.damage import DamageSettings, tokens_vary
from bitlaw.laws.format_noise import format_noise
from bitlaw.laws.inputs import quantized
from bitlaw.laws.pretraining import with_baselines

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.laws.base import Array, Values


class Settings(DamageSettings):
    """Settings of ``panferov``; its target is the loss itself, whose logarithms scatter little."""

    huber: float = Field(0.02, gt=0)


E = Constant("E", "E", "entropy of the text, nats per token", (0.0, 20.0), (0.0, 3.0), per_group=True)
A = Constant("A", "A", "scale of the loss that size removes", (1e-6, 1e12), (1e-1, 1e4), log=True, per_group=True)
ALPHA = Constant("alpha", r"\alpha", "exponent of size", (1e-3, 3.0), (0.05, 1.0), per_group=True)
B = Constant("B", "B", "scale of the loss that tokens remove", (1e-6, 1e12), (1.0, 1e5), log=True)
BETA = Constant("beta", r"\beta", "exponent of training tokens", (0.0, 3.0), (0.05, 1.0))
L = Constant("L", "L", "capacity left by a format without noise", (0.2, 1.2), (0.9, 1.0))
F = Constant("F", "F", "how soon capacity saturates as noise falls", (0.01, 20.0), (0.1, 2.0), log=True)
C = Constant("C", "C", "exponent of capacity", (0.01, 50.0), (0.5, 4.0), log=True)


def rho(inputs: Values, constants: Values) -> Array:
    """Return the capacity of each row's format, L tanh(F log_1/4 G)^C; 1 where it is not quantized."""
    import numpy as np

    noise = np.clip(inputs["gmse"] * inputs["q_ratio"], 1e-12, 1.0 - 1e-6)
    capacity = constants["L"] * np.tanh(-constants["F"] * np.log(noise) / np.log(4.0)) ** constants["C"]
    return np.asarray(np.where(inputs["quantized"] > 0.0, capacity, 1.0))


def function(inputs: Values, constants: Values) -> Array:
    """Return E + A (N rho)^-alpha + B D^-beta in nats per token."""
    size = constants["A"] * (inputs["n_params"] * rho(inputs, constants)) ** -constants["alpha"]
    return constants["E"] + size + constants["B"] * inputs["n_tokens"] ** -constants["beta"]


def damage(inputs: Values, constants: Values) -> Array:
    """Return A N^-alpha (rho^-alpha - 1), the loss added in nats per token; see ``Law.function`` for the shapes."""
    alpha = constants["alpha"]
    return constants["A"] * inputs["n_params"] ** -alpha * (rho(inputs, constants) ** -alpha - 1.0)


def pool(rows: pd.DataFrame) -> tuple[tuple[Constant, ...], tuple[str, ...]]:
    """Leave out the term of training tokens where the rows cannot tell it."""
    if tokens_vary(rows):
        return (E, A, ALPHA, B, BETA, L, F, C), ()
    note = "B is held at 0: the training tokens do not vary independently of the parameters, so E stands for both."
    return (E, A, ALPHA, B.hold(0.0), BETA.hold(0.0), L, F, C), (note,)


LAW = Law(
    name="panferov",
    title="Loss through the capacity that a format leaves",
    formula=(
        r"L = E + \frac{A}{(N \rho)^{\alpha}} + \frac{B}{D^{\beta}}, "
        r"\rho = L \tanh\left(F \log_{\frac{1}{4}} (Q_r G)\right)^C"
    ),
    source="Panferov et al. 2025, arXiv:2506.01863, fitted there to training in low precision, here after training",
    target="nll",
    inputs=("n_params", "n_tokens", "q_ratio", "gmse", "quantized"),
    constants=(E, A, ALPHA, B, BETA, L, F, C),
    function=function,
    select=with_baselines(pool, "family", mixed=True),
    pool=pool,
    group="family",
    damage=damage,
    settings=Settings,
    derived={"gmse": format_noise, "quantized": quantized},
    resample="model",
)
