"""Loading models and tokenizers: safetensors only, ready to evaluate, kept between the jobs of a worker."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitlaw.errors import UserError, unknown
from bitlaw.models.device import check_room, resolve
from bitlaw.models.files import TOKENIZER_FILES, WEIGHT_FILES, model_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("float32", "bfloat16", "float16")
KEPT_MODELS = 64
KEPT_BYTES = 4 * 2**30

_models: OrderedDict[str, tuple[PreTrainedModel, tuple[object, ...]]] = OrderedDict()
_tokenizers: OrderedDict[str, PreTrainedTokenizerBase] = OrderedDict()


def load_model(location: Mapping[str, Any], dtype: str = "float32", *, compiled: bool = False) -> PreTrainedModel:
    """Return the model at ``location``, in evaluation mode and without gradients.

    A few models are kept: the same object is returned again as long as its files and its parameters are unchanged,
    so a caller that changes weights must put them back (``Linear.swap`` does).

    Args:
        location: ``pretrained`` (folder or hub repository), ``revision``, ``trust_remote_code``, and ``device``: where
            to put it (``auto``, ``cpu``, ``cuda``, ``cuda:1``; by default the CPU).
        dtype: ``float32``, ``bfloat16`` or ``float16``; weights are converted to it.
        compiled: whether its blocks go through ``torch.compile``, for inputs of one shape; see ``compile_blocks``.

    Raises:
        UserError: the model is not there, is no causal language model, or its weights are incomplete, or there is no
            room for it.
    """
    import torch

    folder, device = local_folder(location), resolve(str(location.get("device", "cpu")))
    key = f"{cache_key(folder)} {dtype} {device} {compiled}"
    if key in _models:
        model, state = _models.pop(key)
        if _state(model) == state:
            _models[key] = (model, state)
            return model
    while _models and (len(_models) >= KEPT_MODELS or _kept_bytes() > KEPT_BYTES):
        _models.popitem(last=False)
    _check_room(location, dtype, device)
    model = _load(folder, dtype, bool(location.get("trust_remote_code")))
    torch.nn.Module.to(model, device).eval().requires_grad_(False)
    if compiled:
        from bitlaw.models.compiled import compile_blocks

        compile_blocks(model)
    _models[key] = (model, _state(model))
    return model


def load_tokenizer(location: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """Return the fast tokenizer of the model at ``location``.

    Raises:
        UserError: there is none, or it has no fast form (offsets of tokens are needed to count bytes).
    """
    from transformers import AutoTokenizer

    folder = local_folder(location)
    key = cache_key(folder)
    if key not in _tokenizers:
        # transformers would build an empty tokenizer from the configuration alone.
        if not any((folder / name).exists() for name in TOKENIZER_FILES):
            raise UserError("no tokenizer: save one there with tokenizer.save_pretrained()", place=str(folder))
        trusted = bool(location.get("trust_remote_code"))
        loaded: Any = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=trusted)
        tokenizer: PreTrainedTokenizerBase = loaded
        if not tokenizer.is_fast:
            raise UserError(
                "the tokenizer has no fast form (tokenizer.json), which gives the bytes of a token", place=str(folder)
            )
        while len(_tokenizers) >= 2 * KEPT_MODELS:
            _tokenizers.popitem(last=False)
        _tokenizers[key] = tokenizer
    return _tokenizers[key]


def skeleton(location: Mapping[str, Any]) -> PreTrainedModel:
    """Return the model at ``location`` without its weights: modules, names and shapes on the meta device.

    Raises:
        UserError: its configuration is not that of a causal language model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    folder, trusted = local_folder(location), bool(location.get("trust_remote_code"))
    config = _config(folder, trusted)
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=trusted)
    return model


def local_folder(location: Mapping[str, Any]) -> Path:
    """Return the folder of the model at ``location``, downloaded from the hub if it is not on this machine.

    Raises:
        UserError: the folder is not there, or the hub does not give the model.
    """
    pretrained = str(location["pretrained"])
    if location.get("revision") is None:
        folder = Path(pretrained)
        if not folder.is_dir():
            raise UserError("no such model folder", place=pretrained)
        return folder
    from bitlaw.models.download import download

    return download(pretrained, str(location["revision"]), code=bool(location.get("trust_remote_code")))


def cache_key(folder: Path) -> str:
    """Return a text that changes whenever a file of the model in ``folder`` does."""
    stats = [(path.name, path.stat()) for path in model_files(folder)]
    return json.dumps([str(folder.resolve()), *((n, s.st_size, s.st_mtime_ns, s.st_ino) for n, s in stats)])


def _check_room(location: Mapping[str, Any], dtype: str, device: str) -> None:
    """Raise ``UserError`` if the model does not fit on ``device``, or not into the memory that it comes through."""
    import torch

    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    count = sum(p.numel() for p in skeleton(location).parameters())
    for place in dict.fromkeys(("cpu", device)):
        check_room(count * getattr(torch, dtype).itemsize, place, f"the model in {dtype}")


def _load(folder: Path, dtype: str, trusted: bool) -> PreTrainedModel:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = _config(folder, trusted)
    if not any(folder.glob(WEIGHT_FILES)):
        raise UserError(f"no {WEIGHT_FILES} weights there", place=str(folder))
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=trusted,
            local_files_only=True,
            output_loading_info=True,
        )
    except SafetensorError as error:
        raise UserError(f"the weights are damaged: {error}", place=str(folder)) from None
    model: PreTrainedModel = loaded[0]
    # transformers fills what the file lacks with random numbers and only warns.
    missing = sorted(loaded[1]["missing_keys"])
    if missing:
        raise UserError(
            f"the weights are incomplete: {len(missing)} missing, the first is {missing[0]}", place=str(folder)
        )
    return model


def _config(folder: Path, trusted: bool) -> Any:
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if not (folder / "config.json").exists():
        raise UserError("no config.json there", place=str(folder))
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trusted)
    remote = trusted and "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if not remote and (config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or config.is_encoder_decoder):
        raise UserError(f"'{config.model_type}' is no causal language model", place=str(folder))
    if getattr(config, "quantization_config", None) is not None:
        raise UserError("the model is quantized already; give the original one", place=str(folder))
    return config


def _state(model: PreTrainedModel) -> tuple[object, ...]:
    # A parameter that was exchanged has another id; one that was written to has another version.
    return (*((name, id(p), p._version) for name, p in model.named_parameters()), model.training)


def _kept_bytes() -> int:
    return sum(p.numel() * p.element_size() for model, _ in _models.values() for p in model.parameters())
