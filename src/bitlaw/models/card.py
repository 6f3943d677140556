"""The model card of a trained model: what it is, how it was trained, and on what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def model_card(name: str, facts: Mapping[str, Any], model: PreTrainedModel) -> str:
    """Return a model card in the hub's Markdown form from what ``train_to_folder`` recorded."""
    from bitlaw.models.linears import count_params

    counts, recipe, losses = count_params(model), facts["recipe"], facts["losses"]
    tokens, unique = facts["n_tokens"], facts["unique_tokens"]
    texts = "\n".join(
        f"- `{name}`: {text['origin'] or 'a file of the user'}. SHA-256 of the UTF-8 text: `{text['sha256']}`"
        for name, text in recipe["text"].items()
    )
    return f"""---
library_name: transformers
pipeline_tag: text-generation
language: en
---
# {name}

A small {facts["architecture"]} language model, trained by bitlaw for experiments on post-training quantization.
It is a measuring instrument, not an assistant: it writes no useful text.

| | |
| --- | --- |
| architecture | `{type(model).__name__}` |
| non-embedding parameters | {counts["n_params"]:,} |
| all parameters | {counts["n_total"]:,} |
| training tokens | {tokens:,} ({tokens / counts["n_total"]:.0f} a parameter; {tokens / unique:.1f} x {unique:,}) |
| context | {recipe["context"]} tokens |
| tokenizer | byte-level BPE, {recipe["vocab_size"]} tokens, trained on every {recipe["tokenizer_share"]}th document |
| optimizer | AdamW, {recipe["batch"]} sequences a step |
| learning rate | {recipe["lr"]} at its peak; weight decay {recipe["weight_decay"]} |
| schedule | linear warm-up over {recipe["warmup"]:.0%} of the steps, then linear decay to zero |
| final training loss | {losses["train"]} nats per token (mean of the last 100 steps) |
| held-out loss | {losses["held_out"]} nats per token ({recipe["holdout"]} sequences of the same texts) |
| precision | trained with float32 weights, stored as float16 |
| trained on | {facts["device"]}, {facts["seconds"]:.0f} s |

## Training text

{texts}

`recipe.json` holds the whole recipe; a study whose `models` has it trains the model again.
"""
