"""Scale rules: what is stored for a block of weights besides its codes, and the step that it means.

A step is a float32 number, and a weight ``w`` becomes the code of ``w / step`` (true division). Every rule keeps the
promise of ``bitlaw.formats.base``: a block with a NaN or an infinity, or whose scale cannot be stored, gets a NaN step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from bitlaw.formats import kernels
from bitlaw.formats.elements import FloatElement

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BITS: Final = {"float16": 16, "bfloat16": 16, "float32": 32}
"""Bits of the types that a scale may be stored in."""

_NAN_BITS: Final = 0x7FC00000  # float32's quiet NaN
E4M3: Final = FloatElement("e4m3", 8, mantissa_bits=3, bias=7, largest=448.0)


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


@dataclass(frozen=True)
class ScaleRule(ABC):
    """One rule.

    Attributes:
        dtype: how a step is stored.
        name: of the rule, as result tables give it.
    """

    dtype: str

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the rule."""

    def parts(self) -> dict[str, int]:
        """Return the bits of each part stored for a block, by name."""
        return {"scale": BITS[self.dtype]}

    def shared_parts(self) -> dict[str, int]:
        """Return the bits of each part stored once for a matrix, by name."""
        return {}

    def shared(self, w: Tensor) -> dict[str, Tensor]:
        """Return the parts stored once for the matrix ``w``."""
        return {}

    @abstractmethod
    def fit(self, blocks: Tensor, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the parts, in their storage dtype, of ``blocks`` (float32, ``(..., n)``), of shape ``(...)``."""

    @abstractmethod
    def step(self, scales: Scales) -> Tensor:
        """Return the steps, float32, in the shape of the block parts."""

    def zero(self, scales: Scales) -> Tensor | None:
        """Return the zero points, float32 integers in the shape of the block parts; ``None`` for symmetric rules."""
        return None


@dataclass(frozen=True)
class Absmax(ScaleRule):
    """``step = amax / divisor`` (one IEEE division), rounded half-even to ``dtype``.

    * A step below the smallest positive (subnormal) number of ``dtype`` is raised to it.
    * A step that ``dtype`` cannot hold, or with which the largest code would decode beyond float32, is stored as NaN.

    Attributes:
        divisor: the code that the largest magnitude gets, such as 7.
        top: the largest magnitude of a code.
        least: a smaller ``amax`` is raised to it.
        convention: whose divisor it is, if it is not that of the plain rule.
    """

    divisor: float
    top: float
    least: float = 0.0
    convention: str = ""

    @property
    def name(self) -> str:
        """``absmax``, or with the convention ``absmax-gptq``, ``absmax-awq``."""
        return f"absmax-{self.convention}" if self.convention else "absmax"

    def fit(self, blocks: Tensor, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See ``ScaleRule.fit``."""
        amax = blocks.abs().amax(-1)
        if self.least:
            amax = amax.clamp_min(self.least)
        return {"scale": stored_step(divide(amax, self.divisor), self.dtype, self.top)}

    def step(self, scales: Scales) -> Tensor:
        """See ``ScaleRule.step``."""
        return scales.block["scale"].float()


@dataclass(frozen=True)
class AbsMean(ScaleRule):
    """``step = mean |w|`` (summed in float64, rounded to ``dtype``): BitNet b1.58 (arXiv 2402.17764), equation 3."""

    @property
    def name(self) -> str:
        """``absmean``."""
        return "absmean"

    def fit(self, blocks: Tensor, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See ``ScaleRule.fit``."""
        return {"scale": stored_step(blocks.abs().double().mean(-1).float(), self.dtype, 1.0)}

    def step(self, scales: Scales) -> Tensor:
        """See ``ScaleRule.step``."""
        return scales.block["scale"].float()


@dataclass(frozen=True)
class MinMax(ScaleRule):
    """Steps and zero points of asymmetric integers ``0..2^bits - 1``; a code ``c`` means ``(c - zero) * step``.

    * ``gptq``: the range is widened to include zero. As in GPTQ's, compressed-tensors' and auto-round's code.
    * ``awq``: the range is as it is, at least 1e-5, and a zero point outside the codes is clipped; so a block whose
      weights all lie on one side of zero, far from it, is distorted. As in AutoAWQ's ``pseudo_quantize_tensor``.

    ``step = (max - min) / (2^bits - 1)``, rounded to ``dtype`` as by ``Absmax``; ``zero = -round(min / step)``.

    Attributes:
        bits: of a code and of a zero point.
        convention: see above.
    """

    bits: int
    convention: Literal["gptq", "awq"]

    @property
    def name(self) -> str:
        """``minmax-gptq`` or ``minmax-awq``."""
        return f"minmax-{self.convention}"

    def parts(self) -> dict[str, int]:
        """Return the bits of a step and of a zero point."""
        return {"scale": BITS[self.dtype], "zero": self.bits}

    def fit(self, blocks: Tensor, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See ``ScaleRule.fit``."""
        import torch

        low, high = blocks.amin(-1), blocks.amax(-1)
        if self.convention == "gptq":
            low, high = low.clamp_max(0.0), high.clamp_min(0.0)
        largest = (1 << self.bits) - 1
        width = high - low
        if self.convention == "awq":
            width = width.clamp_min(1e-5)
        step = stored_step(divide(width, float(largest)), self.dtype, float(largest))
        zero = low.div(step.float()).round_().neg_().clamp_(0, largest).nan_to_num_(nan=0.0)
        return {"scale": step, "zero": zero.to(torch.uint8)}

    def step(self, scales: Scales) -> Tensor:
        """See ``ScaleRule.step``."""
        return scales.block["scale"].float()

    def zero(self, scales: Scales) -> Tensor:
        """See ``ScaleRule.zero``."""
        return scales.block["zero"].float()


@dataclass(frozen=True)
class E8M0(ScaleRule):
    """A shared power of two, stored as a byte with the bias 127; 255 is NaN (OCP MX v1.0, sections 5.4.1 and 6.3).

    The exponent E follows from ``amax`` by integer operations on its bits, since ``log2`` in floating point is wrong
    just below powers of two. With ``emax`` the exponent of the element's largest power of two and ``top`` its largest
    number:

    * ``floor``: ``floor(log2 amax) - emax``, as OCP says; weights above ``2^E top`` saturate.
    * ``ceil``: ``ceil(log2 amax) - emax``.
    * ``even``: ``floor`` of ``amax`` rounded half up to the element's mantissa bits.
    * ``rceil``: ``ceil(log2(amax / top))``, the least with which nothing saturates.

    E is clipped to -127..127. Then the step is ``2^(E - shift)``; ``shift`` turns integers into fractions (MXINT).

    Attributes:
        rule: see above.
        emax: see above.
        mantissa_bits: of the element.
        top: see above.
        shift: see above.
    """

    rule: Literal["floor", "ceil", "even", "rceil"]
    emax: int
    mantissa_bits: int
    top: float
    shift: int = 0
    RULES: ClassVar[tuple[str, ...]] = ("floor", "even", "rceil", "ceil")

    @property
    def name(self) -> str:
        """Name of the rule."""
        return self.rule

    def parts(self) -> dict[str, int]:
        """Return the bits of the shared exponent."""
        return {"scale": 8}

    def fit(self, blocks: Tensor, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See ``ScaleRule.fit``."""
        import torch

        amax = blocks.abs().amax(-1)
        bits = (divide(amax, self.top) if self.rule == "rceil" else amax).view(torch.int32)
        if self.rule == "even":
            bits = bits + (1 << 22 - self.mantissa_bits)
        field = bits >> 23
        if self.rule in ("ceil", "rceil"):
            # Up to 2^-127, half of the smallest normal number, the lowest exponent of all is high enough.
            field = field + (bits & 0x7FFFFF > torch.where(field > 0, 0, 1 << 22)).to(torch.int32)
        if self.rule != "rceil":
            field = field - self.emax
        field = field.clamp(0, 254).where(torch.isfinite(amax), 255)
        return {"scale": field.to(torch.uint8)}

    def step(self, scales: Scales) -> Tensor:
        """Return ``2^(byte - 127 - shift)``, built from bits: exact, subnormal or not; see ``ScaleRule.step``."""
        import torch

        byte = scales.block["scale"].to(torch.int32)
        exponent = byte - self.shift
        # With an exponent field of zero the value is 2^-149 times the fraction: 2^-127 is bit 22, and so on down.
        bits = torch.where(exponent > 0, exponent << 23, torch.ones_like(byte) << (22 + exponent.clamp_max(0)))
        return bits.where(byte != 255, _NAN_BITS).view(torch.float32)


@dataclass(frozen=True)
class TwoLevel(ScaleRule):
    """NVFP4's two levels: a float32 scale for the matrix and an E4M3 scale for each block.

    The matrix's scale is ``amax / (448 top)`` over its finite weights, at least float32's smallest normal number; a
    block's is ``(amax / top) / matrix scale`` in E4M3, at least its smallest subnormal 2^-9. The step is their
    product. A block with a NaN or an infinity stores E4M3's NaN, 127, and does not touch the others.

    Attributes:
        top: largest number of the element.
    """

    top: float

    @property
    def name(self) -> str:
        """``two-level``."""
        return "two-level"

    def parts(self) -> dict[str, int]:
        """Return the bits of a block's scale."""
        return {"scale": 8}

    def shared_parts(self) -> dict[str, int]:
        """Return the bits of the matrix's scale."""
        return {"matrix_scale": 32}

    def shared(self, w: Tensor) -> dict[str, Tensor]:
        """Return the matrix's scale, ``(1,)`` float32."""
        import torch

        amax = kernels.largest_finite(w)
        if amax is None:
            low, high = torch.aminmax(w)
            amax = torch.maximum(-low, high).float().view(1)
            if not bool(torch.isfinite(amax)):
                # A few rows at a time: no copy of the whole matrix is made.
                slabs = w.split(max(1, (1 << 20) // w.shape[1]))
                tops = [slab.float().abs().nan_to_num_(nan=0.0, posinf=0.0).amax() for slab in slabs]
                amax = torch.stack(tops).amax().view(1)
        return {"matrix_scale": divide(amax, E4M3.top * self.top).clamp_min(torch.finfo(torch.float32).tiny)}

    def fit(self, blocks: Tensor, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See ``ScaleRule.fit``."""
        import torch

        amax = blocks.abs().amax(-1)
        scale = divide(amax, self.top) / shared["matrix_scale"]
        byte = E4M3.encode(scale, {}).clamp_min(1)
        return {"scale": byte.where(torch.isfinite(amax), torch.full_like(byte, 127))}

    def step(self, scales: Scales) -> Tensor:
        """See ``ScaleRule.step``."""
        import torch

        byte = scales.block["scale"]
        step = E4M3.decode(byte, {}) * scales.shared["matrix_scale"]
        return step.where(byte != 127, torch.nan)


def divide(x: Tensor, divisor: float) -> Tensor:
    """Return ``x / divisor``, elementwise, correctly rounded on every device.

    CUDA turns a division by a number into a product.
    """
    return x / x.new_full((), divisor)


def stored_step(step: Tensor, dtype: str, top: float) -> Tensor:
    """Return ``step`` (float32) in the dtype called ``dtype``: at least its smallest positive number, NaN if not held.

    The shape stays. Not held is one that is infinite in ``dtype``, or with which ``top`` steps are infinite in float32.
    """
    import torch

    kind: torch.dtype = getattr(torch, dtype)
    info = torch.finfo(kind)
    stored = step.to(kind).clamp_min(info.smallest_normal * info.eps)
    return stored.where(torch.isfinite(stored.float() * top), torch.nan)
