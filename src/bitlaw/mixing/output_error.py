"""By output error: linears whose outputs quantization changes least, as a share of their power, are quantized first."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bitlaw.mixing.base import Errors, Select, SelectSettings, SensitivitySelect


class OutputErrorSettings(SelectSettings):
    """There are none."""


class OutputError(SensitivitySelect):
    """A linear costs its weights times tr(dW H dW^T) / tr(W H W^T), the inverse of its output SQNR.

    With that, units are taken by rising share of noise in their outputs, whatever their size.
    """

    Settings = OutputErrorSettings
    needs = "output_error"

    def costs(self, errors: Errors, settings: OutputErrorSettings) -> Mapping[str, float]:
        """Return the cost of each linear; see ``SensitivitySelect.costs``. A linear without output costs nothing."""
        assert errors.outputs is not None
        found = {}
        for linear in errors.linears:
            signal, noise = (errors.outputs[linear.name][part] for part in ("signal", "noise"))
            found[linear.name] = math.prod(linear.shape) * noise / signal if signal else 0.0
        return found


SELECT: Select = OutputError()
