"""Training a small causal language model from a recipe into an ordinary Hugging Face folder."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitlaw.artifacts import canonical, sha256
from bitlaw.errors import UserError
from bitlaw.models.card import model_card
from bitlaw.models.corpus import prepare
from bitlaw.progress import track
from bitlaw.text.base import END_OF_TEXT

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

SAVE_SECONDS = 60.0
"""How often the state of a training is saved, so that one that is killed goes on where it was."""

CURVE_POINTS = 200


def train_to_folder(identity: Mapping[str, Any], hints: Mapping[str, Any], folder: Path) -> None:
    """Train the model of ``identity`` and save it to ``folder``: config, fp16 safetensors, tokenizer, recipe, card.

    Weights are float32 while training (bfloat16 autocast on a GPU) and stored as float16.

    Args:
        identity: ``architecture``, ``config`` and ``recipe``, as ``bitlaw.models.sources.train`` makes it.
        hints: under ``model``: ``name`` of the model, and for each training text its file in ``texts``, its readable
            name in ``names`` and where it comes from in ``origins``.
        folder: where to write; made if absent.

    Raises:
        UserError: unknown architecture or configuration field, or a text too short for one batch.
    """
    from transformers import set_seed

    recipe, location = identity["recipe"], hints["model"]
    cache = Path(location.get("cache", ".bitlaw/tokens"))
    tokenizer, tokens = prepare(
        [Path(path) for path in location["texts"]],
        recipe["vocab_size"],
        recipe["tokenizer_share"],
        cache,
    )
    set_seed(recipe["seed"])
    model = build_model(identity["architecture"], identity["config"], tokenizer.get_vocab_size(), recipe["context"])
    started = time.perf_counter()
    saved = cache.parent / "training" / f"{sha256(canonical(identity).encode())[:32]}.pt"
    losses = fit(model, tokens, recipe, saved)
    facts = {
        "architecture": identity["architecture"],
        "recipe": {**recipe, "text": _texts(location, recipe["text"])},
        "n_tokens": losses.pop("tokens"),
        "unique_tokens": len(tokens),
        "curve": losses.pop("curve"),
        "losses": losses,
        "seconds": round(time.perf_counter() - started, 1),
        "device": _device_name(),
    }
    model.half().save_pretrained(folder)
    _save_tokenizer(tokenizer, recipe["context"], folder)
    (folder / "recipe.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    (folder / "README.md").write_text(model_card(location["name"], facts, model), "utf-8")
    saved.unlink(missing_ok=True)


def build_model(architecture: str, config: Mapping[str, Any], vocab_size: int, context: int) -> PreTrainedModel:
    """Return a randomly initialized float32 model of a transformers architecture. Raises ``UserError`` if unknown."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    from bitlaw.errors import unknown

    if architecture not in CONFIG_MAPPING:
        raise unknown("architecture", architecture, list(CONFIG_MAPPING.keys()), place="models")
    config_class = CONFIG_MAPPING[architecture]
    fields = config_class().to_dict()
    for name in config:
        if name not in fields and name not in config_class.attribute_map:
            raise unknown(f"field of {architecture}'s configuration", name, fields, place="models")
    context_field = "n_positions" if architecture == "gpt2" else "max_position_embeddings"
    filled: dict[str, Any] = {"vocab_size": vocab_size, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    if context_field in fields:  # BLOOM has relative positions only
        filled[context_field] = context
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config_class(**{**filled, **config}))
    return model


def fit(
    model: PreTrainedModel, tokens: npt.NDArray[np.uint16], recipe: Mapping[str, Any], saved: Path
) -> dict[str, Any]:
    """Train ``model`` in place on windows of ``tokens``.

    Args:
        model: float32, on any device; it is moved to the GPU if there is one.
        tokens: ``(n,)`` of the training text.
        recipe: as ``bitlaw.models.sources.train.Recipe`` has it.
        saved: where the state is saved about once a minute. If it is there, training goes on from it, as if it had
            never stopped; whoever calls removes it.

    Returns:
        ``tokens`` seen; ``train``, the mean loss of the last 100 steps, and ``held_out``, that of the sequences that
        were never trained on, in nats per token; and ``curve``: for each of up to ``CURVE_POINTS`` stretches of steps
        the tokens seen at its end and its mean training loss.
    """
    import torch

    from bitlaw.models.compiled import compile_blocks

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    windows, held_out = _split(tokens, recipe, device)
    torch.nn.Module.to(model, device).train()
    optimizer = _optimizer(model, recipe)
    cross_entropy = _cross_entropy
    if device.type == "cuda":
        compile_blocks(model)
        cross_entropy = torch.compile(_cross_entropy, dynamic=False)
    batch, steps = recipe["batch"], math.ceil(recipe["tokens"] / (recipe["batch"] * recipe["context"]))
    losses = torch.zeros(steps, device=device)
    order = _Order(len(windows), recipe["seed"])
    begin = _resume(saved, model, optimizer, losses) if saved.is_file() else 0
    order.skip(begin, batch)
    last = time.monotonic()
    for number in track(range(begin, steps), "train"):
        for group in optimizer.param_groups:
            group["lr"] = recipe["lr"] * _schedule(number, steps, recipe["warmup"])
        loss = cross_entropy(*_logits(model, windows[order.take(batch).to(device)]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses[number] = loss.detach()
        if time.monotonic() - last > SAVE_SECONDS:
            _save(saved, model, optimizer, losses, number + 1)
            last = time.monotonic()
    told, size = losses.tolist(), batch * recipe["context"]
    return {
        "tokens": steps * size,
        "train": round(sum(told[-100:]) / len(told[-100:]), 4),
        "held_out": round(_held_out_loss(model, held_out, batch), 4),
        "curve": [[end * size, round(mean, 4)] for end, mean in _curve(told)],
    }


class _Order:
    """The order in which sequences are trained on: random permutations, one after the other."""

    def __init__(self, count: int, seed: int) -> None:
        import torch

        self._count, self._generator = count, torch.Generator().manual_seed(seed)
        self._left = torch.empty(0, dtype=torch.long)

    def take(self, batch: int) -> torch.Tensor:
        """Return the next ``batch`` sequences, ``(batch,)`` int64."""
        import torch

        while len(self._left) < batch:
            self._left = torch.cat([self._left, torch.randperm(self._count, generator=self._generator)])
        chosen, self._left = self._left[:batch], self._left[batch:]
        return chosen

    def skip(self, steps: int, batch: int) -> None:
        """Go on behind ``steps`` steps."""
        for _ in range(steps):
            self.take(batch)


def _curve(losses: Sequence[float]) -> list[tuple[int, float]]:
    """Return the end and the mean of each stretch of ``losses``, of up to ``CURVE_POINTS`` equal ones."""
    size = math.ceil(len(losses) / CURVE_POINTS)
    parts = [losses[start : start + size] for start in range(0, len(losses), size)]
    ends = [min((index + 1) * size, len(losses)) for index in range(len(parts))]
    return [(end, sum(part) / len(part)) for end, part in zip(ends, parts, strict=True)]


def _save(
    path: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer, losses: torch.Tensor, steps: int
) -> None:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses, "steps": steps}
    try:
        torch.save(state, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _resume(path: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer, losses: torch.Tensor) -> int:
    """Put back what ``_save`` wrote and return the number of steps that were done."""
    import torch

    state = torch.load(path, map_location=losses.device, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    losses.copy_(state["losses"])
    steps: int = state["steps"]
    return steps


def _logits(model: PreTrainedModel, windows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what ``model`` says of ``windows``, (batch, context, vocabulary), and what is there, (batch, context).

    Args:
        model: a causal language model.
        windows: (batch, context + 1), any integer.
    """
    import torch

    from bitlaw.models.compiled import unpacked

    windows = windows.long()
    with torch.autocast(windows.device.type, torch.bfloat16, enabled=windows.is_cuda), unpacked():
        return model(windows[:, :-1], use_cache=False).logits, windows[:, 1:]


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean loss of ``targets``, in nats; for shapes see ``_logits``."""
    import torch

    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def _held_out_loss(model: PreTrainedModel, windows: torch.Tensor, batch: int) -> float:
    import torch

    model.eval()
    # A compiled model would be compiled once more, for a few batches.
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        losses = [_cross_entropy(*_logits(model, part)) * len(part) for part in windows.split(batch)]
    return float(torch.stack(losses).sum() / len(windows))


def _split(
    tokens: npt.NDArray[np.uint16], recipe: Mapping[str, Any], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the training windows and the held-out windows, each of shape (n, context + 1), dtype int32.

    Neighbouring windows share one token, so that every token is predicted once in an epoch.
    """
    import numpy as np
    import torch

    context, count = recipe["context"], (len(tokens) - 1) // recipe["context"]
    if count < recipe["holdout"] + recipe["batch"]:
        raise UserError(
            f"the training text has {len(tokens):,} tokens, {count:,} sequences: fewer than holdout + batch "
            f"= {recipe['holdout'] + recipe['batch']:,}",
            place="models: recipe",
        )
    stream = torch.from_numpy(np.asarray(tokens[: count * context + 1]).astype(np.int32)).to(device)
    windows = stream.unfold(0, context + 1, context)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(recipe["seed"] + 1)).to(device)
    held, kept = order[: recipe["holdout"]], order[recipe["holdout"] :].sort().values
    return windows[kept], windows[held]


def _optimizer(model: PreTrainedModel, recipe: Mapping[str, Any]) -> torch.optim.AdamW:
    import torch

    matrices = [weight for weight in model.parameters() if weight.dim() >= 2]
    vectors = [weight for weight in model.parameters() if weight.dim() < 2]
    groups = [{"params": matrices, "weight_decay": recipe["weight_decay"]}, {"params": vectors, "weight_decay": 0.0}]
    fused = next(model.parameters()).is_cuda
    return torch.optim.AdamW(groups, lr=recipe["lr"], betas=(0.9, 0.95), fused=fused)


def _schedule(step: int, steps: int, warmup: float) -> float:
    """Return the share of the peak learning rate: linear warm-up, then linear decay to zero at the end."""
    warm = max(1, round(warmup * steps))
    return (step + 1) / warm if step < warm else (steps - step) / (steps - warm)


def _texts(location: Mapping[str, Any], hashes: Sequence[str]) -> dict[str, dict[str, str]]:
    described = zip(location["names"], location["origins"], hashes, strict=True)
    return {name: {"sha256": sha256, "origin": origin} for name, origin, sha256 in described}


def _save_tokenizer(tokenizer: Tokenizer, context: int, folder: Path) -> None:
    """Save the tokenizer in the form that all versions of transformers read, without the blanks of its default form."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=False), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")


def _device_name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
