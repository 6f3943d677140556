"""Dense packing of k-bit codes into bytes: what a code costs on disk is k bits, whatever k is.

Code ``i`` takes the bits ``[i * k, (i + 1) * k)`` of a little-endian bit stream, least significant bit first, so the
last byte alone is padded (with zeros). Eight codes fill ``k`` bytes, which is the group both directions work in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def packed_size(count: int, bits: int) -> int:
    """Return the bytes that ``count`` codes of ``bits`` bits take."""
    return -(-count * bits // 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack the low ``bits`` bits of each code, in row-major order.

    Args:
        codes: int8 (two's complement) or uint8, any shape.
        bits: bits a code, 1 to 8.

    Returns:
        uint8 tensor of shape ``(packed_size(codes.numel(), bits),)`` on the device of ``codes``.

    Raises:
        ValueError: for ``bits`` outside 1..8.
        TypeError: for another dtype.
    """
    import torch
    from torch.nn.functional import pad

    _check_bits(bits)
    if codes.dtype not in (torch.int8, torch.uint8):
        raise TypeError(f"codes must be int8 or uint8, not {codes.dtype}")
    count = codes.numel()
    groups = pad(codes.reshape(-1), (0, -count % 8)).view(-1, 8)
    if codes.is_cuda:  # in a few launches; there is room for an eightfold copy of one matrix
        words = ((groups.to(torch.int64) & (1 << bits) - 1) << _lanes(bits, codes.device)).sum(1)
    else:
        words = torch.zeros(len(groups), dtype=torch.int64)
        for lane in range(8):  # lane by lane, so that no such copy is made
            words |= (groups[:, lane].to(torch.int64) & (1 << bits) - 1) << lane * bits
    return words.view(torch.uint8).view(-1, 8)[:, :bits].reshape(-1)[: packed_size(count, bits)].clone()


def unpack(packed: Tensor, bits: int, count: int, *, signed: bool) -> Tensor:
    """Return the codes that ``pack`` packed.

    Args:
        packed: uint8, shape ``(packed_size(count, bits),)``.
        bits: bits a code, 1 to 8.
        count: number of codes.
        signed: whether a code is in two's complement (int8 result) or not (uint8 result).

    Returns:
        int8 or uint8 tensor of shape ``(count,)``.

    Raises:
        ValueError: for ``bits`` outside 1..8 or a length that does not fit ``count``.
    """
    import torch
    from torch.nn.functional import pad

    _check_bits(bits)
    if packed.shape != (packed_size(count, bits),):
        raise ValueError(
            f"{count} codes of {bits} bits take {packed_size(count, bits)} bytes, not {list(packed.shape)}"
        )
    groups = -(-count // 8)
    full = pad(packed, (0, groups * bits - len(packed))).view(groups, bits)
    words = pad(full, (0, 8 - bits)).contiguous().view(-1).view(torch.int64)
    dtype, sign = (torch.int8, 1 << bits - 1) if signed else (torch.uint8, 0)
    # (v ^ sign) - sign extends the sign bit of a k-bit two's complement number.
    if packed.is_cuda:
        found = ((words[:, None] >> _lanes(bits, packed.device) & (1 << bits) - 1) ^ sign) - sign
        return found.to(dtype).view(-1)[:count].clone()
    codes = torch.empty((groups, 8), dtype=dtype)
    for lane in range(8):
        codes[:, lane] = ((words >> lane * bits & (1 << bits) - 1) ^ sign) - sign
    return codes.view(-1)[:count].clone()


def _lanes(bits: int, device: torch.device) -> Tensor:
    """Return where each of eight codes begins in their word, ``(8,)`` int64."""
    import torch

    return torch.arange(0, 8 * bits, bits, device=device)


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= 8:
        raise ValueError(f"codes have 1 to 8 bits, not {bits}")
