"""All linears of a model in compressed-tensors' form, and the proof that it gives the weights back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bitlaw.errors import UserError
from bitlaw.export.schemes import NoPlaceError, Packed, pack

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.methods.stored import StoredLinear
    from bitlaw.models.linears import Linear

INSTALL = "packed checkpoints need compressed-tensors: pip install 'bitlaw[export]' (or give --dense)"


@dataclass(frozen=True)
class Packing:
    """A model's linears, packed.

    Attributes:
        linears: by name.
        dtype: of the loaded model.
        dense: whether weights are unpacked while loading.
        error: the largest difference between a weight as it is loaded and as it was quantized; 0 but for NVFP4.
    """

    linears: Mapping[str, Packed]
    dtype: str
    dense: bool
    error: float

    @property
    def layout(self) -> str:
        """compressed-tensors' name of the layout."""
        return next(iter(self.linears.values())).scheme.layout


def pack_model(linears: Sequence[Linear], stored: Mapping[str, StoredLinear], source_dtype: str) -> Packing:
    """Return all quantized linears of a model in compressed-tensors' form.

    The dtype of the loaded model is the source's if the weights are exact in it, else float32. That they are is found
    out by unpacking them with compressed-tensors itself, in the type in which a loaded model does it.

    Args:
        linears: the model's linears.
        stored: the quantized ones, by name.
        source_dtype: in which the source is stored: ``float32``, ``float16`` or ``bfloat16``.

    Raises:
        NoPlaceError: compressed-tensors has no place for one of them, or does not give it back exactly.
        UserError: compressed-tensors is not installed.
    """
    names = [linear.name for linear in linears if linear.name in stored]
    if not names:
        raise NoPlaceError("nothing is quantized")
    if any(linear.transposed for linear in linears):
        raise NoPlaceError("compressed-tensors packs nn.Linear only, and GPT-2's Conv1D is none")
    chosen = {name: stored[name] for name in names}
    try:
        reason = None
        for attempt in (_whole_groups, _some_ragged, _all_ragged):
            try:
                return _packing(attempt(chosen), chosen, source_dtype)
            except NoPlaceError as error:
                reason = reason or error
        raise reason or NoPlaceError("nothing is quantized")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "compressed_tensors":
            raise
        raise UserError(INSTALL) from None


def _whole_groups(stored: Mapping[str, StoredLinear]) -> dict[str, Packed]:
    return {name: pack(one) for name, one in stored.items()}


def _some_ragged(stored: Mapping[str, StoredLinear]) -> dict[str, Packed]:
    packed = {}
    for name, one in stored.items():
        try:
            packed[name] = pack(one)
        except NoPlaceError:
            packed[name] = pack(one, ragged=True)
    return packed


def _all_ragged(stored: Mapping[str, StoredLinear]) -> dict[str, Packed]:
    """Return all under the same arguments, which is what unpacking while loading needs."""
    return {name: pack(one, ragged=True) for name, one in stored.items()}


def _packing(packed: Mapping[str, Packed], stored: Mapping[str, StoredLinear], source_dtype: str) -> Packing:
    scheme = next(iter(packed.values())).scheme
    # Kernels for small floats want bfloat16 (vLLM's refuse float16), so a model in float16 is declared as float32.
    first = "float32" if scheme.restores not in (None, source_dtype) else source_dtype
    tried: list[Packing] = []
    for dtype in dict.fromkeys((first, "float32")):
        dense = any(each.dense for each in packed.values()) or scheme.restores not in (None, dtype)
        # transformers unpacks while loading by the first group alone (integrations/compressed_tensors.py).
        if dense and len(groups_of(packed)) > 1:
            raise NoPlaceError("groups of several sizes cannot be unpacked while loading")
        largest = max(_error(packed[name], stored[name].weight(), dtype, dense) for name in packed)
        tried.append(Packing(packed, dtype, dense, largest))
        if not largest:
            break
    packing = min(tried, key=lambda each: each.error)  # the source's dtype if equally good
    if packing.error and scheme.exact:
        raise NoPlaceError("compressed-tensors does not give these weights back exactly")
    return packing


def groups_of(packed: Mapping[str, Packed]) -> list[tuple[Mapping[str, Any], list[str]]]:
    """Return the names of linears by their ``QuantizationArgs``."""
    groups: list[tuple[Mapping[str, Any], list[str]]] = []
    for name, one in packed.items():
        for args, names in groups:
            if args == one.args:
                names.append(name)
                break
        else:
            groups.append((one.args, [name]))
    return groups


def quantization_args(packed: Packed) -> Any:
    """Return the ``QuantizationArgs`` of ``packed``, which validate themselves."""
    from compressed_tensors.quantization import QuantizationArgs

    return QuantizationArgs.model_validate(dict(packed.args))


def quantization_scheme(packed: Packed, targets: list[str]) -> Any:
    """Return the ``QuantizationScheme`` of ``packed`` for the modules ``targets``."""
    from compressed_tensors.quantization import QuantizationScheme

    return QuantizationScheme(targets=targets, weights=quantization_args(packed), format=packed.scheme.layout)


def restore(packed: Packed, dtype: str, dense: bool) -> Tensor:
    """Return the weights of ``packed``, (out, in), as a model of ``dtype`` gets them.

    Args:
        packed: the linear.
        dtype: of the model.
        dense: whether they are unpacked while loading. If not, a loaded model holds scales in its own dtype.
    """
    import torch
    from compressed_tensors.compressors import BaseCompressor

    kind: torch.dtype = getattr(torch, dtype)
    tensors = dict(packed.tensors)
    if not dense and packed.scheme.restores is None:
        tensors["weight_scale"] = tensors["weight_scale"].to(kind)
    compressor: Any = BaseCompressor.get_value_from_registry(packed.scheme.layout)
    weight: Tensor = compressor.decompress(tensors, quantization_scheme(packed, ["Linear"]))["weight"]
    return weight.to(kind)


def _error(packed: Packed, exact: Tensor, dtype: str, dense: bool) -> float:
    return float((restore(packed, dtype, dense).float() - exact).abs().max())
