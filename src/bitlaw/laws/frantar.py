"""Loss through effective parameters: each format keeps a share of them (Frantar et al. 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from bitlaw.laws.base import Constant, Law
from bitlaw.laws.damage import DamageSettings, tokens_vary
from bitlaw.laws.pretraining import with_baselines
from bitlaw.table import UNQUANTIZED

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.laws.base import Array, Values


class Settings(DamageSettings):
    """Settings of ``frantar``; its target is the loss itself, whose logarithms scatter little."""

    huber: float = Field(0.02, gt=0)


E = Constant("E", "E", "entropy of the text, nats per token", (0.0, 20.0), (0.0, 3.0))
A = Constant("A", "A", "scale of the loss that size removes", (1e-6, 1e12), (1e-1, 1e4), log=True)
ALPHA = Constant("alpha", r"\alpha", "exponent of size", (1e-3, 3.0), (0.05, 1.0))
B = Constant("B", "B", "scale of the loss that tokens remove", (1e-6, 1e12), (1.0, 1e5), log=True)
BETA = Constant("beta", r"\beta", "exponent of training tokens", (0.0, 3.0), (0.05, 1.0))
EFF = Constant(
    "eff", r"\eta", "share of the parameters that a format keeps", (1e-6, 1.5), (0.3, 1.0), log=True, per_group=True,
    fixed={UNQUANTIZED: 1.0},
)  # fmt: skip


def function(inputs: Values, constants: Values) -> Array:
    """Return E + A (N eff)^-alpha + B D^-beta in nats per token."""
    size = constants["A"] * (inputs["n_params"] * constants["eff"]) ** -constants["alpha"]
    return constants["E"] + size + constants["B"] * inputs["n_tokens"] ** -constants["beta"]


def damage(inputs: Values, constants: Values) -> Array:
    """Return A N^-alpha (eff^-alpha - 1), the loss added in nats per token; see ``Law.function`` for the shapes."""
    alpha = constants["alpha"]
    return constants["A"] * inputs["n_params"] ** -alpha * (constants["eff"] ** -alpha - 1.0)


def pool(rows: pd.DataFrame) -> tuple[tuple[Constant, ...], tuple[str, ...]]:
    """Leave out the term of training tokens where the rows cannot tell it."""
    if tokens_vary(rows):
        return (E, A, ALPHA, B, BETA, EFF), ()
    note = "B is held at 0: the training tokens do not vary independently of the parameters, so E stands for both."
    return (E, A, ALPHA, B.hold(0.0), BETA.hold(0.0), EFF), (note,)


LAW = Law(
    name="frantar",
    title="Loss through effective parameters",
    formula=r"L = E + \frac{A}{(N \, \eta)^{\alpha}} + \frac{B}{D^{\beta}}",
    source="Frantar et al. 2025, arXiv:2502.16440; one share for each format, a model's family on its own",
    target="nll",
    inputs=("n_params", "n_tokens"),
    constants=(E, A, ALPHA, B, BETA, EFF),
    function=function,
    select=with_baselines(pool, "format", "family"),
    pool=pool,
    group="format",
    damage=damage,
    settings=Settings,
    resample="model",
)
