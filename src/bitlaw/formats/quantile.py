"""Quantile codes: ``quantile4_b64``: the codebook is fitted to each matrix, so that its entries are used equally often.

Dettmers and Zettlemoyer 2023 (arXiv 2212.09720), "Quantile quantization", with bitsandbytes' rule (its
``create_quantile_map``, until 2025): 2^k - 1 quantiles at equal distances, and zero, over the largest magnitude.
The codebook, 2^k float32 numbers, is stored with the matrix and counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bitlaw.formats.elements import CodebookElement
from bitlaw.formats.family import CENTERING, SCALE_DTYPES, Family, Kind
from bitlaw.formats.layout import Block
from bitlaw.formats.scales import Absmax

if TYPE_CHECKING:
    from torch import Tensor

SAMPLE: Final = 1 << 16
"""Weights that quantiles are taken from: so many at equal distances, or all."""


@dataclass(frozen=True)
class QuantileCode(CodebookElement):
    """Entries that come with the matrix."""

    def values(self) -> Tensor:
        """Raise: there is no table without a matrix."""
        raise TypeError("the entries of a quantile code belong to a matrix")

    def table(self, shared: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """Return the matrix's entries."""
        return shared["codebook"].to(like.device)


@dataclass(frozen=True)
class AbsmaxWithCodebook(Absmax):
    """Absmax scales, and a codebook for the matrix.

    Attributes:
        bits: of a code.
    """

    bits: int = 4

    def shared_parts(self) -> dict[str, int]:
        """Return the bits of the codebook."""
        return {"codebook": 32 << self.bits}

    def shared(self, w: Tensor) -> dict[str, Tensor]:
        """Return the codebook of ``w``, float32, rising, ``(2^bits,)``.

        Of every n-th weight that is finite (``SAMPLE``, or all), the quantiles at ``2^bits - 1`` equally spaced levels
        from ``d`` to ``1 - d``, ``d = 1 / (2 (2^bits - 1))``, linearly interpolated, and zero, over the largest
        magnitude. Without a weight other than zero, the entries are zeros.
        """
        import torch

        flat = w.reshape(-1) if w.is_contiguous() else w.contiguous().view(-1)
        sample = flat[:: max(1, flat.numel() // SAMPLE)].float().contiguous()
        good = torch.isfinite(sample)
        # Bad weights go to the end, behind all that is looked at: counting them on the device saves waiting for it.
        sample = _sorted(sample.where(good, torch.inf))
        last = (good.sum() - 1).clamp_min(0)
        count = (1 << self.bits) - 1
        levels = torch.linspace(0.5 / count, 1 - 0.5 / count, count, dtype=torch.float64, device=w.device)
        places = levels * last
        low = places.floor().long()
        below, above = sample[low], sample[torch.minimum(low + 1, last)]
        quantiles = below + (above - below) * (places - low).float()
        quantiles = quantiles.where(good.any(), 0.0)
        values = torch.cat([quantiles, quantiles.new_zeros(1)])
        largest = values.abs().amax()
        # Adding zero makes a negative zero positive.
        values = values.sort().values / largest.where(largest > 0, 1.0) + 0.0
        return {"codebook": values}


def _sorted(sample: Tensor) -> Tensor:
    """Return ``sample`` in rising order; on a CPU by numpy, whose vectorized sort takes a thirtieth of torch's time."""
    import numpy as np
    import torch

    return sample.sort().values if sample.is_cuda else torch.from_numpy(np.sort(sample.numpy()))


def _make(element: QuantileCode, block: Block, dtype: str, centered: bool) -> Mapping[str, Any]:
    return {
        "kind": "quantile",
        "element": element,
        "rule": AbsmaxWithCodebook(dtype, divisor=1.0, top=1.0, bits=element.bits),
        "block": block,
        "centered": centered,
        "oracle": "torch.quantile",
    }


KIND: Kind = Family(
    {f"quantile{k}": QuantileCode(f"quantile{k}", k) for k in range(2, 9)}, _make, (SCALE_DTYPES, CENTERING)
)
