"""Which formats compressed-tensors can hold, and how our codes and scales become its tensors.

One entry of ``SCHEMES`` is one way in which that package stores a weight. The codes are taken as they are: nothing is
rounded again, so a checkpoint holds what the method (GPTQ, say) chose. Layouts and names are those of
compressed-tensors 0.20 (``compressors/*/base.py``), the fields of ``QuantizationArgs`` those of its presets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bitlaw.formats.base import Quantized
from bitlaw.formats.elements import FloatElement, IntElement
from bitlaw.formats.scales import E8M0, TwoLevel

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.formats.base import Format
    from bitlaw.methods.stored import StoredLinear


class NoPlaceError(ValueError):
    """compressed-tensors has no place for these weights; the message says why."""


@dataclass(frozen=True)
class Scheme:
    """One way in which compressed-tensors stores weights.

    Attributes:
        layout: its name, the ``format`` of a ``quantization_config``.
        holds: whether a format fits.
        fields: fields of ``QuantizationArgs``, beside those that say what a scale is for.
        tensors: the tensors of a matrix, by the name that compressed-tensors gives them, under a strategy.
        block: the only block that there is; ``None``: any.
        strategy: the strategy of blocks along a row.
        restores: the dtype that weights are computed in when they are unpacked; ``None``: that of the model.
        dense: whether weights must be unpacked while they are loaded, for a model that unpacks later refuses the
            zero points of rows and groups (their shape is another one when packed).
    """

    layout: str
    holds: Callable[[Format], bool]
    fields: Callable[[Format], Mapping[str, Any]]
    tensors: Callable[[Quantized, str], dict[str, Tensor]]
    block: int | None = None
    strategy: str = "group"
    restores: str | None = None
    dense: bool = False


@dataclass(frozen=True, eq=False)
class Packed:
    """One linear in compressed-tensors' form.

    Attributes:
        scheme: how.
        args: fields of its ``QuantizationArgs``.
        tensors: by name.
    """

    scheme: Scheme
    args: Mapping[str, Any]
    tensors: Mapping[str, Tensor] = field(repr=False)

    @property
    def dense(self) -> bool:
        """Whether it must be unpacked while it is loaded."""
        return self.scheme.dense and self.args["strategy"] in ("group", "channel")

    def nbytes(self) -> int:
        """Return the bytes of codes, scales and zero points; the shape that goes with them counts as header."""
        return sum(tensor.nbytes for name, tensor in self.tensors.items() if name != "weight_shape")


def scheme_of(fmt: Format) -> Scheme:
    """Return the scheme that holds ``fmt``. Raises ``NoPlaceError`` if there is none."""
    for scheme in SCHEMES:
        if not fmt.centered and scheme.holds(fmt) and scheme.block in (None, fmt.block):
            return scheme
    raise NoPlaceError(f"compressed-tensors has no layout for {fmt}")


def pack(stored: StoredLinear, *, ragged: bool = False) -> Packed:
    """Return ``stored`` in compressed-tensors' form.

    Args:
        stored: the weights.
        ragged: take the strategy ``block``, which lets the last block of a row be shorter and has the same arguments
            for rows of any length. vLLM has no kernel for it.

    Raises:
        NoPlaceError: it has none for this format, for blocks that do not divide the row, or for what the method keeps
            beside the matrix.
        ModuleNotFoundError: compressed-tensors is not installed.
    """
    q = stored.quantized
    scheme = scheme_of(q.fmt)
    if stored.kept_columns is not None or stored.input_scale is not None:
        raise NoPlaceError("compressed-tensors has no place for columns kept in 16 bits or for scales of inputs")
    place = _ragged(scheme, q.fmt) if ragged else _place(scheme, q.fmt, q.shape)
    return Packed(scheme, {**scheme.fields(q.fmt), **place}, scheme.tensors(q, place["strategy"]))


def _place(scheme: Scheme, fmt: Format, shape: tuple[int, int]) -> dict[str, Any]:
    """Return the arguments that say what a scale is for."""
    columns = shape[1]
    width = fmt.width(columns)
    if fmt.block == "none":
        return {"strategy": "tensor"}
    if columns % width or (scheme.block and width != fmt.block):
        raise NoPlaceError(f"compressed-tensors cannot divide {columns} columns into groups of {fmt.block}")
    if width != fmt.block:  # "row", or a row that is shorter than a block
        return {"strategy": "channel"}
    return {"strategy": scheme.strategy, "group_size": width}


def _ragged(scheme: Scheme, fmt: Format) -> dict[str, Any]:
    if scheme.strategy != "group" or not isinstance(fmt.block, int):
        raise NoPlaceError(f"compressed-tensors has no ragged blocks of {fmt}")
    return {"strategy": "block", "block_structure": [1, fmt.block]}


def _shape(q: Quantized) -> Tensor:
    import torch

    return torch.tensor(q.shape)


def _is_symmetric(fmt: Format) -> bool:
    return isinstance(fmt.element, IntElement) and fmt.block_parts().keys() == {"scale"} and not fmt.shared_parts()


def _is_asymmetric(fmt: Format) -> bool:
    parts = fmt.block_parts()
    # Zero points that are codes themselves; others have no place.
    whole = parts.keys() == {"scale", "zero"} and parts["zero"] == fmt.bits
    return isinstance(fmt.element, IntElement) and whole and not fmt.shared_parts()


def _integer_tensors(q: Quantized, strategy: str) -> dict[str, Tensor]:
    scale = _power_of_two(q) if isinstance(q.fmt.rule, E8M0) else q.scales.block["scale"]
    return {
        "weight_packed": _packer()(q.codes, q.fmt.bits),
        "weight_scale": scale.reshape(1) if q.fmt.block == "none" else scale,
        "weight_shape": _shape(q),
    }


def _power_of_two(q: Quantized) -> Tensor:
    """Return the steps of MXINT in one byte each; in bfloat16 if one is below 2^-127, which a byte cannot hold."""
    import torch

    steps = q.fmt.steps(q.scales)
    byte = steps.to(torch.float8_e8m0fnu)
    return byte if torch.equal(byte.float(), steps) else steps.to(torch.bfloat16)


def _zero_tensors(q: Quantized, strategy: str) -> dict[str, Tensor]:
    import torch

    half = 1 << q.fmt.bits - 1  # codes and zero points are signed there
    zeros = (q.scales.block["zero"].short() - half).to(torch.int8)
    signed = Quantized(q.fmt, (q.codes.short() - half).to(torch.int8), q.scales)
    tensors = _integer_tensors(signed, strategy)
    if strategy in ("group", "channel"):
        return {**tensors, "weight_zero_point": _packer()(zeros, q.fmt.bits, packed_dim=0)}
    return {**tensors, "weight_zero_point": zeros.reshape(tensors["weight_scale"].shape)}


def _packer() -> Callable[..., Tensor]:
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    packer: Callable[..., Tensor] = pack_to_int32
    return packer


def _is_mx(name: str) -> Callable[[Format], bool]:
    def holds(fmt: Format) -> bool:
        return fmt.element.name == name and isinstance(fmt.rule, E8M0)

    return holds


def _float_fields(fmt: Format) -> dict[str, Any]:
    return {"num_bits": fmt.bits, "type": "float", "symmetric": True}


def _mx_fields(fmt: Format) -> dict[str, Any]:
    return {**_float_fields(fmt), "scale_dtype": "torch.uint8", "zp_dtype": "torch.uint8"}


def _values(q: Quantized) -> Tensor:
    return q.fmt.element.decode(q.codes, q.scales.shared)


def _fp4_tensors(q: Quantized, strategy: str) -> dict[str, Tensor]:
    from compressed_tensors.compressors.nvfp4.helpers import pack_fp4_to_uint8

    return {"weight_packed": pack_fp4_to_uint8(_values(q)), "weight_scale": q.scales.block["scale"]}


def _fp6_tensors(q: Quantized, strategy: str) -> dict[str, Tensor]:
    from compressed_tensors.compressors.mxfp6.helpers import pack_fp6_to_uint8

    return {"weight_packed": pack_fp6_to_uint8(_values(q)), "weight_scale": q.scales.block["scale"]}


def _fp8_tensors(q: Quantized, strategy: str) -> dict[str, Tensor]:
    import torch

    return {"weight": q.codes.view(torch.float8_e4m3fn), "weight_scale": q.scales.block["scale"]}


def _nvfp4_tensors(q: Quantized, strategy: str) -> dict[str, Tensor]:
    import torch

    tensors = _fp4_tensors(q, strategy)
    tensors["weight_scale"] = tensors["weight_scale"].view(torch.float8_e4m3fn)
    tensors["weight_global_scale"] = _divisor(q.scales.shared["matrix_scale"])
    return tensors


def _divisor(matrix_scale: Tensor) -> Tensor:
    """Return the number to divide block scales by, where our format multiplies by ``matrix_scale``, (1,) float32.

    ``1 / matrix_scale`` is rounded, and the product with the largest element lies often exactly between two bfloat16
    numbers, so the last bit decides. Of the reciprocal and its neighbors, it is the one that gives back the most.
    """
    import torch

    scales = torch.arange(1, 127, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    elements = torch.tensor([0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]).unsqueeze(1)
    wanted = (elements * (scales * matrix_scale)).bfloat16()
    divisor = 1 / matrix_scale
    ends = torch.zeros_like(divisor), torch.full_like(divisor, torch.inf)
    near = [divisor, *(torch.nextafter(divisor, end) for end in ends)]
    return min(near, key=lambda one: int((elements * (scales / one)).bfloat16().ne(wanted).sum()))


def _nvfp4_fields(fmt: Format) -> dict[str, Any]:
    e4m3 = "torch.float8_e4m3fn"
    return {**_float_fields(fmt), "scale_dtype": e4m3, "zp_dtype": e4m3}


SCHEMES = (
    Scheme(
        "pack-quantized",
        _is_symmetric,
        lambda fmt: {"num_bits": fmt.bits, "type": "int", "symmetric": True},
        _integer_tensors,
    ),
    Scheme(
        "pack-quantized",
        _is_asymmetric,
        lambda fmt: {"num_bits": fmt.bits, "type": "int", "symmetric": False},
        _zero_tensors,
        dense=True,
    ),
    Scheme("mxfp4-pack-quantized", _is_mx("mxfp4_e2m1"), _mx_fields, _fp4_tensors, 32, restores="bfloat16"),
    Scheme("mxfp6-pack-quantized", _is_mx("mxfp6_e2m3"), _mx_fields, _fp6_tensors, 32, restores="bfloat16"),
    Scheme("mxfp8-quantized", _is_mx("mxfp8_e4m3"), _mx_fields, _fp8_tensors, 32, restores="bfloat16"),
    Scheme(
        "nvfp4-pack-quantized",
        lambda fmt: isinstance(fmt.element, FloatElement) and isinstance(fmt.rule, TwoLevel),
        _nvfp4_fields,
        _nvfp4_tensors,
        16,
        strategy="tensor_group",
        restores="bfloat16",
    ),
)
"""Every way to hold a format; the first that fits is taken."""
