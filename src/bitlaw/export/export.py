"""From a quantize artifact to a model folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitlaw.errors import UserError
from bitlaw.export.checkpoint import new_folder, put_dense, put_packed, save, sign
from bitlaw.export.note import note, readme
from bitlaw.export.packing import Packing, groups_of, pack_model
from bitlaw.export.read import QuantizedModel, read_quantized
from bitlaw.export.schemes import NoPlaceError
from bitlaw.formats.grammar import parse

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.models.linears import Linear

_LIBRARIES = ("bitlaw", "torch", "transformers", "safetensors", "compressed-tensors")
_DTYPES = {"F16": "float16", "BF16": "bfloat16"}


def export(
    artifact: Path, location: Mapping[str, Any], labels: Mapping[str, Any], to: Path, *, dense: bool = False
) -> dict[str, Any]:
    """Write the quantized model of ``artifact`` to the folder ``to``, and return where it comes from.

    Args:
        artifact: a quantize artifact.
        location: where the unquantized model is; see ``bitlaw.models.load.load_model``.
        labels: what else to say of the model, JSON values.
        to: a folder that does not exist or is empty.
        dense: write ordinary weights even if the format can be packed.

    Returns:
        What is written to ``quantization.json``, to ``config.json`` and into the weight files.

    Raises:
        UserError: ``to`` is not empty, the quantized weights are not finite, or compressed-tensors is not installed.
    """
    from bitlaw.models.linears import quantizable
    from bitlaw.models.load import load_model, local_folder

    with new_folder(to) as folder:
        source = local_folder(location)
        source_dtype = stored_dtype(source)
        model = load_model(location, source_dtype)
        linears = quantizable(model)
        quantized = read_quantized(artifact, {linear.name: linear.shape for linear in linears})
        if not quantized.result["finite"]:
            raise UserError(
                "some quantized weights are NaN or infinite, which no checkpoint can hold", place=str(artifact)
            )
        packing, reason = _packing(linears, quantized, source_dtype, dense)
        if packing is not None:
            put_packed(model, linears, packing)
            file = _about_packed(packing, quantized)
        else:
            weights = _dense_weights(quantized, source_dtype)
            put_dense(linears, weights)
            file = _about_dense(weights, source_dtype, reason)
        save(model, folder, source, packing)
        origin = _origin(quantized, labels, file)
        sign(folder, origin, file["dtype"], packing is not None and packing.dense)
        (folder / "quantization.json").write_text(json.dumps(origin, indent=2, sort_keys=True) + "\n", "utf-8")
        (folder / "README.md").write_text(readme(origin), "utf-8")
    return origin


def stored_dtype(folder: Path) -> str:
    """Return the dtype that holds all weights of the model in ``folder`` exactly as they are stored."""
    from safetensors import safe_open

    kinds = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            kinds |= {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    return _DTYPES.get(kinds.pop(), "float32") if len(kinds) == 1 else "float32"


def _packing(
    linears: list[Linear], quantized: QuantizedModel, source_dtype: str, dense: bool
) -> tuple[Packing | None, str]:
    """Return the packed linears, or ``None`` and why not."""
    if dense:
        return None, "dense weights were asked for"
    try:
        return pack_model(linears, quantized.linears, source_dtype), ""
    except NoPlaceError as error:
        return None, str(error)


def _dense_weights(quantized: QuantizedModel, source_dtype: str) -> dict[str, Tensor]:
    """Return the quantized weights in the smallest dtype that holds all of them exactly, the source's if it does."""
    import torch

    exact = {name: stored.weight() for name, stored in quantized.linears.items()}
    for name in dict.fromkeys((source_dtype, "bfloat16", "float16")):
        dtype: torch.dtype = getattr(torch, name)
        if all(torch.equal(weight.to(dtype).float(), weight) for weight in exact.values()):
            return {name: weight.to(dtype) for name, weight in exact.items()}
    return exact


def _about_packed(packing: Packing, quantized: QuantizedModel) -> dict[str, Any]:
    count = _count(quantized)
    nbytes = sum(packed.nbytes() for packed in packing.linears.values())
    groups = [{**args, "linears": len(names)} for args, names in groups_of(packing.linears)]
    return {
        "packed": True,
        "layout": packing.layout,
        "groups": groups,
        "bits": 8 * nbytes / count,
        "dtype": packing.dtype,
        "rounding": packing.rounding,
    }


def _about_dense(weights: Mapping[str, Tensor], source_dtype: str, reason: str) -> dict[str, Any]:
    stored = str(next(iter(weights.values())).dtype).removeprefix("torch.") if weights else source_dtype
    return {
        "packed": False,
        "reason": reason,
        "bits": 32.0 if stored == "float32" else 16.0,
        # A model that mixes dtypes is loaded in float32, which holds them all.
        "dtype": source_dtype if stored == source_dtype else "float32",
        "rounding": 0.0,
    }


def _count(quantized: QuantizedModel) -> int:
    return sum(stored.shape[0] * stored.shape[1] for stored in quantized.linears.values())


def _origin(quantized: QuantizedModel, labels: Mapping[str, Any], file: Mapping[str, Any]) -> dict[str, Any]:
    header, result = quantized.header, quantized.result
    fmt = parse(header["spec"]["format"])
    origin = {
        **labels,
        **header["spec"],
        "scale_rule": fmt.scale_rule,
        "rounding": fmt.rounding,
        "calibration": result.get("calibration"),
        "effective_bits": result["effective_bits"],
        "sqnr_db": result["sqnr_db"] if math.isfinite(result["sqnr_db"]) else None,  # JSON has no infinity
        "key": header["key"],
        "parents": header["parents"],
        "code": header["code"],
        "made_with": header["made_with"],
        "exported_with": _versions(),
        "file": dict(file),
    }
    return {**origin, "note": note(origin)}


def _versions() -> dict[str, str]:
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # dense checkpoints need no compressed-tensors
    return versions
