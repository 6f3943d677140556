"""Microscaling integers, MXINT: k-bit significands with a shared power-of-two scale: ``mxint4_b32``, ``mxint8_row``.

OCP Microscaling Formats (MX) v1.0, sections 5.2 and 6.3 (MXINT8: element type INT8 with an implied scale 2^-6, E8M0
shared scale), and Sharify et al. 2024 (arXiv 2405.07135), appendix, for other widths: a k-bit signed symmetric
significand ``-q..q``, ``q = 2^(k-1) - 1``, with the implied scale ``2^-(k-2)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bitlaw.formats.base import BLOCKS, Format, Kind, Scales, block_name, parse_block, split_name

if TYPE_CHECKING:
    from torch import Tensor

_NAN_BITS: Final = 0x7FC00000  # float32's quiet NaN


@dataclass(frozen=True, kw_only=True)
class MxIntFormat(Format):
    """k-bit signed symmetric significands with an E8M0 shared scale.

    Scale rule ``floor`` (OCP MX v1.0, section 6.3, with the element's ``emax`` = 0): the shared exponent is
    ``E = floor(log2 amax)``, read from the bits of the float32 ``amax``, since ``log2`` in floating point is wrong
    just below powers of two. It is stored with the bias 127 in one byte. The step is ``2^(E - k + 2)``, the codes are
    ``clamp(round_half_even(w / step), -q, q)`` (so the top half step of the range saturates), and a weight decodes to
    ``code * step``; division and product are exact, down to float32's subnormals.

    * The byte is float32's own exponent field: 0 is the scale 2^-127, which blocks of smaller (subnormal) weights and
      all-zero blocks take; the latter have codes 0 and decode to zeros.
    * The byte 255 is E8M0's NaN, and is the exponent field of infinities and NaN, so a block with one decodes to NaN.
    * Every finite float32 is in range, 1e38 too.

    Attributes:
        bits: 2 to 8.
        block: 16 to 4096 (powers of two), ``row`` or ``none``.
    """

    scale_dtype: str = field(init=False, default="e8m0")
    kind: str = field(init=False, default="mxint")
    scale_rule: str = field(init=False, default="floor")
    rounding: str = field(init=False, default="half even")

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8 or self.block not in BLOCKS:
            raise ValueError(f"no such format: mxint{self.bits}, block {self.block}")
        object.__setattr__(self, "element", f"mxint{self.bits}")

    def __str__(self) -> str:
        return f"{self.element}_{block_name(self.block)}"

    @property
    def limit(self) -> int:
        """The largest code ``q``; the smallest is ``-q``."""
        return (1 << self.bits - 1) - 1

    def block_parts(self) -> dict[str, int]:
        """Return the bits of the shared exponent."""
        return {"scale": 8}

    def scales(self, blocks: Tensor, shared: Mapping[str, Tensor]) -> Scales:
        """Return the E8M0 bytes (uint8) of ``blocks``; see ``Format.scales`` and the class for the rule."""
        import torch

        field_ = blocks.abs().amax(-1).view(torch.int32) >> 23 & 255
        return Scales({"scale": field_.to(torch.uint8)}, shared)

    def round_block(self, blocks: Tensor, scales: Scales) -> Tensor:
        """Return the int8 codes of ``blocks``; code 0 in a block whose scale is NaN."""
        import torch

        codes = (blocks / self._step(scales)).round_()
        return codes.clamp_(-self.limit, self.limit).nan_to_num_(nan=0.0).to(torch.int8)

    def decode(self, codes: Tensor, scales: Scales) -> Tensor:
        """Return ``code * step`` in float32."""
        return codes.float().mul_(self._step(scales))

    def _step(self, scales: Scales) -> Tensor:
        """Return ``2^(byte - 127 - (k - 2))`` in float32, ``(..., 1)``, built from bits: exact, subnormal or not."""
        import torch

        byte = scales.block["scale"].to(torch.int32)
        exponent = byte - (self.bits - 2)
        # With an exponent field of zero the value is 2^-149 times the fraction: 2^-127 is bit 22, and so on down.
        bits = torch.where(exponent > 0, exponent << 23, torch.ones_like(byte) << (22 + exponent.clamp_max(0)))
        return bits.where(byte != 255, _NAN_BITS).view(torch.float32).unsqueeze(-1)


class _Kind:
    def names(self) -> Iterable[str]:
        return [str(MxIntFormat(bits=bits, block=block)) for bits in range(2, 9) for block in BLOCKS]

    def parse(self, name: str) -> Format | None:
        match split_name(name, "mxint[2-8]"):
            case head, (block_text,) if (block := parse_block(block_text)) is not None:
                return MxIntFormat(bits=int(head[5:]), block=block)
        return None


KIND: Kind = _Kind()
