"""Matrices rounded to nearest, with codes only where these are wanted."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from bitlaw.formats.base import Quantized

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.formats.base import Format
    from bitlaw.formats.scales import Scales


class Nearest(Quantized):
    """A matrix rounded to nearest, of which codes are made when they are asked for: weights alone take one kernel.

    Args:
        fmt: its format.
        w: the weights, ``(out, in)``, any floating dtype; not changed, now or later.
    """

    w: Tensor

    def __init__(self, fmt: Format, w: Tensor) -> None:
        for name, value in {"fmt": fmt, "w": w, "known": None}.items():
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
        return self._made.weight() if "_made" in self.__dict__ else self.fmt.fake_quantize(self.w)
