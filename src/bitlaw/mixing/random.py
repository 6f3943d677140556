"""Random trials: any set of units that makes the share, each with the same probability (Cao et al. 2024, section 3.1).

The paper takes the best of 50 trials at each share; a trial's loss here is an ordinary cell, so best and mean of any
number of trials can be read off the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random as Chance
from typing import Annotated

from pydantic import Field

from bitlaw.mixing.base import Select, SelectSettings
from bitlaw.mixing.choose import drawn


class RandomSettings(SelectSettings):
    """Settings.

    Attributes:
        trials: mixes tried at each share; more of them leave those there are as they are.
        seed: of the trials; with a trial's number it says which units are quantized.
    """

    trials: int = Field(default=50, ge=1)
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class Random(Select):
    """See the module."""

    Settings = RandomSettings

    def trials(self, settings: RandomSettings) -> int:
        """Return the number of trials."""
        return settings.trials

    def choose(
        self, sizes: Sequence[int], costs: Sequence[float], total: int, settings: RandomSettings, trial: int | None
    ) -> list[int]:
        """Return the units of one trial; see ``Select.choose``."""
        return drawn(sizes, total, Chance(f"{settings.seed}/{trial}"))  # noqa: S311 (no secret)


SELECT: Select = Random()
