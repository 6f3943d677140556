"""From a GGUF file to a folder with weights in 16 bits, a configuration and a tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from bitlaw.errors import UserError

UNREADABLE: Final = (
    ValueError,  # an architecture or a type of block that it does not know
    KeyError,  # an architecture that it has no names of tensors for
    NotImplementedError,  # a type of block that the gguf package names and has no decoder for, such as Q1_0
    ImportError,  # gguf or accelerate is not installed
)
"""What transformers raises for a GGUF file that it cannot read."""


def gguf_to_folder(file: Path, folder: Path) -> None:
    """Write the model in ``file`` to ``folder`` as float16 safetensors, with its tokenizer.

    Args:
        file: a GGUF file of an architecture that transformers reads; its blocks are decoded.
        folder: where to write; made if absent.

    Raises:
        UserError: an architecture or tensor type that transformers cannot read from GGUF, or a package that it
            needs for that.
    """
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {"gguf_file": file.name, "dtype": torch.float16}
    if hasattr(transformers, "GgufConfig"):
        # Newer versions keep blocks packed where they can; older ones always decode.
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(file.parent, **options)
        tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except UNREADABLE as error:  # the library's words are kept, and its traceback below
        raise UserError(f"transformers cannot read this GGUF file: {error}", place=str(file)) from error
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # A model that was loaded from GGUF refuses to be saved, so its decoded weights move to one that was not.
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float16)
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
