"""What a number format is: frozen data that says how a block of weights is stored, and the pure functions on it.

A weight matrix has the shape ``(out_features, in_features)``. Blocks run along its last axis; the last block of a row
is shorter where the block does not divide ``in_features`` (ragged), and nothing is padded. ``row`` is one block a
row, ``none`` one block for the whole matrix.

Behaviour that all formats share:

* All arithmetic is in float32. float16 and bfloat16 weights are converted exactly, float64 weights are rounded to
  float32 first (beyond its range: to an infinity, so to NaN).
* A NaN or an infinity in a block makes all weights of the block NaN. So does a block whose scale its storage type
  cannot hold. A bad weight never turns into a good one.
* An all-zero block decodes to positive zeros, and a negative zero to a positive one.
* Results do not depend on strides, on the device's memory layout, or on how many rows are given at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bitlaw.formats import kernels
from bitlaw.formats.layout import Layout
from bitlaw.formats.packing import pack, unpack
from bitlaw.formats.scales import Scales

if TYPE_CHECKING:
    from torch import Tensor

# Rows are worked on in slabs of about this many weights: the temporaries then stay in cache and in pages that the
# allocator keeps, instead of costing a page fault for each 4 KiB of every intermediate matrix.
_SLAB = 1 << 18


@dataclass(frozen=True, eq=False)
class Quantized:
    """A quantized matrix: integer codes and what decodes them.

    Attributes:
        fmt: its format.
        codes: ``(out, in)``, int8 or uint8.
        scales: as stored; see ``Scales``.
        known: what ``weight()`` returns, if whoever made this has it.
    """

    fmt: Format
    codes: Tensor
    scales: Scales
    known: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """``(out_features, in_features)``."""
        rows, columns = self.codes.shape
        return rows, columns

    def weight(self) -> Tensor:
        """Return the weights, ``(out, in)`` float32, not to be changed; see ``Format.dequantize``."""
        return self.fmt.dequantize(self) if self.known is None else self.known

    def tensors(self) -> dict[str, Tensor]:
        """Return the storage form: ``codes`` packed densely, (n,) uint8, and the scales by name, dense below a byte."""
        bits = self.fmt.block_parts()
        parts = {name: pack(part, bits[name]) if bits[name] < 8 else part for name, part in self.scales.block.items()}
        return {"codes": self.fmt.element.pack(self.codes), **parts, **self.scales.shared}

    @classmethod
    def from_tensors(cls, fmt: Format, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Quantized:
        """Return the matrix of ``shape`` whose storage form is ``tensors``; the inverse of ``tensors()``.

        Raises:
            KeyError: if a part is missing.
            ValueError: if a part's size does not fit ``shape``.
        """
        rows, columns = shape
        grid = fmt.grid(shape)
        codes = fmt.element.unpack(tensors["codes"], rows * columns).view(rows, columns)
        block = {}
        for name, bits in fmt.block_parts().items():
            part = tensors[name]
            if bits < 8:
                part = unpack(part, bits, grid[0] * grid[1], signed=False).view(grid)
            if tuple(part.shape) != grid:
                raise ValueError(f"'{name}' of a {rows} x {columns} matrix in {fmt} is {grid}, not {tuple(part.shape)}")
            block[name] = part
        return cls(fmt, codes, Scales(block, {name: tensors[name] for name in fmt.shared_parts()}))


@dataclass(frozen=True, kw_only=True)
class Format(Layout):
    """One number format: a declaration, and the pure functions on weights that follow from it."""

    def __init_subclass__(cls) -> None:
        # A subclass may encode or decode in another way, which kernels know nothing of.
        cls.compiled = False

    # Blocks of weights, (..., n).

    def scales(self, blocks: Tensor, shared: Mapping[str, Tensor]) -> Scales:
        """Return the scales of blocks of weights.

        Args:
            blocks: float32, ``(..., weights of a block)``.
            shared: what ``shared(w)`` returned for the matrix.

        Returns:
            Scales whose block parts have the shape ``blocks.shape[:-1]`` and their storage dtype.
        """
        import torch

        if not self.centered:
            return Scales(self.rule.fit(blocks, shared), shared)
        mean = blocks.double().mean(-1).to(getattr(torch, self.rule.dtype))
        mean = mean.where(torch.isfinite(mean), torch.nan)
        parts = self.rule.fit(blocks - mean.float().unsqueeze(-1), shared)
        return Scales({**parts, "mean": mean}, shared)

    def round_block(self, blocks: Tensor, scales: Scales) -> Tensor:
        """Return the codes of ``blocks`` (float32, ``(..., n)``) under ``scales`` (block parts ``(...)``)."""
        if (mean := self.means(scales)) is not None:
            blocks = blocks - mean.unsqueeze(-1)
        x = blocks / self.steps(scales).unsqueeze(-1)
        if (zero := self.zeros(scales)) is not None:
            x = x.round_().add_(zero.unsqueeze(-1))
        return self.element.encode(x, scales.shared)

    def decode(self, codes: Tensor, scales: Scales) -> Tensor:
        """Return the weights, float32, that ``codes`` (``(..., n)``) mean under ``scales`` (block parts ``(...)``)."""
        x = self.element.decode(codes, scales.shared)
        if (zero := self.zeros(scales)) is not None:
            x = x.sub_(zero.unsqueeze(-1))
        x = x.mul_(self.steps(scales).unsqueeze(-1))
        if (mean := self.means(scales)) is not None:
            x = x.add_(mean.unsqueeze(-1))
        return x

    # Matrices.

    def shared(self, w: Tensor) -> dict[str, Tensor]:
        """Return the parts that all blocks of the matrix ``w`` share, in their storage dtype."""
        return self.rule.shared(w)

    def fit(self, w: Tensor) -> Scales:
        """Return the scales of the matrix ``w`` (``(out, in)``, any floating dtype).

        Raises:
            TypeError: if ``w`` is not floating.
            ValueError: if ``w`` is no matrix or is empty.
        """
        w = _matrix(w)
        shared = self.shared(w)
        if self.block == "none":
            return self._fit(w, shared)
        slabs = [self._fit(w[rows], shared) for rows in _slabs(w)]
        return Scales(_concatenate([slab.block for slab in slabs], 0), shared)

    def encode(self, w: Tensor, scales: Scales) -> Quantized:
        """Return the matrix ``w`` rounded under ``scales``, which ``fit`` (or a method of its own) made."""
        import torch

        w = _matrix(w)
        codes = torch.empty(w.shape, dtype=torch.int8 if self.element.signed else torch.uint8, device=w.device)
        for rows in _slabs(w):
            codes[rows] = self._encode(w[rows], self._rows(scales, rows))
        return Quantized(self, codes, scales)

    def quantize(self, w: Tensor) -> Quantized:
        """Return the matrix ``w`` (``(out, in)``, any floating dtype) rounded to the nearest, block by block.

        Raises:
            TypeError: if ``w`` is not floating.
            ValueError: if ``w`` is no matrix or is empty.
        """
        return self.encode(w, self.fit(w))

    def dequantize(self, q: Quantized, out: Tensor | None = None) -> Tensor:
        """Return the weights of ``q``, ``(out, in)``: float32, or written to ``out`` in its dtype."""
        import torch

        out = torch.empty(q.shape, dtype=torch.float32, device=q.codes.device) if out is None else out
        if not kernels.dequantize(self, q.codes, q.scales, out.detach()):
            for rows in _slabs(q.codes):
                out.detach()[rows] = self._decode(q.codes[rows], self._rows(q.scales, rows))
        return out

    def fake_quantize(self, w: Tensor, out: Tensor | None = None) -> Tensor:
        """Return ``dequantize(quantize(w))``, bit for bit (but for which NaN a NaN is), without keeping codes.

        A compiled kernel does it where there is one for the device and the format's parts (``formats/kernels``).

        Args:
            w: ``(out, in)``, any floating dtype.
            out: where to write, in its own dtype; may be ``w`` itself. A new float32 matrix if not given.

        Raises:
            TypeError: if ``w`` is not floating.
            ValueError: if ``w`` is no matrix, is empty, or ``out`` has another shape.
        """
        import torch

        w = _matrix(w)
        if out is None:
            out = torch.empty(w.shape, dtype=torch.float32, device=w.device)
        elif out.shape != w.shape:
            raise ValueError(f"out is {tuple(out.shape)}, the weights are {tuple(w.shape)}")
        shared = self.shared(w)
        if not kernels.fake_quantize(self, w, shared, out.detach()):
            self._fake_quantize(w, shared, out.detach())
        return out

    def _fake_quantize(self, w: Tensor, shared: Mapping[str, Tensor], out: Tensor) -> None:
        """Do as ``fake_quantize`` says in plain torch: what kernels must equal bit for bit."""
        whole = self._fit(w, shared) if self.block == "none" else None
        for rows in _slabs(w):
            scales = whole or self._fit(w[rows], shared)
            out[rows] = self._decode(self._encode(w[rows], scales), scales)

    def _pieces(self, columns: int) -> Iterator[tuple[slice, slice, int]]:
        """Yield (columns, blocks, width) of the full blocks and, where there is one, of the ragged last block."""
        width = self.width(columns)
        full = columns // width
        yield slice(0, full * width), slice(0, full), width
        if full * width < columns:
            yield slice(full * width, columns), slice(full, full + 1), columns - full * width

    def _rows(self, scales: Scales, rows: slice) -> Scales:
        return scales if self.block == "none" else scales[rows,]

    def _fit(self, w: Tensor, shared: Mapping[str, Tensor]) -> Scales:
        w = w.float()
        if self.block == "none":
            return self.scales(w.reshape(1, 1, -1), shared)
        pieces = self._pieces(w.shape[1])
        parts = [self.scales(_split(w[:, columns], width), shared).block for columns, _, width in pieces]
        return Scales(_concatenate(parts, 1), shared)

    def _encode(self, w: Tensor, scales: Scales) -> Tensor:
        import torch

        w = w.float()
        pieces = self._pieces(w.shape[1])
        return torch.cat(
            [
                self.round_block(_split(w[:, columns], width), scales[:, blocks]).flatten(1)
                for columns, blocks, width in pieces
            ],
            dim=1,
        )

    def _decode(self, codes: Tensor, scales: Scales) -> Tensor:
        import torch

        pieces = self._pieces(codes.shape[1])
        return torch.cat(
            [
                self.decode(_split(codes[:, columns], width), scales[:, blocks]).flatten(1)
                for columns, blocks, width in pieces
            ],
            dim=1,
        )


def _matrix(w: Tensor) -> Tensor:
    if not w.is_floating_point():
        raise TypeError(f"weights must be floating, not {w.dtype}")
    if w.ndim != 2 or w.numel() == 0:
        raise ValueError(f"weights must be a non-empty (out, in) matrix, not {tuple(w.shape)}")
    return w.detach()


def _split(w: Tensor, width: int) -> Tensor:
    """Return ``(rows, columns)`` as ``(rows, blocks, width)``: a view, whatever the strides."""
    return w.view(len(w), -1, width)


def _slabs(w: Tensor) -> Iterator[slice]:
    """Yield row ranges that stay in cache; the whole matrix on an accelerator, where launches cost more."""
    rows = max(1, _SLAB // w.shape[1]) if w.device.type == "cpu" else len(w)
    for start in range(0, len(w), rows):
        yield slice(start, start + rows)


def _concatenate(parts: list[Mapping[str, Tensor]], dim: int) -> dict[str, Tensor]:
    import torch

    return {name: torch.cat([part[name] for part in parts], dim) for name in parts[0]}
