"""Round to nearest (RTN): each weight to the nearest code of its block. Needs no data."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bitlaw.formats.base import Quantized
from bitlaw.methods import stacks
from bitlaw.methods.base import MatrixMethod, Method, MethodSettings
from bitlaw.methods.stored import StoredLinear
from bitlaw.methods.work import Inputs, Work

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.formats.base import Format
    from bitlaw.formats.scales import Scales
    from bitlaw.models.linears import Linear


class RtnSettings(MethodSettings):
    """RTN has no settings."""


class Nearest(Quantized):
    """A matrix rounded to nearest, of which codes are made when they are asked for: weights alone take one kernel.

    Args:
        fmt: its format.
        w: the weights, ``(out, in)``, any floating dtype; not changed, now or later.
        known: what they are rounded to, if that is known.
    """

    w: Tensor

    def __init__(self, fmt: Format, w: Tensor, known: Tensor | None = None) -> None:
        for name, value in {"fmt": fmt, "w": w, "known": known}.items():
            object.__setattr__(self, name, value)  # the class is frozen

    @cached_property
    def _made(self) -> Quantized:
        return self.fmt.quantize(self.w)

    @property
    def codes(self) -> Tensor:
        """``(out, in)``, int8 or uint8."""
        return self._made.codes

    @property
    def scales(self) -> Scales:
        """As stored; see ``Scales``."""
        return self._made.scales

    @property
    def shape(self) -> tuple[int, int]:
        """``(out_features, in_features)``."""
        rows, columns = self.w.shape
        return rows, columns

    def weight(self) -> Tensor:
        """Return the weights, ``(out, in)`` float32: of the codes, if there are any, which have the same."""
        if self.known is not None:
            return self.known
        return self._made.weight() if "_made" in self.__dict__ else self.fmt.fake_quantize(self.w)


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
                yield work.linears[i], StoredLinear(Nearest(fmt, weights[i], one)), {}


METHOD: Method = Rtn()
