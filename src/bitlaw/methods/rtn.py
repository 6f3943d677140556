"""Round to nearest (RTN): each weight to the nearest code of its block. Needs no data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitlaw.methods.base import MatrixMethod, Method, MethodSettings
from bitlaw.methods.work import Inputs

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.formats.base import Format, Quantized


class RtnSettings(MethodSettings):
    """RTN has no settings."""


class Rtn(MatrixMethod):
    """Round to nearest."""

    Settings = RtnSettings

    def quantize(
        self, w: Tensor, fmt: Format, settings: RtnSettings, inputs: Inputs | None = None
    ) -> tuple[Quantized, dict[str, Any]]:
        """Return ``fmt.quantize(w)`` and no further information; see ``MatrixMethod.quantize``."""
        return fmt.quantize(w), {}


METHOD: Method = Rtn()
