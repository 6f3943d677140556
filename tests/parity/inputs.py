"""The weights that formats are compared on, and what equal means."""

from __future__ import annotations

import math

import torch
from torch import Tensor

COLUMNS = 256  # a multiple of every block that is compared


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(rows: int = 64, seed: int = 0) -> Tensor:
    return 0.02 * torch.randn(rows, COLUMNS, generator=_generator(seed))


def heavy_tailed(rows: int = 64, seed: int = 1) -> Tensor:
    """Student t with two degrees of freedom: a normal over the root of an exponential."""
    generator = _generator(seed)
    chi = torch.randn(2, rows, COLUMNS, generator=generator).square().mean(0)
    return 0.02 * torch.randn(rows, COLUMNS, generator=generator) / chi.sqrt()


def ties(seed: int = 2) -> Tensor:
    """Multiples of powers of two up to a row's largest number, which is a largest code of some format.

    So steps are powers of two, and many weights lie exactly between two codes.
    """
    generator = _generator(seed)
    tops = [1, 1.5, 1.75, 3, 3.5, 4, 6, 7, 7.5, 15, 28, 31, 63, 127, 127.5, 448, 57344]
    rows = []
    for top in tops:
        for digits in (4, 6, 9):
            spacing = 2.0 ** (math.floor(math.log2(top)) - digits)
            count = int(top / spacing)
            row = torch.randint(-count, count + 1, (COLUMNS,), generator=generator) * spacing
            row[::16] = top * torch.where(torch.rand(COLUMNS // 16, generator=generator) < 0.5, -1.0, 1.0)
            rows.append(row)
    return torch.stack(rows)


def powers_of_two(rows: int = 32, seed: int = 3) -> Tensor:
    generator = _generator(seed)
    exponents = torch.randint(-12, 1, (rows, COLUMNS), generator=generator)
    exponents += torch.arange(-rows // 2, rows // 2)[:, None]
    signs = torch.where(torch.rand(rows, COLUMNS, generator=generator) < 0.5, -1.0, 1.0)
    return signs * 2.0 ** exponents.float()


def below_powers_of_two() -> Tensor:
    """The largest magnitude of each block is the float just below a power of two."""
    w = powers_of_two(seed=4)
    return torch.nextafter(w, torch.zeros_like(w))


def outliers(rows: int = 32, seed: int = 5) -> Tensor:
    """One weight of 16 is up to 2^12 times larger: the others are subnormals of the element, or zero."""
    w = gaussian(rows, seed)
    w[:, ::16] *= 2.0 ** torch.randint(0, 13, (rows, COLUMNS // 16), generator=_generator(seed)).float()
    return w


def one_sided(sign: float, rows: int = 8, seed: int = 6) -> Tensor:
    """Weights of one sign, in [1, 4]: a range without zero."""
    return sign * (1 + 3 * torch.rand(rows, COLUMNS, generator=_generator(seed)))


def with_bad(value: float) -> Tensor:
    w = gaussian(8, 7)
    w[torch.rand(w.shape, generator=_generator(8)) < 0.01] = value
    return w


INPUTS: dict[str, Tensor] = {
    "gaussian": gaussian(),
    "heavy-tailed": heavy_tailed(),
    "ties": ties(),
    "powers of two": powers_of_two(),
    "below powers of two": below_powers_of_two(),
    "outliers": outliers(),
    "zeros": torch.zeros(2, COLUMNS),
    "constant": torch.tensor([[0.25], [-3.0], [1e-3], [7.0]]).expand(-1, COLUMNS).contiguous(),
    "one-sided positive": one_sided(1.0),
    "one-sided negative": one_sided(-1.0),
    "small": gaussian(8, 9) * 2.0**-90,
    "subnormal": gaussian(8, 10) * 2.0**-126,
    "1e38": gaussian(8, 11).sign() * torch.linspace(0.01, 1, COLUMNS) * 1e38,
    "nan": with_bad(math.nan),
    "infinity": with_bad(-math.inf),
}


def difference(ours: Tensor, theirs: Tensor) -> str:
    """Say how many weights differ in a bit, and give the first; nothing if none does.

    The payload of a NaN and the sign of a zero do not count.
    """
    assert ours.shape == theirs.shape
    ours, theirs = ours.float(), theirs.float()
    unequal = (ours != theirs) & ~(ours.isnan() & theirs.isnan())
    if not bool(unequal.any()):
        return ""
    row, column = unequal.nonzero()[0].tolist()
    first = f"[{row}, {column}] is {ours[row, column]:.9g}, theirs {theirs[row, column]:.9g}"
    return f"{int(unequal.sum())} of {ours.numel()} differ; {first}"
