"""The two 4-bit codes of bitsandbytes: ``nf4_b64`` (NormalFloat) and ``bnbfp4_b64`` (its FP4, which is not E2M1).

NF4: Dettmers et al. 2023 (QLoRA, arXiv 2305.14314), appendix E: quantiles of a normal distribution with an exact zero.
Scales are float32 by default, as bitsandbytes stores them without double quantization. Its blocks run over the
flattened matrix; they are the same as here wherever the block divides the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bitlaw.formats.elements import CodebookElement
from bitlaw.formats.family import CENTERING, Family, Kind
from bitlaw.formats.layout import Block
from bitlaw.formats.scales import Absmax

if TYPE_CHECKING:
    from torch import Tensor

# QLoRA, appendix E.
_NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
# bitsandbytes, csrc: the smallest magnitude is 1/192, not the 1/48 that its create_fp8_map gives.
_FP4 = (0.0, 0.0052083333, 0.16666667, 0.25, 0.33333333, 0.5, 0.66666667, 1.0)


@dataclass(frozen=True)
class FixedCode(CodebookElement):
    """Entries written down.

    Attributes:
        entries: rising.
    """

    entries: tuple[float, ...]

    def values(self) -> Tensor:
        """Return the entries, (16,) float32."""
        import torch

        return torch.tensor(self.entries, dtype=torch.float32)


def _make(element: FixedCode, block: Block, dtype: str, centered: bool) -> Mapping[str, Any]:
    return {
        "kind": "fourbit",
        "element": element,
        "rule": Absmax(dtype, divisor=1.0, top=1.0),
        "block": block,
        "centered": centered,
        "oracle": "bitsandbytes (quantize_4bit)",
    }


KIND: Kind = Family(
    {
        "nf4": FixedCode("nf4", 4, _NF4),
        "bnbfp4": FixedCode("bnbfp4", 4, tuple(-v for v in reversed(_FP4[1:])) + _FP4),
    },
    _make,
    ({"": "float32", "sf16": "float16", "sbf16": "bfloat16"}, CENTERING),
)
