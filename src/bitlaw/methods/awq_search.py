"""The search of AWQ: scales of input channels, then ranges of blocks (Lin et al. 2023, arXiv 2306.00978, equation 4).

As AutoAWQ does it, but for two things. The error is ``tr(dW H dW^T)``, which is (but for a factor) exactly the mean
squared error of the outputs on the whole calibration text, where AutoAWQ runs a module on a sample of it. And ranges
are searched for all linears, queries and keys too, but kept only if they lower that error of the whole linear.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from bitlaw.methods import stacks
from bitlaw.methods.nearest import Nearest
from bitlaw.methods.stored import StoredLinear

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.formats.base import Format, Quantized

SMALLEST = 1e-4
"""Smallest power of an input's size before it is normalized, as in AutoAWQ: the scale of a dead input is not zero."""


def input_scales(absmean: Tensor, exponents: Sequence[float]) -> Tensor:
    """Return ``s = m^a / sqrt(max m^a min m^a)`` for mean sizes m of the inputs, (in,), and each a: (n, in) float16.

    The power is taken in float64, for devices differ in the last digits of one in float32: the same m would give
    another scale there now and then, and with it another choice between two that are about as good. Half precision
    costs 16 bits an input, and its rounding does no harm, for the weights are rounded with this very scale. Where the
    spread of the inputs exceeds what it holds, the scale is cut off at 2^-14 and 2^15.
    """
    each = torch.tensor(exponents, dtype=torch.float64, device=absmean.device)
    power = absmean.double().pow(each[:, None]).clamp(min=SMALLEST)
    scale = power / (power.amax(1, keepdim=True) * power.amin(1, keepdim=True)).sqrt()
    return scale.clamp(2.0**-14, 2.0**15).half()


def output_error(error: Tensor, hessian: Tensor) -> Tensor:
    """Return the loss ``tr(E H E^T)``, (), of the weight errors ``E`` (out, in), H (in, in); summed in float64."""
    return (error @ hessian).mul_(error).sum(dtype=torch.float64)


@dataclass(frozen=True)
class Search:
    """The search for linears that share an input.

    Attributes:
        hessian: second moments of the input, ``(in, in)`` float32.
        absmean: mean size of the input, ``(in,)`` float32.
        fmt: the format.
        n_grid: number of exponents, and steps of a range from whole to nothing.
        max_shrink: largest share by which a range is shrunk.
    """

    hessian: Tensor
    absmean: Tensor
    fmt: Format
    n_grid: int
    max_shrink: float

    def run(self, weights: Sequence[Tensor], *, clip: bool) -> Iterator[tuple[StoredLinear, dict[str, Any]]]:
        """Yield each of ``weights``, (out, in) float32, as stored, and how it went.

        The information: ``exponent`` of the scale; ``clipped``, the share of blocks with a shrunk range; and the
        relative output errors ``tr(dW H dW^T) / tr(W H W^T)``: ``output_error``, and ``rtn_error`` without any scale.
        """
        # A GPU is waited for twice: to choose the scale, and to choose between ranges.
        scales = input_scales(self.absmean, [k / self.n_grid for k in range(self.n_grid)])
        errors = torch.stack([self._scaled_errors(w, scales) for w in weights], 1).tolist()
        # NaN, of bad weights, must not decide: then it is the first, which rounds to nearest as they are.
        totals = [math.inf if math.isnan(total := sum(each)) else total for each in errors]
        best = min(range(self.n_grid), key=totals.__getitem__)
        scale = scales[best]
        tried = [self._tried(w, w * scale, scale, clip=clip) for w in weights]
        told = torch.stack([numbers for _, numbers in tried]).tolist()
        rows = zip(weights, errors[0], errors[best], tried, told, strict=True)
        for w, plain, unclipped, (clipped, _), (lower, share, energy) in rows:
            # Blocks are searched one by one; together they may do harm.
            better = clipped is not None and lower < unclipped
            quantized = clipped if clipped is not None and better else Nearest(self.fmt, w * scale)
            info = {
                "exponent": best / self.n_grid,
                "clipped": share if better else 0.0,
                "output_error": _ratio(lower if better else unclipped, energy),
                "rtn_error": _ratio(plain, energy),
            }
            yield StoredLinear(quantized, input_scale=scale.clone()), info

    def _tried(self, w: Tensor, scaled: Tensor, scale: Tensor, *, clip: bool) -> tuple[Quantized | None, Tensor]:
        """Return ``scaled`` with the best ranges if there is to ``clip``, and three numbers, (3,) float64.

        These are its output error, the share of its blocks with a shrunk range, and ``tr(W H W^T)``.
        """
        energy = output_error(w, self.hessian)
        if not clip:
            return None, torch.stack([energy * torch.nan, energy * 0, energy])
        ranges, share = self.ranges(scaled, scale)
        quantized = Nearest(self.fmt, clamped(self.fmt, scaled, ranges))
        lower = output_error(self._weight(quantized, scale) - w, self.hessian)
        return quantized, torch.stack([lower, share.double(), energy])

    def ranges(self, scaled: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best range of each block of ``scaled`` (the weights times ``scale``), and how many are shrunk.

        A block's error is that of the outputs when all other blocks are exact: its own part of the Hessian decides.

        Returns:
            The largest magnitude that is kept, in the shape of the blocks' scales; and the share below the whole, ().
        """
        whole = reduce_blocks(self.fmt, scaled.abs(), torch.amax)
        ranges, least = whole, torch.full_like(whole, torch.inf)
        steps = torch.arange(max(1, int(self.max_shrink * self.n_grid)), device=scaled.device)
        shares = (1 - steps.double() / self.n_grid).float()
        for some in shares.split(self._at_once(scaled)):
            tried = whole * some[:, None, None]
            many = scaled.repeat(len(some), 1)
            error = self.fmt.fake_quantize(clamped(self.fmt, many, tried.flatten(0, 1))).sub_(many).div_(scale)
            # NaN, of bad weights, is never the least.
            found = self._block_errors(error).view(tried.shape).nan_to_num(nan=torch.inf, posinf=torch.inf)
            for one, errors in zip(tried, found, strict=True):
                better = errors < least
                ranges, least = one.where(better, ranges), errors.where(better, least)
        return ranges, (ranges < whole).float().mean()

    def _scaled_errors(self, w: Tensor, scales: Tensor) -> Tensor:
        """Return the output error of ``w``, (out, in), with each of ``scales``, (n, in): (n,) float64."""
        errors = []
        for some in scales.split(self._at_once(w)):
            wide = some.unsqueeze(1)
            rounded = self.fmt.fake_quantize((w * wide).flatten(0, 1)).view(len(some), *w.shape)
            error = rounded.div_(wide).sub_(w)
            errors.append((error @ self.hessian).mul_(error).sum((1, 2), dtype=torch.float64))
        return torch.cat(errors)

    def _at_once(self, w: Tensor) -> int:
        """Return how many candidates for ``w``, (out, in), are rounded as one matrix; see ``stacks``."""
        return max(1, stacks.MOST // w.numel()) if self.fmt.by_rows and stacks.together(w) else 1

    def _weight(self, quantized: Quantized, scale: Tensor) -> Tensor:
        return StoredLinear(quantized, input_scale=scale).weight()

    def _block_errors(self, error: Tensor) -> Tensor:
        """Return ``e H_bb e^T`` for the part e of each row of ``error`` in each block b, in the shape of the scales."""
        if self.fmt.block == "none":
            return (error @ self.hessian).mul_(error).sum().reshape(1, 1)
        width = self.fmt.width(error.shape[1])
        full = error.shape[1] // width * width
        # All blocks of full width together: one by one they would take a launch each.
        e = error[:, :full].unflatten(1, (-1, width)).transpose(0, 1)
        h = self.hessian[:full, :full].unflatten(1, (-1, width)).unflatten(0, (-1, width)).diagonal(dim1=0, dim2=2)
        found: Tensor = (e @ h.permute(2, 0, 1)).mul_(e).sum(2).T
        if full == error.shape[1]:
            return found
        rest = error[:, full:]
        ragged = (rest @ self.hessian[full:, full:]).mul_(rest).sum(1, keepdim=True)
        return torch.cat([found, ragged], 1)


def reduce_blocks(fmt: Format, w: Tensor, reduce: Any) -> Tensor:
    """Return ``reduce`` (such as ``torch.amax``) of each block of ``w``, in the shape of the blocks' scales."""
    if fmt.block == "none":
        found: Tensor = reduce(w).reshape(1, 1)
        return found
    width = fmt.width(w.shape[1])
    full = w.shape[1] // width * width
    parts = [reduce(w[:, :full].unflatten(1, (-1, width)), 2)]
    return torch.cat([*parts, *([reduce(w[:, full:], 1, keepdim=True)] if full < w.shape[1] else [])], 1)


def clamped(fmt: Format, w: Tensor, ranges: Tensor) -> Tensor:
    """Return ``w`` (out, in) with each block cut off at its range, (out, blocks)."""
    wide = ranges if fmt.block == "none" else ranges.repeat_interleave(fmt.width(w.shape[1]), 1)[:, : w.shape[1]]
    return w.clamp(-wide, wide)


def _ratio(error: float, energy: float) -> float:
    return error / energy if energy else 0.0 if error == 0 else math.inf
