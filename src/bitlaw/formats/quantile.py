"""Quantile codes: ``quantile4_b64``: the codebook is fitted to each matrix, so that its entries are used equally often.

Dettmers and Zettlemoyer 2023 (arXiv 2212.09720), "Quantile quantization", with bitsandbytes' rule (its
``create_quantile_map``, until 2025): 2^k - 1 quantiles at equal distances, and zero, over the largest magnitude.
Quantiles are estimated as they do, by "SRAM-Quantiles" (Dettmers et al. 2022, arXiv 2110.02861, section 2.2): weights
are sorted in chunks, of 2,048 here, and the quantiles of all chunks are averaged. The codebook, 2^k float32 numbers, is
stored with the matrix and counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bitlaw.formats import kernels
from bitlaw.formats.elements import CodebookElement
from bitlaw.formats.family import CENTERING, SCALE_DTYPES, Family, Kind
from bitlaw.formats.layout import Block
from bitlaw.formats.scales import Absmax, divide

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SAMPLE: Final = 1 << 16
"""Weights that quantiles are taken from, at most."""

CHUNK: Final = 1 << 11
"""Weights that are sorted together, at most."""


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

        The sample is every n-th weight of the flattened matrix, n the least number with which it is at most ``SAMPLE``
        weights and that has no divisor in common with the columns, so that all columns come up. Weights are dealt in
        turn to as few chunks as hold them, at most ``CHUNK`` each. Of the finite weights of a chunk, the quantiles at
        ``2^bits - 1`` equally spaced levels from ``d`` to ``1 - d``, ``d = 1 / (2 (2^bits - 1))``, linearly
        interpolated, are averaged over all chunks that have any. These and zero, over the largest magnitude, are the
        entries; zeros, without a weight other than zero. All is computed in float64, sums in the order of the chunks.
        """
        step = sample_step(w.shape)
        codebook = kernels.quantile_codebook(w, step, CHUNK, self.bits)
        return {"codebook": self._codebook(w, step) if codebook is None else codebook}

    def _codebook(self, w: Tensor, step: int) -> Tensor:
        """Do as ``shared`` says in plain torch: what kernels must equal bit for bit."""
        import torch

        chunks = _sorted(_chunks(w, step))
        good = torch.isfinite(chunks).sum(1)
        last = (good - 1).clamp_min(0).unsqueeze(1)
        count = (1 << self.bits) - 1
        # In units of 1 / (2 count) of the distance of two neighbors, where each quantile lies.
        places = torch.arange(1, 2 * count, 2, device=w.device) * last
        low, share = places // (2 * count), divide((places % (2 * count)).double(), 2 * count)
        below, above = (chunks.gather(1, at).double() for at in (low, torch.minimum(low + 1, last)))
        quantiles = (below + (above - below) * share).where(good.unsqueeze(1) > 0, 0.0)
        total = quantiles[0]
        for each in quantiles[1:]:
            total = total + each
        mean = total / (good > 0).sum().clamp_min(1)
        values = torch.cat([mean, mean.new_zeros(1)])
        largest = values.abs().amax()
        # Adding zero makes a negative zero positive.
        return (values.sort().values / largest.where(largest > 0, 1.0)).float() + 0.0


def sample_step(shape: tuple[int, int] | torch.Size) -> int:
    """Return every how many weights of a matrix of ``shape`` belong to its sample; see ``AbsmaxWithCodebook``."""
    rows, columns = shape
    step = -(-rows * columns // SAMPLE)
    while math.gcd(step, columns) > 1:
        step += 1
    return step


def _chunks(w: Tensor, step: int) -> Tensor:
    """Return the sample of ``w`` as ``(chunks, weights)`` float32; infinity for bad weights and for those that lack."""
    import torch
    from torch.nn.functional import pad

    if w.is_contiguous():
        sample = w.view(-1)[::step]
    else:
        place = torch.arange(0, w.numel(), step, device=w.device)
        sample = w[place // w.shape[1], place % w.shape[1]]
    sample = sample.float()
    sample = sample.where(torch.isfinite(sample), torch.inf)
    count = -(-len(sample) // CHUNK)
    return pad(sample, (0, -len(sample) % count), value=torch.inf).view(-1, count).T.contiguous()


def _sorted(chunks: Tensor) -> Tensor:
    """Return ``chunks`` with rising rows; on a CPU by numpy, whose vectorized sort takes a thirtieth of the time."""
    import numpy as np
    import torch

    return chunks.sort(1).values if chunks.is_cuda else torch.from_numpy(np.sort(chunks.numpy(), axis=1))


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
