"""Element types: how a number in units of its block's step becomes a code of a few bits, and what a code means.

An element knows nothing of blocks and scales. All arithmetic is in float32 and every result is exact: rounding is the
only error an element makes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bitlaw.formats.packing import pack, packed_size, unpack

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Element(ABC):
    """One element type.

    Attributes:
        name: as in names of formats: ``int4``, ``mxfp4_e2m1``.
        bits: bits of a code.
        rounding: how a number between two codes is rounded.
        signed: whether codes are int8 (two's complement) or uint8.
    """

    name: str
    bits: int
    rounding: ClassVar[str]

    @property
    def signed(self) -> bool:
        """Whether codes are int8; else they are uint8."""
        return False

    @property
    @abstractmethod
    def top(self) -> float:
        """The largest magnitude that a code means, in units of the step; numbers beyond it are clipped."""

    @abstractmethod
    def encode(self, x: Tensor, shared: Mapping[str, Tensor]) -> Tensor:
        """Return the codes of ``x`` (float32, in units of the step), int8 or uint8; NaN gets the code of zero.

        ``shared`` is what all blocks of a matrix share.
        """

    @abstractmethod
    def decode(self, codes: Tensor, shared: Mapping[str, Tensor]) -> Tensor:
        """Return what ``codes`` mean, float32 of their shape, in units of the step."""

    def pack(self, codes: Tensor) -> Tensor:
        """Return ``codes`` as stored, (n,) uint8: ``stored_bits(codes.numel())`` bits and padding to a byte."""
        return pack(codes, self.bits)

    def unpack(self, packed: Tensor, count: int) -> Tensor:
        """Return the codes that ``pack`` packed, (count,)."""
        return unpack(packed, self.bits, count, signed=self.signed)

    def stored_bits(self, count: int) -> int:
        """Return the bits that ``count`` codes take."""
        return count * self.bits


@dataclass(frozen=True)
class IntElement(Element):
    """Integers ``low..high``, rounded half to even and clipped.

    Attributes:
        low: the smallest; codes are unsigned if it is 0.
        high: the largest.
    """

    low: int
    high: int
    rounding: ClassVar[str] = "half even"

    @property
    def signed(self) -> bool:
        """Whether there are negative integers."""
        return self.low < 0

    @property
    def top(self) -> float:
        """The larger magnitude of the two ends, in units of the step."""
        return float(max(-self.low, self.high))

    def encode(self, x: Tensor, shared: Mapping[str, Tensor]) -> Tensor:
        """Return ``clamp(round_half_even(x), low, high)``; see ``Element.encode``."""
        import torch

        codes = x.round().clamp_(self.low, self.high).nan_to_num_(nan=0.0)
        return codes.to(torch.int8 if self.signed else torch.uint8)

    def decode(self, codes: Tensor, shared: Mapping[str, Tensor]) -> Tensor:
        """Return the integers as float32; see ``Element.decode``."""
        return codes.float()


@dataclass(frozen=True)
class TernaryElement(IntElement):
    """-1, 0 and 1, stored five to a byte (3^5 = 243): 1.6 bits each."""

    def pack(self, codes: Tensor) -> Tensor:
        """Return the codes as digits of base 3, least significant first, five to a byte; see ``Element.pack``."""
        import torch
        from torch.nn.functional import pad

        digits = pad(codes.reshape(-1).to(torch.uint8) + 1, (0, -codes.numel() % 5)).view(-1, 5)
        # -1 + 1 wraps to 0 in uint8; the largest sum is 2 * (1 + 3 + 9 + 27 + 81) = 242.
        powers = torch.tensor([1, 3, 9, 27, 81], dtype=torch.uint8, device=codes.device)
        return (digits * powers).sum(1, dtype=torch.uint8)

    def unpack(self, packed: Tensor, count: int) -> Tensor:
        """Return the codes that ``pack`` packed, (count,). Raises ``ValueError`` for a length that does not fit."""
        import torch

        if packed.shape != (-(-count // 5),):
            raise ValueError(f"{count} ternary codes take {-(-count // 5)} bytes, not {list(packed.shape)}")
        digits = torch.stack([packed // 3**place % 3 for place in range(5)], 1)
        return digits.view(-1)[:count].to(torch.int8) - 1

    def stored_bits(self, count: int) -> int:
        """Return the bits of whole bytes of five codes each."""
        return 8 * -(-count // 5)


@dataclass(frozen=True)
class FloatElement(Element):
    """Small floating-point numbers with subnormals and without infinities: one sign bit, exponent, mantissa.

    A number beyond ``top`` is clipped to it (OCP MX v1.0, section 5.3.3, saturating). A code is the number's bit
    pattern; negative zero is stored as positive zero.

    Attributes:
        mantissa_bits: M; the exponent takes the other ``bits - 1 - M``.
        bias: of the exponent.
        largest: the largest finite number.
    """

    mantissa_bits: int
    bias: int
    largest: float
    rounding: ClassVar[str] = "half even"

    @property
    def top(self) -> float:
        """The largest finite number."""
        return self.largest

    @property
    def least_exponent(self) -> int:
        """Exponent of the smallest normal number; subnormals have its spacing, ``2^(1 - bias - M)``."""
        return 1 - self.bias

    def round(self, x: Tensor) -> Tensor:
        """Return ``|x|`` rounded to the magnitudes of this element, float32 in the shape of ``x``; NaN gives 0."""
        import torch

        magnitude = x.abs().clamp_max_(self.largest).nan_to_num_(nan=0.0)
        exponent = magnitude.view(torch.int32) & 0x7F800000
        # Adding 2^(e + 23 - M) leaves no bits below the spacing 2^(e - M), and float32's own rounding is half even.
        shifter = exponent.clamp_min_(self.least_exponent + 127 << 23) + (23 - self.mantissa_bits << 23)
        spacer = shifter.view(torch.float32)
        return magnitude.add_(spacer).sub_(spacer)

    def encode(self, x: Tensor, shared: Mapping[str, Tensor]) -> Tensor:
        """Return the bit patterns of the nearest numbers, uint8; see ``Element.encode``."""
        import torch

        magnitude = self.round(x)
        normal = (magnitude.view(torch.int32) >> 23 - self.mantissa_bits) - (127 - self.bias << self.mantissa_bits)
        subnormal = (magnitude * 2.0 ** (self.mantissa_bits - self.least_exponent)).to(torch.int32)
        codes = torch.where(magnitude < 2.0**self.least_exponent, subnormal, normal)
        codes += ((x < 0) & (codes > 0)).to(torch.int32) << self.bits - 1
        return codes.to(torch.uint8)

    def decode(self, codes: Tensor, shared: Mapping[str, Tensor]) -> Tensor:
        """Return the numbers with these bit patterns; see ``Element.decode``."""
        import torch

        magnitude = codes.to(torch.int32) & (1 << self.bits - 1) - 1
        normal = (magnitude + (127 - self.bias << self.mantissa_bits)) << 23 - self.mantissa_bits
        subnormal = magnitude.float().mul_(2.0 ** (self.least_exponent - self.mantissa_bits))
        value = torch.where(magnitude < 1 << self.mantissa_bits, subnormal, normal.view(torch.float32))
        return torch.where(codes >= 1 << self.bits - 1, -value, value)


@dataclass(frozen=True)
class CodebookElement(Element):
    """Any numbers in [-1, 1], in rising order; a code is a place in the list.

    A number gets the nearest entry; exactly between two, the lower one. Between is the float32 mean of the two.
    """

    rounding: ClassVar[str] = "nearest, ties down"

    @property
    def top(self) -> float:
        """1: an entry is a share of the block's largest magnitude."""
        return 1.0

    @abstractmethod
    def values(self) -> Tensor:
        """Return the entries, float32, rising strictly, ``(at most 2^bits,)``."""

    def table(self, shared: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """Return the entries on the device of ``like``; see ``values``."""
        return self.values().to(like.device)

    def encode(self, x: Tensor, shared: Mapping[str, Tensor]) -> Tensor:
        """Return the places of the nearest entries, uint8; see ``Element.encode``."""
        import torch

        bounds = midpoints(self.table(shared, x))
        return torch.bucketize(x.nan_to_num(nan=0.0).contiguous(), bounds, out_int32=True).to(torch.uint8)

    def decode(self, codes: Tensor, shared: Mapping[str, Tensor]) -> Tensor:
        """Return the entries at these places; see ``Element.decode``."""
        return self.table(shared, codes)[codes.int()]


def midpoints(values: Tensor) -> Tensor:
    """Return the means of neighbors in ``values`` (n,), (n - 1,) float32."""
    return (values[:-1] + values[1:]) / 2


def stored_size(bits: int, count: int) -> int:
    """Return the bytes that ``count`` numbers of ``bits`` bits take in storage: dense below a byte."""
    return packed_size(count, bits) if bits < 8 else count * bits // 8
