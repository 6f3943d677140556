"""Triton kernels for NVIDIA GPUs: which formats they take, and how they are launched.

They take parts that compute what ``bitlaw.formats.elements`` and ``scales`` define, whatever format they are put into;
a part that computes something else is left to plain torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import torch

from bitlaw.formats.elements import CodebookElement, Element, FloatElement, IntElement, midpoints
from bitlaw.formats.kernels import cuda_fake_quantize, cuda_gptq, cuda_parts
from bitlaw.formats.scales import E8M0, Absmax, MinMax, ScaleRule, TwoLevel

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.formats.layout import Layout

_NUMBERS: Final = {"float32": 0, "float16": 1, "bfloat16": 2}
_POWERS: Final = {"floor": 0, "even": 1, "rceil": 2, "ceil": 3}
_DTYPES: Final = (torch.float32, torch.float16, torch.bfloat16)
_FEW_BITS: Final = 5
_MOST_CELLS: Final = 1 << 12  # a side of zero, in tables of narrowing cells
_LONGEST_BLOCK: Final = 1 << 15  # weights that a program keeps in registers
_WEIGHTS: Final = 2048  # of a program, at least
_WARPS: Final = 4  # of a program with so few weights; measured on an H200
_GPTQ_SHAPE: Final = (16, 1)  # rows of a program, and its warps; measured on an H200
_TABLE: Final = 512 + 256  # bounds, padded, and values


@dataclass(frozen=True, eq=False)
class _Codebook:
    """What ``cuda_parts.codebook_code`` reads: ``table`` float32, ``cells`` uint8, ``header`` int32."""

    table: Tensor
    cells: Tensor
    header: Tensor


@dataclass(frozen=True)
class Part:
    """A rule or an element, for the kernels: ``kind``, ``dtype`` and ``variant`` decide what is compiled.

    Attributes:
        kind: its number in ``cuda_parts``.
        numbers: four, filled up with zeros. Of ABSMAX divisor, top and least; of E8M0 emax, mantissa bits, top and
            shift; of MINMAX and TWO_LEVEL top; of INTEGER low and high; of FLOAT largest, least exponent, mantissa
            bits and bits; of CODEBOOK exponents and mantissa of ``codebook_cell``. Whole ones too are floats: Triton
            would compile kernels of their own for 1 and for multiples of 16.
        dtype: how a rule stores steps.
        variant: a number of an E8M0 rule; whether a minmax rule is AWQ's; whether a codebook's cells are equally wide.
    """

    kind: int
    numbers: tuple[float, ...]
    dtype: int = 0
    variant: int = 0


def _part(kind: int, *numbers: float, dtype: int = 0, variant: int = 0) -> Part:
    return Part(kind, tuple(float(number) for number in (*numbers, 0, 0, 0)[:4]), dtype, variant)


def fake_quantize(fmt: Layout, w: Tensor, shared: Mapping[str, Tensor], out: Tensor) -> bool:
    """Do as ``bitlaw.formats.kernels.fake_quantize`` says."""
    if fmt.centered or fmt.block == "none" or w.dtype not in _DTYPES or out.dtype not in _DTYPES:
        return False
    rows, columns = w.shape
    width = fmt.width(columns)
    rule, element = _rule(fmt.rule), _element(fmt.element)
    if rule is None or element is None or width > _LONGEST_BLOCK or not fmt.compiled:
        return False
    if rule.kind == cuda_parts.MINMAX.value and element.kind != cuda_parts.INTEGER.value:
        return False
    if _storage(w) == _storage(out) and (w.data_ptr(), w.stride()) != (out.data_ptr(), out.stride()):
        return False  # programs might write what others have still to read
    codebook = _codebook(fmt.element, shared, w)
    blocks = -(-columns // width)
    padded = _power_of_two(width)
    flat = padded == width and columns % width == 0 and w.is_contiguous() and out.is_contiguous()
    strides = (0, 1, 0, 1) if flat else (*w.stride(), *out.stride())  # not read if flat: one kernel for all
    tile = max(1, _WEIGHTS // padded)
    warps = max(_WARPS, min(16, padded // 1024))
    cuda_fake_quantize.fake_quantize[(-(-rows * blocks // tile),)](
        *(w, out, codebook.table, codebook.cells, codebook.header, shared.get("matrix_scale", codebook.table)),
        *(rows * blocks, columns, *strides, blocks, width, rule.numbers, element.numbers),
        RULE=rule.kind,
        DTYPE=rule.dtype,
        VARIANT=rule.variant,
        ELEMENT=element.kind,
        EQUAL=element.variant,
        # The step is the largest magnitude, but for its rounding: by less than half, if the step is subnormal.
        BOUNDED=isinstance(fmt.rule, Absmax) and fmt.rule.divisor <= 1.0,
        TILE=tile,
        WIDTH=padded,
        FLAT=flat,
        MASKED=not flat or rows * blocks % tile != 0,
        PRESCALE=fmt.rule.dtype != "float16",
        num_warps=warps,
        enable_fp_fusion=False,
    )
    return True


def gptq_block(
    fmt: Layout,
    shared: Mapping[str, Tensor],
    w_t: Tensor,
    upper: Tensor,
    scales: tuple[Tensor, Tensor | None, Tensor | None],
    group: Tensor,
    codes: Tensor,
    errors: Tensor,
) -> bool:
    """Do as ``bitlaw.formats.kernels.gptq_block`` says."""
    element = _element(fmt.element)
    steps, zeros, means = scales
    asymmetric = zeros is not None
    if element is None or not fmt.compiled or (asymmetric and element.kind != cuda_parts.INTEGER.value):
        return False
    _launch_gptq(
        (fmt, element, _part(cuda_parts.ABSMAX.value)),
        shared,
        (w_t, upper, codes, errors),
        {"steps": steps, "zeros": zeros, "means": means, "group": group, "stored": None},
        fit_width=0,
    )
    return True


def gptq_groups(
    fmt: Layout,
    shared: Mapping[str, Tensor],
    w_t: Tensor,
    upper: Tensor,
    parts: Mapping[str, Tensor],
    width: int,
    codes: Tensor,
    errors: Tensor,
) -> bool:
    """Do as ``bitlaw.formats.kernels.gptq_groups`` says."""
    rule, element = _rule(fmt.rule), _element(fmt.element)
    if rule is None or element is None or fmt.centered or not fmt.compiled:
        return False
    if set(parts) - {"scale", "zero"} or ("zero" in parts and element.kind != cuda_parts.INTEGER.value):
        return False
    _launch_gptq(
        (fmt, element, rule),
        shared,
        (w_t, upper, codes, errors),
        {"steps": None, "zeros": parts.get("zero"), "means": None, "group": None, "stored": parts["scale"]},
        fit_width=width,
    )
    return True


def _launch_gptq(
    what: tuple[Layout, Part, Part],
    shared: Mapping[str, Tensor],
    tensors: tuple[Tensor, Tensor, Tensor, Tensor],
    scales: Mapping[str, Tensor | None],
    fit_width: int,
) -> None:
    fmt, element, rule = what
    w_t, upper, codes, errors = tensors
    n, rows = w_t.shape
    codebook = _codebook(fmt.element, shared, w_t)
    given = {name: w_t if part is None else part for name, part in scales.items()}  # a place holder is not touched
    tile, warps = _GPTQ_SHAPE
    cuda_gptq.gptq_block[(-(-rows // tile),)](
        *(w_t, upper, *upper.stride(), given["steps"], given["zeros"], given["means"], given["group"]),
        *(codes, errors, given["stored"], codebook.table, codebook.cells, codebook.header),
        *(shared.get("matrix_scale", w_t), rows, w_t.stride(0), codes.stride(0), errors.stride(0)),
        *(fit_width, rule.numbers, element.numbers),
        RULE=rule.kind,
        DTYPE=rule.dtype,
        VARIANT=rule.variant,
        ELEMENT=element.kind,
        EQUAL=element.variant,
        FIT=fit_width > 0,
        ASYMMETRIC=scales["zeros"] is not None,
        CENTERED=scales["means"] is not None,
        N=n,
        COLUMNS=_power_of_two(n),
        ROWS=tile,
        num_warps=warps,
        enable_fp_fusion=False,
    )


# ---- What a format is, for the kernels.


def _inherits(part: object, base: type, *names: str) -> bool:
    """Return whether ``part`` does what ``base`` says: a subclass may have replaced one of these methods."""
    return isinstance(part, base) and all(getattr(type(part), name) is getattr(base, name) for name in names)


@cache
def _rule(rule: ScaleRule) -> Part | None:
    """Return the constants of ``rule``, or ``None`` for one that the kernels do not know."""
    if not any(_inherits(rule, base, "fit", "step", "zero") for base in (Absmax, E8M0, MinMax, TwoLevel)):
        return None
    match rule:
        case Absmax():
            return _part(cuda_parts.ABSMAX.value, rule.divisor, rule.top, rule.least, dtype=_NUMBERS[rule.dtype])
        case E8M0():
            numbers = (rule.emax, rule.mantissa_bits, rule.top, rule.shift)
            return _part(cuda_parts.E8M0.value, *numbers, variant=_POWERS[rule.rule])
        case MinMax():
            awq = rule.convention == "awq"
            return _part(cuda_parts.MINMAX.value, (1 << rule.bits) - 1, dtype=_NUMBERS[rule.dtype], variant=awq)
        case TwoLevel():
            return _part(cuda_parts.TWO_LEVEL.value, rule.top)
    return None


@cache
def _element(element: Element) -> Part | None:
    """Return the constants of ``element``, or ``None`` for one that the kernels do not know."""
    if _inherits(element, IntElement, "encode", "decode"):
        assert isinstance(element, IntElement)
        return _part(cuda_parts.INTEGER.value, element.low, element.high)
    if _inherits(element, FloatElement, "encode", "decode", "round", "least_exponent"):
        assert isinstance(element, FloatElement)
        numbers = (element.largest, element.least_exponent, element.mantissa_bits, element.bits)
        return _part(cuda_parts.FLOAT.value, *numbers)
    if _inherits(element, CodebookElement, "encode", "decode"):
        assert isinstance(element, CodebookElement)
        exponents, mantissa = _cells(element)
        return _part(cuda_parts.CODEBOOK.value, exponents, mantissa, variant=exponents == 0)
    return None


# ---- Codebooks.


def _codebook(element: Element, shared: Mapping[str, Tensor], like: Tensor) -> _Codebook:
    """Return the tables of ``element`` on the device of ``like``; made once where no matrix decides them."""
    if not isinstance(element, CodebookElement):
        return _Codebook(like, like, like)  # place holders, not read
    if _is_static(element):
        return _static_codebook(element, like.device)
    return _build(element.table(shared, like), _cells(element))


@cache
def _static_codebook(element: CodebookElement, device: torch.device) -> _Codebook:
    return _build(element.values().to(device), _cells(element))


def _is_static(element: CodebookElement) -> bool:
    return type(element).table is CodebookElement.table


def _build(values: Tensor, cells: tuple[int, int]) -> _Codebook:
    exponents, mantissa = cells
    number = 2 * ((exponents << mantissa) + 1) if exponents else 4 << mantissa
    codebook = _Codebook(
        values.new_empty(_TABLE),
        values.new_empty(number, dtype=torch.uint8),
        values.new_empty(2, dtype=torch.int32),
    )
    padded = max(16, _power_of_two(len(values)))
    cells_each = 4096 // padded
    cuda_fake_quantize.build_table[(-(-number // cells_each),)](
        *(values, codebook.table, codebook.cells, codebook.header, len(values), number, exponents, mantissa),
        VALUES=padded,
        CELLS=cells_each,
        EQUAL=exponents == 0,
        num_warps=4,
        enable_fp_fusion=False,
    )
    return codebook


@cache
def _cells(element: CodebookElement) -> tuple[int, int]:
    """Return what cells are: exponents, 0 if they are equally wide, and mantissa of ``cuda_parts.codebook_cell``.

    The smallest table that needs no more than one comparison in a cell, if a small one does: of equally wide cells, or
    else of those that get narrower towards zero. Codebooks that come with a matrix mostly do with the cells they get.
    """
    if not _is_static(element):
        return (0, element.bits + 2) if element.bits <= _FEW_BITS else (3, element.bits - 1)
    bounds = midpoints(element.values())
    narrowing = [(exponents, mantissa) for exponents in range(1, 127) for mantissa in range(9)]
    narrowing.sort(key=lambda cells: cells[0] << cells[1])
    best = (len(bounds) + 1, 1, 0)
    for exponents, mantissa in [(0, mantissa) for mantissa in range(1, 9)] + narrowing:
        if exponents << mantissa > _MOST_CELLS:
            break
        fullest = int(torch.bincount(_cell_numbers(bounds, exponents, mantissa)).max())
        best = min(best, (fullest, exponents, mantissa), key=lambda found: found[0])
        if fullest == 1:
            break
    return best[1:]


def _cell_numbers(x: Tensor, exponents: int, mantissa: int) -> Tensor:
    """Return what ``cuda_parts.codebook_cell`` does."""
    if not exponents:
        return (x * 2.0**mantissa + (8388608.0 + (2 << mantissa))).view(torch.int32) & (4 << mantissa) - 1
    smooth = x.abs() + 2.0**-exponents
    cell = (smooth.view(torch.int32) >> 23 - mantissa) - (127 - exponents << mantissa)
    cell = cell.clamp_max(exponents << mantissa)
    return torch.where(x < 0, -1 - cell, cell) + (exponents << mantissa) + 1


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()
