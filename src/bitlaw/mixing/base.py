"""What a selection is: a rule by which some units of a model are quantized and the others are not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from bitlaw.models.linears import Linear

Need = Literal["nothing", "output_error", "windows"]
"""What a selection looks at besides sizes: nothing; the errors of the linears' outputs; or the calibration text."""


class SelectSettings(BaseModel):
    """Base of the settings of selections: no unknown names, no change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, eq=False)
class Errors:
    """A model and what quantization does to it.

    Attributes:
        model: the model in float32, never changed for longer than a ``with`` block.
        linears: its quantizable linears, in the order of the modules.
        quantized: returns a linear's quantized weights, ``(out, in)`` float32, by its name.
        outputs: by linear ``signal`` and ``noise`` of its outputs, as of the output_error stage, if that is needed.
        windows: ``(samples, length)`` int64 tokens; if they are needed.
    """

    model: PreTrainedModel
    linears: Sequence[Linear]
    quantized: Callable[[str], Tensor]
    outputs: Mapping[str, Mapping[str, float]] | None = None
    windows: Tensor | None = None


class Select(ABC):
    """One way to choose. Each module in ``bitlaw.mixing`` may assign one to ``SELECT``.

    One that asks what quantizing each linear costs is a ``SensitivitySelect``.

    Attributes:
        Settings: class of its settings. Those named ``trials`` say how many mixes are tried, all others are part of
            a mix's identity.
    """

    Settings: ClassVar[type[SelectSettings]]
    needs: ClassVar[Need] = "nothing"

    def trials(self, settings: Any) -> int | None:
        """Return how many mixes to make of each kind, or ``None`` for a rule that makes one."""
        return None

    @abstractmethod
    def choose(
        self, sizes: Sequence[int], costs: Sequence[float], total: int, settings: Any, trial: int | None
    ) -> list[int]:
        """Return the units to quantize, rising: together ``total`` steps.

        Args:
            sizes: steps of each unit; see ``bitlaw.mixing.choose``.
            costs: of each unit; empty unless the selection needs something.
            total: a sum that some of ``sizes`` make.
            settings: an instance of ``Settings``.
            trial: number of the trial, for a selection that has trials.
        """


class SensitivitySelect(Select):
    """A selection by what quantizing each linear costs: the units that cost least together are quantized."""

    needs: ClassVar[Need]

    @abstractmethod
    def costs(self, errors: Errors, settings: Any) -> Mapping[str, float]:
        """Return what quantizing each linear costs, by name; costs of several linears add up.

        Raises:
            UserError: with the linear's name as its place.
        """

    def choose(
        self, sizes: Sequence[int], costs: Sequence[float], total: int, settings: Any, trial: int | None
    ) -> list[int]:
        """Return the units that cost least; see ``Select.choose``."""
        from bitlaw.mixing.choose import cheapest

        return cheapest(sizes, costs, total)
