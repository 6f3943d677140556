"""What is known of a model without running it: sizes, shapes and the list of its quantizable linears."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitlaw.models.linears import count_params, quantizable

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def describe(model: PreTrainedModel) -> dict[str, Any]:
    """Return family, architecture, parameter counts, context and linears of ``model`` (on any device, even meta).

    Raises:
        UserError: the model has nothing to quantize.
    """
    config = model.config.get_text_config()
    linears = quantizable(model)
    return {
        "family": config.model_type,
        "architecture": type(model).__name__,
        **count_params(model),
        "vocab_size": config.vocab_size,
        "context": _context(config),
        "dtype": str(model.config.dtype).removeprefix("torch.") if model.config.dtype is not None else None,
        "linears": [{"name": li.name, "shape": list(li.shape), "transposed": li.transposed} for li in linears],
    }


def _context(config: Any) -> int | None:
    # BLOOM has none: its ALiBi positions go on for ever.
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        value = getattr(config, name, None)
        if isinstance(value, int):
            return value
    return None
