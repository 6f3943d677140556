"""What a number format is as data: an element, a scale rule and a block, and the bits that a matrix takes with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from bitlaw.formats.elements import Element, stored_size
from bitlaw.formats.scales import BITS, ScaleRule, Scales

if TYPE_CHECKING:
    from torch import Tensor

Block = int | Literal["row", "none"]
"""Weights a scale: a number of them along a row, the row, or (``none``) the whole matrix."""

BLOCKS: tuple[Block, ...] = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, "row", "none")
"""The blocks that kinds offer, unless they say otherwise."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The declaration of one number format; ``str(fmt)`` is its name.

    A weight becomes ``code = element.encode((w - mean) / step [+ zero])`` and decodes to
    ``(element.decode(code) - zero) * step + mean``, where mean and zero are there only in formats that have them.

    Attributes:
        name: the canonical name.
        kind: name of the kind's module.
        element: how a number in units of the step becomes a code.
        rule: how the step follows from a block, and how it is stored.
        block: weights a scale; see ``Block``.
        centered: whether a block's mean is subtracted first, and stored as a part of its own (in the rule's dtype).
        oracle: the independent implementation that tests compare with.
        axis: the axis that blocks run along.
        zero_policy: what an all-zero block becomes.
        nan_policy: what a block with a NaN or an infinity becomes.
        compiled: whether compiled kernels may do what its class does.
    """

    compiled: ClassVar[bool] = True

    name: str
    kind: str
    element: Element
    rule: ScaleRule
    block: Block
    centered: bool = False
    oracle: str
    axis: int = -1
    zero_policy: str = "zeros"
    nan_policy: str = "block is NaN"

    def __str__(self) -> str:
        return self.name

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return self.element.bits

    @property
    def scale_rule(self) -> str:
        """How the scale follows from the block's weights."""
        return self.rule.name

    @property
    def scale_dtype(self) -> str:
        """How a scale is stored."""
        return self.rule.dtype

    @property
    def rounding(self) -> str:
        """How a weight between two codes is rounded."""
        return self.element.rounding

    # What is stored.

    def block_parts(self) -> dict[str, int]:
        """Return the bits that each part of a block's scale takes, by name."""
        return {**self.rule.parts(), **({"mean": BITS[self.rule.dtype]} if self.centered else {})}

    def shared_parts(self) -> dict[str, int]:
        """Return the bits that each part shared by a whole matrix takes, by name."""
        return self.rule.shared_parts()

    @property
    def by_rows(self) -> bool:
        """Whether a row is rounded for itself, whatever the other rows of its matrix are."""
        return self.block != "none" and not self.shared_parts()

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
        return self.element.stored_bits(shape[0] * shape[1]) + scale_bits + sum(self.shared_parts().values())

    def stored_bytes(self, shape: tuple[int, int]) -> int:
        """Return the bytes of ``Quantized.tensors()``: ``storage_bits``, each part padded to whole bytes."""
        rows, blocks = self.grid(shape)
        parts = sum(stored_size(bits, rows * blocks) for bits in self.block_parts().values())
        codes = -(-self.element.stored_bits(shape[0] * shape[1]) // 8)
        return codes + parts + sum(self.shared_parts().values()) // 8

    def effective_bits(self, shape: tuple[int, int]) -> float:
        """Return the bits a weight that a matrix of ``shape`` takes; exact but for the padding of last bytes."""
        return self.storage_bits(shape) / (shape[0] * shape[1])

    # What stored scales mean.

    def steps(self, scales: Scales) -> Tensor:
        """Return the steps that ``scales`` mean, float32, in the shape of the block parts."""
        return self.rule.step(scales)

    def zeros(self, scales: Scales) -> Tensor | None:
        """Return the zero points, float32, in the shape of the block parts; ``None`` in symmetric formats."""
        return self.rule.zero(scales)

    def means(self, scales: Scales) -> Tensor | None:
        """Return the means of the blocks, float32, in the shape of the block parts; ``None`` in formats without."""
        return scales.block["mean"].float() if self.centered else None
