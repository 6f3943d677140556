"""What the project's own laws have in common: noise of the format, size, and a ceiling that a broken model reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from bitlaw.laws.base import Constant
from bitlaw.laws.damage import SIZES_APART, DamageSettings, sizes_vary

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from bitlaw.laws.base import Array, Values

NEAR_CEILING = 1.0
NO_CEILING = 1e6


class Settings(DamageSettings):
    """Settings of the laws with a ceiling.

    Attributes:
        saturated_above: cells that lose more than this (nats per token) are left out. The law has a ceiling, so that
            broken cells stay in; a loss above that of a guess is none that it knows.
    """

    saturated_above: float = Field(10.0, gt=0)


C = Constant("C", "C", "scale, nats per token", (1e-9, 1e12), (1e-1, 1e5), log=True)
A = Constant("a", "a", "exponent of the noise", (0.05, 5.0), (0.5, 1.5))
G = Constant("g", "g", "exponent of size", (-3.0, 3.0), (0.0, 0.6))
S = Constant("S", "S", "ceiling: the most that a cell can lose, nats per token", (0.05, 1e6), (1.0, 10.0), log=True)


def noise_and_size(inputs: Values, constants: Values) -> Array:
    """Return the logarithm of (Q_r G)^a N^-g; see ``Law.function`` for the shapes."""
    import numpy as np

    noise = np.log(np.maximum(inputs["gmse"] * inputs["q_ratio"], 1e-300))
    return constants["a"] * noise - constants["g"] * np.log(inputs["n_params"])


def up_to(ceiling: Array, x: Array) -> Array:
    """Return ``x`` where it is far below ``ceiling``, and what approaches the ceiling above it, elementwise."""
    import numpy as np

    return np.asarray(-ceiling * np.expm1(-x / ceiling))


def pool(rows: pd.DataFrame) -> tuple[tuple[Constant, ...], tuple[str, ...]]:
    """Hold what the rows cannot tell."""
    notes: list[str] = []
    a, g, s = A, G, S
    if rows["gmse"].nunique() == 1:
        a = A.hold(1.0)
        notes.append("a is held at 1, a loss quadratic in the error: all cells have one format.")
    if not sizes_vary(rows):
        g = G.hold(0.0)
        notes.append(f"g is held at 0: the sizes differ by less than a factor of {SIZES_APART:g}.")
    if rows["delta_nll"].max() < NEAR_CEILING:
        s = S.hold(NO_CEILING)
        notes.append(f"S is held at no ceiling: no cell loses {NEAR_CEILING:g} nat.")
    return (C, a, g, s), tuple(notes)


def plain(constants: Mapping[str, float]) -> str:
    """Return what half the noise and ten times the parameters do, as far as ``constants`` tell."""
    said = []
    if "a" in constants:
        said.append(f"half the noise divides it by {2.0 ** constants['a']:.2g}")
    if "g" in constants:
        does = "divide" if constants["g"] >= 0 else "multiply"
        said.append(f"ten times the parameters {does} it by {10.0 ** abs(constants['g']):.2g}")
    return ", ".join(said)
