"""Symmetric k-bit integers with a floating scale: ``int4_b64``, ``int8_row``, ``int3_none``, ``int4_b64_sf32``.

Dettmers and Zettlemoyer 2023 (arXiv 2212.09720), appendix "Integer": truncated to be symmetric, ``2^k - 1`` values
``-q..q`` with ``q = 2^(k-1) - 1``, and absmax scaling of each block, ``w ~ code * step``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Final

from bitlaw.formats.base import BLOCKS, Block, Format, Kind, Scales, block_name, parse_block, split_name

if TYPE_CHECKING:
    from torch import Tensor

_SUFFIX: Final = {"float16": "", "bfloat16": "sbf16", "float32": "sf32"}
_SCALE_BITS: Final = {"float16": 16, "bfloat16": 16, "float32": 32}


@dataclass(frozen=True, kw_only=True)
class IntFormat(Format):
    """Symmetric k-bit integers, one floating step a block.

    The step of a block is ``amax / q`` in float32 (one IEEE division), rounded half-even to ``scale_dtype``. Codes are
    chosen with the rounded step, ``clamp(round_half_even(w / step), -q, q)``, and a weight decodes to ``code * step``
    in float32, which is exact for 16-bit steps.

    * A step below the smallest positive (subnormal) number of ``scale_dtype``, 2^-24 for float16, is raised to it;
      so ``|w - q(w)| <= step / 2`` still holds. An all-zero block stores that step with codes 0 and decodes to zeros.
    * A step above the range of ``scale_dtype`` is stored as NaN, and the block decodes to NaN: for float16, a block
      whose ``amax / q`` rounds above 65504. Weights of that size take a wider ``scale_dtype`` (suffix ``_sbf16`` or
      ``_sf32``); they are neither clipped nor turned into infinities. A largest weight that would decode beyond the
      range of float32 is treated alike.
    * A NaN or an infinity among the weights gives a NaN step, so the block decodes to NaN.

    Attributes:
        bits: 2 to 8.
        block: 16 to 4096 (powers of two), ``row`` or ``none``.
        scale_dtype: ``float16`` (as Dettmers and Zettlemoyer), ``bfloat16`` or ``float32``.
    """

    scale_dtype: str = "float16"
    kind: str = field(init=False, default="integer")
    scale_rule: str = field(init=False, default="absmax")
    rounding: str = field(init=False, default="half even")

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8 or self.block not in BLOCKS or self.scale_dtype not in _SUFFIX:
            raise ValueError(f"no such format: int{self.bits}, block {self.block}, scale {self.scale_dtype}")
        object.__setattr__(self, "element", f"int{self.bits}")

    def __str__(self) -> str:
        suffix = _SUFFIX[self.scale_dtype]
        return "_".join([self.element, block_name(self.block), *([suffix] if suffix else [])])

    @property
    def limit(self) -> int:
        """The largest code ``q``; the smallest is ``-q``."""
        return (1 << self.bits - 1) - 1

    def block_parts(self) -> dict[str, int]:
        """Return the bits of the step."""
        return {"scale": _SCALE_BITS[self.scale_dtype]}

    def scales(self, blocks: Tensor, shared: Mapping[str, Tensor]) -> Scales:
        """Return the steps of ``blocks`` in ``scale_dtype``; see ``Format.scales`` and the class for the rule."""
        import torch

        dtype: torch.dtype = getattr(torch, self.scale_dtype)
        info = torch.finfo(dtype)
        step = (blocks.abs().amax(-1) / self.limit).to(dtype).clamp_min(info.smallest_normal * info.eps)
        held = torch.isfinite(step.float() * self.limit)
        return Scales({"scale": step.where(held, torch.nan)}, shared)

    def round_block(self, blocks: Tensor, scales: Scales) -> Tensor:
        """Return the int8 codes of ``blocks``; code 0 in a block whose step is NaN."""
        import torch

        codes = (blocks / scales.block["scale"].float().unsqueeze(-1)).round_()
        return codes.clamp_(-self.limit, self.limit).nan_to_num_(nan=0.0).to(torch.int8)

    def decode(self, codes: Tensor, scales: Scales) -> Tensor:
        """Return ``code * step`` in float32."""
        return codes.float().mul_(scales.block["scale"].float().unsqueeze(-1))


class _Kind:
    def names(self) -> Iterable[str]:
        choices: Iterable[tuple[str, int, Block]] = product(_SUFFIX, range(2, 9), BLOCKS)
        return [str(IntFormat(bits=bits, block=block, scale_dtype=dtype)) for dtype, bits, block in choices]

    def parse(self, name: str) -> Format | None:
        match split_name(name, "int[2-8]"):
            case head, (block_text, *rest) if (block := parse_block(block_text)) is not None:
                for dtype, suffix in _SUFFIX.items():
                    if rest == ([suffix] if suffix else []):
                        return IntFormat(bits=int(head[3:]), block=block, scale_dtype=dtype)
        return None


KIND: Kind = _Kind()
