"""What a number format is: frozen data that says how a block of weights is stored, and the pure functions on it.

A weight matrix has the shape ``(out_features, in_features)``. Blocks run along its last axis; the last block of a row
is shorter where the block does not divide ``in_features`` (ragged), and nothing is padded. ``row`` is one block a
row, ``none`` one block for the whole matrix.

Behaviour that all kinds share:

* All arithmetic is in float32. float16 and bfloat16 weights are converted exactly, float64 weights are rounded to
  float32 first (beyond its range: to an infinity, so to NaN).
* A NaN or an infinity in a block makes all weights of the block NaN. So does a block whose scale its storage type
  cannot hold. A bad weight never turns into a good one.
* A negative zero decodes to a positive zero.
* Results do not depend on strides, on the device's memory layout, or on how many rows are given at once.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from bitlaw.formats.packing import pack, unpack

if TYPE_CHECKING:
    from torch import Tensor

Block = int | Literal["row", "none"]
"""Weights a scale: a number of them along a row, the row, or (``none``) the whole matrix."""

BLOCKS: tuple[Block, ...] = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, "row", "none")
"""The blocks that kinds offer, unless they say otherwise."""

# Rows are worked on in slabs of about this many weights: the temporaries then stay in cache and in pages that the
# allocator keeps, instead of costing a page fault for each 4 KiB of every intermediate matrix.
_SLAB = 1 << 18


def block_name(block: Block) -> str:
    """Return the part of a format's name that names ``block``: ``b64``, ``row``, ``none``."""
    return f"b{block}" if isinstance(block, int) else block


@cache
def parse_block(text: str, blocks: tuple[Block, ...] = BLOCKS) -> Block | None:
    """Return the block of ``blocks`` that ``text`` names, or ``None``."""
    return {block_name(block): block for block in blocks}.get(text)


@dataclass(frozen=True, eq=False)
class Scales:
    """What turns codes into weights, as it is stored.

    Attributes:
        block: by name, tensors with one entry a block. In a whole matrix their shape is ``(out, blocks)``, and
            ``(1, 1)`` for the block ``none``.
        shared: by name, tensors that all blocks of a matrix share (a second-level scale, a codebook).
    """

    block: Mapping[str, Tensor]
    shared: Mapping[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, index: tuple[slice | int, ...]) -> Scales:
        """Return the scales of some rows and blocks."""
        return Scales({name: part[index] for name, part in self.block.items()}, self.shared)


@dataclass(frozen=True, eq=False)
class Quantized:
    """A quantized matrix: integer codes and what decodes them.

    Attributes:
        fmt: its format.
        codes: ``(out, in)``, int8 or uint8.
        scales: as stored; see ``Scales``.
    """

    fmt: Format
    codes: Tensor
    scales: Scales

    @property
    def shape(self) -> tuple[int, int]:
        """``(out_features, in_features)``."""
        rows, columns = self.codes.shape
        return rows, columns

    def tensors(self) -> dict[str, Tensor]:
        """Return the storage form: ``codes`` packed densely (uint8), and the scales by name."""
        return {"codes": pack(self.codes, self.fmt.bits), **self.scales.block, **self.scales.shared}

    @classmethod
    def from_tensors(cls, fmt: Format, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Quantized:
        """Return the matrix of ``shape`` whose storage form is ``tensors``; the inverse of ``tensors()``.

        Raises:
            KeyError: if a part is missing.
            ValueError: if a part's size does not fit ``shape``.
        """
        rows, columns = shape
        grid = fmt.grid(shape)
        codes = unpack(tensors["codes"], fmt.bits, rows * columns, signed=fmt.signed).view(rows, columns)
        block = {name: tensors[name] for name in fmt.block_parts()}
        for name, part in block.items():
            if tuple(part.shape) != grid:
                raise ValueError(f"'{name}' of a {rows} x {columns} matrix in {fmt} is {grid}, not {tuple(part.shape)}")
        return cls(fmt, codes, Scales(block, {name: tensors[name] for name in fmt.shared_parts()}))


@dataclass(frozen=True, kw_only=True)
class Format(ABC):
    """One number format. A kind subclasses it and writes the four abstract methods; ``str(fmt)`` is its name.

    Fields that are not arguments of a kind's constructor hold what that kind fixes: they are there to be read,
    compared, hashed and written into result tables.

    Attributes:
        bits: bits of a code.
        block: weights a scale; see ``Block``.
        kind: name of the kind's module.
        element: name of the element type, such as ``int4``.
        axis: the axis that blocks run along.
        scale_rule: how the scale follows from the block's weights.
        scale_dtype: how a scale is stored.
        rounding: how a weight is rounded to a code.
        zero_policy: what an all-zero block becomes.
        nan_policy: what a block with a NaN or an infinity becomes.
        signed: whether codes are in two's complement.
    """

    bits: int
    block: Block
    kind: str = field(init=False)
    element: str = field(init=False)
    axis: int = field(init=False, default=-1)
    scale_rule: str = field(init=False)
    scale_dtype: str
    rounding: str = field(init=False)
    zero_policy: str = field(init=False, default="zeros")
    nan_policy: str = field(init=False, default="block is NaN")
    signed: ClassVar[bool] = True

    # What a kind writes.

    @abstractmethod
    def __str__(self) -> str:
        """Return the canonical name."""

    @abstractmethod
    def block_parts(self) -> dict[str, int]:
        """Return the bits that each part of a block's scale takes, by name."""

    @abstractmethod
    def scales(self, blocks: Tensor, shared: Mapping[str, Tensor]) -> Scales:
        """Return the scales of blocks of weights.

        Args:
            blocks: float32, ``(..., weights of a block)``.
            shared: what ``shared(w)`` returned for the matrix.

        Returns:
            Scales whose block parts have the shape ``blocks.shape[:-1]`` and their storage dtype.
        """

    @abstractmethod
    def round_block(self, blocks: Tensor, scales: Scales) -> Tensor:
        """Return the codes of ``blocks`` (float32, ``(..., n)``) under ``scales`` (block parts ``(...)``)."""

    @abstractmethod
    def decode(self, codes: Tensor, scales: Scales) -> Tensor:
        """Return the weights, float32, that ``codes`` (``(..., n)``) mean under ``scales`` (block parts ``(...)``)."""

    # What a kind with parts for the whole matrix writes as well.

    def shared_parts(self) -> dict[str, int]:
        """Return the bits that each part shared by a whole matrix takes, by name."""
        return {}

    def shared(self, w: Tensor) -> dict[str, Tensor]:
        """Return the parts that all blocks of the matrix ``w`` share, in their storage dtype."""
        return {}

    # What all kinds have.

    def width(self, columns: int) -> int:
        """Return the weights of a full block in a row of ``columns`` weights."""
        return min(self.block, columns) if isinstance(self.block, int) else columns

    def grid(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the shape of the block parts of the scales of a matrix of ``shape``."""
        rows, columns = shape
        return (1, 1) if self.block == "none" else (rows, -(-columns // self.width(columns)))

    def storage_bits(self, shape: tuple[int, int]) -> int:
        """Return all bits that a matrix of ``shape`` takes: codes, scales and shared parts."""
        rows, blocks = self.grid(shape)
        scale_bits = rows * blocks * sum(self.block_parts().values())
        return shape[0] * shape[1] * self.bits + scale_bits + sum(self.shared_parts().values())

    def effective_bits(self, shape: tuple[int, int]) -> float:
        """Return the bits a weight that a matrix of ``shape`` takes; exact but for the last byte's padding."""
        return self.storage_bits(shape) / (shape[0] * shape[1])

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
        codes = torch.empty(w.shape, dtype=torch.int8 if self.signed else torch.uint8, device=w.device)
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
        for rows in _slabs(q.codes):
            out[rows] = self._decode(q.codes[rows], self._rows(q.scales, rows))
        return out

    def fake_quantize(self, w: Tensor, out: Tensor | None = None) -> Tensor:
        """Return ``dequantize(quantize(w))``, bit for bit, without keeping codes.

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
        whole = self._fit(w, shared) if self.block == "none" else None
        for rows in _slabs(w):
            scales = whole or self._fit(w[rows], shared)
            out.detach()[rows] = self._decode(self._encode(w[rows], scales), scales)
        return out

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


class Kind(Protocol):
    """A family of formats; each module of ``bitlaw.formats`` that assigns one to ``KIND`` adds one."""

    def names(self) -> Iterable[str]:
        """Return the canonical names of the family's formats."""
        ...

    def parse(self, name: str) -> Format | None:
        """Return the format that ``name`` names, or ``None`` if it is none of this family."""
        ...


def split_name(name: str, element: str) -> tuple[str, tuple[str, ...]] | None:
    """Split ``<element><rest>`` names: return what the regular expression ``element`` matched and the other parts.

    ``split_name("int4_b64", "int[2-8]")`` is ``("int4", ("b64",))``; ``None`` if the first part does not match.
    """
    head, *rest = name.split("_")
    return (head, tuple(rest)) if re.fullmatch(element, head) else None


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
