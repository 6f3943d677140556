"""By loss: linears that, quantized alone, add least to the loss of the calibration text are quantized first."""

from __future__ import annotations

from collections.abc import Mapping

from bitlaw.mixing.base import Errors, Select, SelectSettings, SensitivitySelect

BATCH_TOKENS = 4096
"""Tokens at a time. Fixed, so that sums are made in the same order everywhere."""


class LossSettings(SelectSettings):
    """There are none."""


class Loss(SensitivitySelect):
    """A linear costs what the loss of the calibration text gains if it alone is quantized, in nats per token.

    It may be negative. It takes one pass over the calibration text for each linear, and one more.
    """

    Settings = LossSettings
    needs = "windows"

    def costs(self, errors: Errors, settings: LossSettings) -> Mapping[str, float]:
        """Return the cost of each linear; see ``SensitivitySelect.costs``."""
        from bitlaw.evaluation.nll import nll

        assert errors.windows is not None
        length = errors.windows.shape[1]
        ids, batch = errors.windows.reshape(-1), max(1, BATCH_TOKENS // length)
        whole = nll(errors.model, ids, length, length, batch).nll
        found = {}
        for linear in errors.linears:
            with linear.swap(errors.quantized(linear.name)):
                found[linear.name] = nll(errors.model, ids, length, length, batch).nll - whole
        return found


SELECT: Select = Loss()
