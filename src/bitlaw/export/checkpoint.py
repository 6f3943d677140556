"""Writing a model folder: all of it or nothing, with its origin in ``config.json`` and in every weight file."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitlaw.artifacts import canonical
from bitlaw.errors import UserError
from bitlaw.export.packing import groups_of, quantization_scheme
from bitlaw.models.files import TOKENIZER_FILES

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from bitlaw.export.packing import Packing
    from bitlaw.models.linears import Linear

ORIGIN = "bitlaw"
"""The key, in ``config.json`` and in the metadata of safetensors files, of where a checkpoint comes from."""

_COPIED = (
    *TOKENIZER_FILES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "LICENSE",
)


@contextmanager
def new_folder(to: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``to`` that becomes ``to`` when the block ends well, and else is removed.

    Raises:
        UserError: ``to`` is a file, or a folder that is not empty.
    """
    to = to.absolute()
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError("there is something already; give an empty or a new folder", place=str(to))
    to.parent.mkdir(parents=True, exist_ok=True)
    temporary = to.with_name(f".{to.name}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        temporary.replace(to)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_packed(model: PreTrainedModel, linears: list[Linear], packing: Packing) -> None:
    """Replace the weights of ``linears`` by their packed form, as compressed-tensors' own compression would."""
    from compressed_tensors.quantization import QuantizationStatus
    from torch import nn

    groups = groups_of(packing.linears)
    targets = {name: ["Linear"] if len(groups) == 1 else names for _, names in groups for name in names}
    for linear in linears:
        if (packed := packing.linears.get(linear.name)) is not None:
            module: Any = linear.module
            del module.weight
            for name, tensor in packed.tensors.items():
                module.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
            module.quantization_scheme = quantization_scheme(packed, targets[linear.name])
            module.quantization_status = QuantizationStatus.COMPRESSED


def put_dense(linears: list[Linear], weights: Mapping[str, Tensor]) -> None:
    """Replace the weights of ``linears`` by ``weights``, (out, in), in their dtype."""
    from torch import nn

    for linear in linears:
        if (weight := weights.get(linear.name)) is not None:
            oriented = weight.T if linear.transposed else weight
            linear.module.weight = nn.Parameter(oriented.contiguous(), requires_grad=False)


def save(model: PreTrainedModel, folder: Path, source: Path, packing: Packing | None) -> None:
    """Write ``model`` to ``folder``, with the tokenizer of the folder ``source``."""
    model.save_pretrained(folder)
    if packing is not None:
        from compressed_tensors.compressors import ModelCompressor

        compressor: Any = ModelCompressor.from_pretrained_model(model)
        # It names what is not packed as the weight file does (vLLM looks there); transformers looks for modules.
        ignored = [*compressor.quantization_config.ignore, *_other_linears(model, packing)]
        compressor.quantization_config.ignore = list(dict.fromkeys(ignored))
        compressor.update_config(str(folder))
    names = [*_COPIED, *(path.name for path in source.glob("*.py"))]
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def _other_linears(model: PreTrainedModel, packing: Packing) -> list[str]:
    from torch import nn

    names = (name for name, module in model.named_modules() if isinstance(module, nn.Linear))
    return [name for name in names if name not in packing.linears]


def sign(folder: Path, origin: Mapping[str, Any], dtype: str, dense: bool) -> None:
    """Write ``origin`` into the checkpoint in ``folder``, and how it is to be loaded.

    Args:
        folder: the checkpoint.
        origin: JSON values.
        dtype: of the loaded model.
        dense: whether packed weights are unpacked while loading.
    """
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    # transformers keeps a key that it does not know, when it loads and when it saves.
    config |= {"dtype": dtype, ORIGIN: dict(origin)}
    if dense:
        config["quantization_config"]["dequantize"] = True
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
    for weights in sorted(folder.glob("*.safetensors")):
        _add_metadata(weights, {ORIGIN: canonical(dict(origin))})


def _add_metadata(path: Path, entries: Mapping[str, str]) -> None:
    """Add ``entries`` to the metadata of a safetensors file: eight bytes of length, a JSON header, then the data."""
    temporary = path.with_suffix(".tmp")
    with path.open("rb") as old, temporary.open("wb") as new:
        header = json.loads(old.read(int.from_bytes(old.read(8), "little")))
        header["__metadata__"] = {**header.get("__metadata__", {}), **entries}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # the data stays aligned
        new.write(len(text).to_bytes(8, "little") + text)
        shutil.copyfileobj(old, new, 1 << 24)
    temporary.replace(path)
