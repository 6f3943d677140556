"""All linears of a model in compressed-tensors' form, and the proof that it gives the weights back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
        rounding: the largest difference between a quantized weight and itself rounded once to ``dtype``, which is what
            a loaded model holds; 0 if ``dtype`` holds all of them.
    """

    linears: Mapping[str, Packed]
    dtype: str
    dense: bool
    rounding: float

    @property
    def layout(self) -> str:
        """compressed-tensors' name of the layout."""
        return next(iter(self.linears.values())).scheme.layout


def pack_model(linears: Sequence[Linear], stored: Mapping[str, StoredLinear], source_dtype: str) -> Packing:
    """Return all quantized linears of a model in compressed-tensors' form.

    A loaded model must hold our float32 weights, rounded once to its dtype. That it does is found out by unpacking them
    with compressed-tensors itself, in the type in which a loaded model does it. A dtype that needs no rounding is taken
    where it does not make the file larger.

    Args:
        linears: the model's linears.
        stored: the quantized ones, by name.
        source_dtype: in which the source is stored: ``float32``, ``float16`` or ``bfloat16``.

    Raises:
        NoPlaceError: compressed-tensors has no place for one of them, or does not give it back in any dtype.
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
    weights = {name: stored[name].weight() for name in packed}
    for attempt, dtypes in _attempts(packed, source_dtype):
        found = [made for dtype in dtypes if (made := _attempt(attempt, weights, dtype)) is not None]
        if found:
            return min(found, key=lambda made: made.rounding > 0)  # the first without rounding, or the first
    raise NoPlaceError("compressed-tensors does not give these weights back exactly")


def _attempts(packed: Mapping[str, Packed], source_dtype: str) -> Iterator[tuple[Mapping[str, Packed], list[str]]]:
    """Yield the linears as small as can be, then larger, each with dtypes of the loaded model, the wanted first."""
    scheme = next(iter(packed.values())).scheme
    if scheme.restores not in (None, source_dtype):
        # Kernels for small floats want bfloat16 (vLLM's refuse float16). float32 holds most of what they restore, too.
        yield packed, ["float32", scheme.restores]
        return
    # Unpacked while loading, (code - zero) * scale is computed in the type of the scale: 16 bits round it.
    if any(each.dense for each in packed.values()):
        held = str(next(iter(packed.values())).tensors["weight_scale"].dtype).removeprefix("torch.")
        if source_dtype in (held, "float32"):
            yield packed, [held]
        packed = {name: with_wide_scales(each) for name, each in packed.items()}
    yield packed, list(dict.fromkeys((source_dtype, "float32")))


def _attempt(packed: Mapping[str, Packed], weights: Mapping[str, Tensor], dtype: str) -> Packing | None:
    """Return ``packed`` for a model of ``dtype``, or nothing if that does not hold ``weights`` rounded once to it."""
    scheme = next(iter(packed.values())).scheme
    dense = any(each.dense for each in packed.values()) or scheme.restores not in (None, dtype)
    # transformers unpacks while loading by the first group alone (integrations/compressed_tensors.py).
    if dense and len(groups_of(packed)) > 1:
        raise NoPlaceError("groups of several sizes cannot be unpacked while loading")
    rounding = 0.0
    for name, weight in weights.items():
        rounded = rounded_once(weight, dtype)
        if not restore(packed[name], dtype, dense).equal(rounded):
            return None
        rounding = max(rounding, float((rounded.float() - weight).abs().max()))
    return Packing(packed, dtype, dense, rounding)


def with_wide_scales(packed: Packed) -> Packed:
    """Return ``packed`` with scales in float32."""
    return replace(packed, tensors={**packed.tensors, "weight_scale": packed.tensors["weight_scale"].float()})


def rounded_once(weight: Tensor, dtype: str) -> Tensor:
    """Return what a model of ``dtype`` must hold for ``weight`` (out, in), float32."""
    import torch

    kind: torch.dtype = getattr(torch, dtype)
    return weight.to(kind)


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
