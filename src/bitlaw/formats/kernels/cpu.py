"""The kernels of ``cpu.cpp``: compiled at the first use, kept in a cache folder, called through ctypes.

The compiler is ``$CXX``, ``c++``, ``g++`` or ``clang++``. Without one, or if it fails, there is one warning, and plain
torch does the work. The library is kept in ``$BITLAW_CACHE``, else in the folder ``bitlaw`` of ``$XDG_CACHE_HOME`` or
``~/.cache``; its name covers the source, the options, the compiler's version and the machine, so that a folder shared
by machines is safe.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bitlaw.formats.elements import CodebookElement, Element, FloatElement, IntElement, midpoints
from bitlaw.formats.scales import E8M0, Absmax, MinMax, ScaleRule, TwoLevel

if TYPE_CHECKING:
    import ctypes

    from torch import Tensor

    from bitlaw.formats.layout import Layout
    from bitlaw.formats.scales import Scales

_SOURCE: Final = Path(__file__).with_suffix(".cpp")
_HEADERS: Final = ("cpu_vectors.hpp", "cpu_elements.hpp")
_OPTIONS: Final = (
    *("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared"),
    # Every operation is rounded as it is written: no fused multiply-add.
    *("-ffp-contract=off", "-fno-math-errno", "-Wno-psabi"),
)
_INTEGER, _MINIFLOAT, _CODEBOOK = range(3)
_RULES: Final = {"floor": 3, "ceil": 4, "even": 5, "rceil": 6}
_NUMBERS: Final = {"float32": 0, "bfloat16": 1, "float16": 2}


# ---- The library.


@cache
def shared_library() -> ctypes.CDLL | None:
    """Return the compiled kernels, or ``None`` (after a warning) where they cannot be compiled."""
    import subprocess
    import warnings

    try:
        return build(_OPTIONS)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or error
        warnings.warn(f"no compiled kernels, so rounding is slower: {said}", RuntimeWarning, stacklevel=2)
        return None


def build(options: tuple[str, ...]) -> ctypes.CDLL:
    """Return the kernels compiled with ``options``, from the cache folder if they are there.

    Raises:
        FileNotFoundError: without a compiler.
        subprocess.CalledProcessError: if it fails.
        OSError: if the folder cannot be written, or the library not be loaded.
    """
    import ctypes
    import subprocess
    import tempfile

    compiler = _compiler()
    asked = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True)  # noqa: S603
    folder = _folder()
    sources = [path.read_text("utf-8") for path in (_SOURCE, *map(_SOURCE.with_name, _HEADERS))]
    path = folder / f"kernels-{_digest(*compiler, asked.stdout, *options, _machine(), *sources)}.so"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            made = Path(temporary) / path.name
            command = [*compiler, *options, str(_SOURCE), "-o", str(made)]
            subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
            made.replace(path)
    return ctypes.CDLL(str(path))


def _compiler() -> list[str]:
    import shlex
    import shutil

    for command in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        if (words := shlex.split(command)) and shutil.which(words[0]):
            return words
    raise FileNotFoundError("there is no C++ compiler (c++, g++ or clang++; the variable CXX names another)")


def _folder() -> Path:
    if chosen := os.environ.get("BITLAW_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bitlaw"


def _machine() -> str:
    """Return what decides which instructions there are: ``-march=native`` means another thing on each machine."""
    import platform

    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text("utf-8").splitlines() if cpu.is_file() else [platform.processor()]
    features = sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    return "\n".join([platform.machine(), platform.system(), *features])


def _digest(*texts: str) -> str:
    import hashlib

    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:24]


# ---- What a format is, for the library.


@cache
def _spec_type() -> type[ctypes.Structure]:
    """Return the type of ``Spec`` in ``cpu.cpp``: the same fields in the same order."""
    from ctypes import POINTER, Structure, c_float, c_int32

    integers, floats, pointer = c_int32, c_float, POINTER(c_float)

    class Spec(Structure):
        _fields_ = (
            *((name, integers) for name in ("element", "low", "high", "bits", "mantissa_bits", "bias")),
            *(("largest", floats), ("count", integers), ("values", pointer), ("bounds", pointer)),
            *((name, integers) for name in ("rule", "number")),
            *((name, floats) for name in ("divisor", "top", "least", "matrix_scale")),
            *((name, integers) for name in ("emax", "rule_mantissa_bits", "shift")),
        )

    return Spec


def _inherits(part: object, base: type, *names: str) -> bool:
    """Return whether ``part`` does what ``base`` says: a subclass may have replaced one of these methods."""
    return isinstance(part, base) and all(getattr(type(part), name) is getattr(base, name) for name in names)


def _element_fields(element: Element, shared: Mapping[str, Tensor], like: Tensor) -> dict[str, Any] | None:
    """Return the fields of ``Spec`` for ``element``, or ``None`` for one that the kernels do not know."""
    if _inherits(element, IntElement, "encode", "decode"):
        assert isinstance(element, IntElement)
        return {"element": _INTEGER, "low": element.low, "high": element.high}
    if _inherits(element, FloatElement, "encode", "decode", "round", "least_exponent"):
        assert isinstance(element, FloatElement)
        parts = {name: getattr(element, name) for name in ("bits", "mantissa_bits", "bias", "largest")}
        return {"element": _MINIFLOAT, **parts}
    if _inherits(element, CodebookElement, "encode", "decode"):
        assert isinstance(element, CodebookElement)
        return _codebook_fields(element.table(shared, like))
    return None


def _codebook_fields(values: Tensor) -> dict[str, Any] | None:
    import torch

    bounds = midpoints(values)
    rising = bool((values[1:] >= values[:-1]).all() and (bounds[1:] >= bounds[:-1]).all())
    finite = bool(torch.isfinite(values).all() and torch.isfinite(bounds).all())
    if values.dtype != torch.float32 or not 2 <= len(values) <= 256 or not rising or not finite:
        return None
    return {"element": _CODEBOOK, "count": len(values), "values": values.contiguous(), "bounds": bounds.contiguous()}


def _rule_fields(rule: ScaleRule, shared: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Return the fields of ``Spec`` for ``rule``, or ``None`` for one that the kernels do not know."""
    if _inherits(rule, Absmax, "fit", "step", "zero"):
        assert isinstance(rule, Absmax)
        number = _NUMBERS[rule.dtype]
        return {"rule": 0, "number": number, "divisor": rule.divisor, "top": rule.top, "least": rule.least}
    if _inherits(rule, MinMax, "fit", "step", "zero"):
        assert isinstance(rule, MinMax)
        awq, largest = rule.convention == "awq", float((1 << rule.bits) - 1)
        ends = {"divisor": largest, "top": largest, "least": 1e-5 if awq else 0.0}
        return {"rule": 2 if awq else 1, "number": _NUMBERS[rule.dtype], **ends}
    if _inherits(rule, E8M0, "fit", "step", "zero"):
        assert isinstance(rule, E8M0)
        integers = {"emax": rule.emax, "rule_mantissa_bits": rule.mantissa_bits, "shift": rule.shift}
        return {"rule": _RULES[rule.rule], "top": rule.top, **integers}
    if _inherits(rule, TwoLevel, "fit", "step", "zero"):
        assert isinstance(rule, TwoLevel)
        return {"rule": 7, "top": rule.top, "matrix_scale": float(shared["matrix_scale"])}
    return None


def _spec(fields: dict[str, Any]) -> ctypes.Structure:
    """Return the structure with ``fields``, which must be kept as long as it: it points to their tensors."""
    import ctypes

    def pointer(tensor: Tensor) -> Any:
        return ctypes.cast(tensor.data_ptr(), ctypes.POINTER(ctypes.c_float))

    return _spec_type()(**{name: pointer(v) if name in ("values", "bounds") else v for name, v in fields.items()})


# ---- What the kernels do.


def fake_quantize(fmt: Layout, w: Tensor, shared: Mapping[str, Tensor], out: Tensor) -> bool:
    """Do as ``bitlaw.formats.kernels.fake_quantize`` says.

    Weights in an order that the kernels cannot read are copied to ``out`` first: no other copy is ever made.
    """
    from ctypes import byref, c_int32, c_int64, c_void_p

    if fmt.centered or not fmt.compiled or _name(out) not in _NUMBERS or not _rows_only(out):
        return False
    element, rule = _element_fields(fmt.element, shared, w), _rule_fields(fmt.rule, shared)
    if element is None or rule is None:
        return False
    if _overlap(w, out) and not _same_place(w, out):
        return False
    readable = _name(w) in _NUMBERS and _rows_only(w)
    if (not readable and _name(out) != "float32") or (kernels := shared_library()) is None:
        return False
    if not readable:
        w = out.copy_(w)
    rows, columns = w.shape
    block = 0 if fmt.block == "none" else fmt.width(columns)
    fields = {**element, **rule}
    kernels.bitlaw_fake_quantize(
        byref(_spec(fields)),
        *(c_void_p(w.data_ptr()), c_int64(w.stride(0)), c_int32(_NUMBERS[_name(w)])),
        *(c_void_p(out.data_ptr()), c_int64(out.stride(0)), c_int32(_NUMBERS[_name(out)])),
        *(c_int64(rows), c_int64(columns), c_int64(block)),
    )
    return True


def dequantize(fmt: Layout, codes: Tensor, scales: Scales, out: Tensor) -> bool:
    """Do as ``bitlaw.formats.kernels.dequantize`` says."""
    from ctypes import c_int32, c_int64, c_void_p

    values = _decoded(fmt.element, scales.shared, codes) if fmt.compiled else None
    if values is None or _name(out) not in _NUMBERS or not (_rows_only(out) and codes.is_contiguous()):
        return False
    if (kernels := shared_library()) is None:
        return False
    parts = [values, codes, fmt.steps(scales), fmt.zeros(scales), fmt.means(scales)]
    parts = [None if part is None else part.contiguous() for part in parts]
    rows, columns = codes.shape
    kernels.bitlaw_dequantize(
        *(None if part is None else c_void_p(part.data_ptr()) for part in parts),
        *(c_void_p(out.data_ptr()), c_int64(out.stride(0)), c_int32(_NUMBERS[_name(out)])),
        *(c_int64(rows), c_int64(columns), c_int64(0 if fmt.block == "none" else fmt.width(columns))),
    )
    return True


def _decoded(element: Element, shared: Mapping[str, Tensor], like: Tensor) -> Tensor | None:
    """Return what each byte means as a code, ``(256,)`` float32, or ``None`` for an element that is not known."""
    import torch

    if not any(_inherits(element, base, "decode") for base in (IntElement, FloatElement, CodebookElement)):
        return None
    count = len(element.table(shared, like)) if isinstance(element, CodebookElement) else 1 << element.bits
    places = torch.arange(count) - (count // 2 if element.signed else 0)
    values = torch.zeros(256)
    values[places % 256] = element.decode(places.to(like.dtype), shared)
    return values


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
    from ctypes import byref, c_int64, c_void_p

    element = _element_fields(fmt.element, shared, w_t) if fmt.compiled else None
    if element is None or (scales[1] is not None and element["element"] != _INTEGER):
        return False
    tensors = (w_t, upper.T.contiguous(), *scales, group, codes, errors)
    if not all(part is None or part.is_contiguous() for part in tensors) or (kernels := shared_library()) is None:
        return False
    pointers = [None if part is None else c_void_p(part.data_ptr()) for part in tensors]
    kernels.bitlaw_gptq(byref(_spec(element)), *pointers, *map(c_int64, w_t.shape))
    return True


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _rows_only(tensor: Tensor) -> bool:
    """Return whether the entries of a row follow each other."""
    return tensor.stride(1) == 1 or tensor.shape[1] == 1


def _same_place(a: Tensor, b: Tensor) -> bool:
    return (a.data_ptr(), a.stride(), a.dtype) == (b.data_ptr(), b.stride(), b.dtype)


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Return whether the stretches of memory from a tensor's first to its last entry overlap."""
    ends = []
    for tensor in (a, b):
        last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        ends.append((tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()))
    return ends[0][0] < ends[1][1] and ends[1][0] < ends[0][1]
