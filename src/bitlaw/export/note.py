"""What a checkpoint says of itself in plain words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MARLIN_GROUPS = (32, 64, 128, "row")
"""Groups of integers that vLLM's Marlin kernel takes."""

FLOAT_KERNELS = {
    "mxfp4-pack-quantized": "Marlin for 4-bit floats, with activations in bfloat16",
    "nvfp4-pack-quantized": "Marlin for 4-bit floats, with one matrix scale for linears that it fuses (q, k and v; gate"
    " and up), so that their weights change if their scales differ",
    "mxfp6-pack-quantized": "nothing for MXFP6",
    "mxfp8-quantized": "a MXFP8 kernel, which rounds activations too",
}
"""What vLLM has for other layouts."""


def note(origin: Mapping[str, Any]) -> str:
    """Return in a few sentences what is in the file and what is not.

    Args:
        origin: as ``bitlaw.export.export.export`` returns it.
    """
    file, bits = origin["file"], origin["effective_bits"]
    if not file["packed"]:
        return (
            f"ordinary weights with the values of {origin['format']}, since {file['reason']}. The file is not smaller: "
            f"{file['bits']:.0f} bits a quantized weight, where the format itself takes {bits:.4g}. {_exact(file)}"
        )
    size = f"{file['layout']}, {file['bits']:.4g} bits a quantized weight"
    if abs(file["bits"] / bits - 1) > 0.01:
        size += f" in this file, where the format itself takes {bits:.4g}: {_difference(file)}"
    return f"{size}. {_exact(file)} {serving(file)}"


def serving(file: Mapping[str, Any]) -> str:
    """Return what vLLM has for a packed checkpoint, as read in its sources; see ``docs/export.md``."""
    said = sorted({_kernel(file["layout"], group) for group in file["groups"]})
    return f"vLLM: {', '.join([one for one in said if one.startswith('nothing')] or said)}."


def readme(origin: Mapping[str, Any]) -> str:
    """Return the text of the checkpoint's ``README.md``."""
    name, fmt, method = origin["model"], origin["format"], origin["method"]
    settings = ", ".join(f"{key} {json.dumps(value)}" for key, value in origin["settings"].items()) or "no settings"
    return f"""\
# {name} in {fmt} by {method}

Quantized by bitlaw: linears of the transformer blocks in `{fmt}`, rounded by `{method}` ({settings}).
Embeddings, norms and the output head are those of the original model, whose license and terms apply.

What is in the file: {origin["note"]}

The loaded model is in {origin["file"]["dtype"]}:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("this folder")
tokenizer = AutoTokenizer.from_pretrained("this folder")
```

`quantization.json` says from what it was made, with which settings and versions; the same is in `config.json` and in
the metadata of the weight files, under `bitlaw`.
"""


def _exact(file: Mapping[str, Any]) -> str:
    exactly = f"Loaded in {file['dtype']}, the weights are exactly the quantized ones"
    if not file["rounding"]:
        return f"{exactly}."
    return f"{exactly}, each rounded once to {file['dtype']} (by at most {file['rounding']:.3g})."


def _difference(file: Mapping[str, Any]) -> str:
    if any(not group["symmetric"] for group in file["groups"]):
        if file["groups"][0]["strategy"] == "block":
            return "zero points take a byte each"
        return (
            f"scales are in 32 bits, for those of the format are not in {file['dtype']}, the type of the other weights"
        )
    if any(group["num_bits"] == 2 for group in file["groups"]):
        return "compressed-tensors gives a ternary weight 2 bits"
    return "rows are padded to whole words"


def _kernel(layout: str, args: Mapping[str, Any]) -> str:
    if args["strategy"] == "block":
        return "nothing for rows that a group does not divide"
    if layout in FLOAT_KERNELS:
        return FLOAT_KERNELS[layout]
    if args["strategy"] == "tensor":
        return "nothing for one scale a matrix"
    if args["num_bits"] in (4, 8) and args.get("group_size", "row") in MARLIN_GROUPS:
        return "Marlin"
    return "Humming, if it is installed" if args["symmetric"] else "nothing for zero points with these bits and groups"
