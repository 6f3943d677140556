"""Round to nearest (RTN): each weight to the nearest code of its block. Needs no data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bitlaw.methods import stacks
from bitlaw.methods.base import MatrixMethod, Method, MethodSettings
from bitlaw.methods.nearest import Nearest
from bitlaw.methods.stored import StoredLinear
from bitlaw.methods.work import Inputs, Work

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.formats.base import Format, Quantized
    from bitlaw.models.linears import Linear


class RtnSettings(MethodSettings):
    """RTN has no settings."""


class Rtn(MatrixMethod):
    """Round to nearest."""

    Settings = RtnSettings

    def quantize(
        self, w: Tensor, fmt: Format, settings: RtnSettings, inputs: Inputs | None = None
    ) -> tuple[Quantized, dict[str, Any]]:
        """Return ``w`` rounded to nearest and no further information; see ``MatrixMethod.quantize``."""
        return Nearest(fmt, w), {}

    def quantize_model(
        self, work: Work, fmt: Format, settings: RtnSettings
    ) -> Iterator[tuple[Linear, StoredLinear, dict[str, Any]]]:
        """Yield each linear; those of one width are rounded together where that is faster, if ``fmt`` is by rows."""
        import torch

        weights = [linear.weight() for linear in work.linears]
        for places in stacks.stacks(weights) if fmt.by_rows else ([i] for i in range(len(weights))):
            known: list[Tensor | None] = [None]
            if len(places) > 1:
                rounded = fmt.fake_quantize(torch.cat([weights[i] for i in places]))
                known = list(rounded.split([len(weights[i]) for i in places]))
            for i, one in zip(places, known, strict=True):
                quantized, info = self.quantize(weights[i], fmt, settings)
                yield work.linears[i], StoredLinear(quantized, known=one), info


METHOD: Method = Rtn()
