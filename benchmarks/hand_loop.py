"""A cell as one would program it without bitlaw: what ``baseline_loop.py`` measures.

transformers loads the model; compressed-tensors (integers in groups, MXFP4) or torchao (the other MXFP) rounds the
linears of its blocks, or llm-compressor calibrates it and runs GPTQ; batches of windows go through the model, and cross
entropy of the logits is the loss. Where lm-eval is installed, it evaluates the same text once more: that is what most
such loops leave the evaluation to.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from common import package
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

PARTS = ("load", "quantize", "evaluate", "lm-eval")
"""Of a cell; the last two do the same."""
Round = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """What both sides do with a model.

    Attributes:
        model: its folder.
        ids: tokens of the evaluation, ``(windows, window)`` int64, on the device.
        windows: tokens of the calibration, ``(samples, length)`` int64.
        batch: windows at a time in the loop.
        dtype: of the passes of the evaluation.
        conv1d: whether its linears are transformers' ``Conv1D``, as GPT-2's are.
        text: what ``ids`` were made of, for lm-eval.
        tokenizer: the model's.
    """

    model: Path
    ids: Tensor
    windows: Tensor
    batch: int
    dtype: torch.dtype
    conv1d: bool
    text: str
    tokenizer: Any


def loop_cell(task: Task, name: str, *, gptq: bool) -> tuple[float, dict[str, float]]:
    """Return the loss of a cell, nats per token, and the seconds of each of ``PARTS``."""
    clock = Clock(task.ids.device)
    model = AutoModelForCausalLM.from_pretrained(task.model, dtype=torch.float32).to(task.ids.device).eval()
    clock.ends("load")
    if gptq:
        model = llm_compressor(model, name, task)
    else:
        round_all(model, rounding(name))
    model.to(task.dtype)
    clock.ends("quantize")
    found = loss(model, task.ids, task.batch)
    clock.ends("evaluate")
    if package("lm_eval"):
        rolling_loss(model, task)
        clock.ends("lm-eval")
    return found, clock.seconds


@torch.inference_mode()
def loss(model: Any, ids: Tensor, batch: int) -> float:
    """Return the mean negative log-likelihood of all tokens but the first of each window."""
    total = torch.zeros((), dtype=torch.float64, device=ids.device)
    for rows in ids.split(batch):
        logits = model(input_ids=rows, use_cache=False).logits[:, :-1].float()
        total += cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum")
    return float(total) / (len(ids) * (ids.shape[1] - 1))


def rolling_loss(model: Any, task: Task) -> float:
    """Return lm-eval's mean negative log-likelihood of all tokens, as its wikitext task has it before it divides.

    Unlike in ``loss`` the first token of a window is scored too: its context is the token before it.
    """
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    window = task.ids.shape[1]
    with redirect_stderr(StringIO()):  # bars
        harness = HFLM(pretrained=model, tokenizer=task.tokenizer, batch_size=task.batch, max_length=window)
        (found,) = harness.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (task.text,), 0)])
    return -found / task.ids.numel()


@torch.inference_mode()
def round_all(model: Any, function: Round) -> None:
    """Round the weights of all linears but the head, along their inputs."""
    for module in linears(model):
        if isinstance(module, Conv1D):  # its rows are inputs
            module.weight.data = function(module.weight.data.T.contiguous()).T.contiguous()
        else:
            module.weight.data = function(module.weight.data)


def linears(model: Any) -> list[Any]:
    """Return the linears of the blocks: all but the head."""
    head = model.get_output_embeddings()
    return [one for one in model.modules() if isinstance(one, nn.Linear | Conv1D) and one is not head]


def rounding(name: str) -> Round:
    """Return what rounds a matrix to the format ``name`` by one of the packages."""
    if name.startswith("mxfp") and name != "mxfp4_e2m1_b32_even":
        mx, config = (package(f"torchao.prototype.mx_formats.{part}") for part in ("mx_tensor", "config"))
        found = re.fullmatch(r"mxfp(\d)_(e\dm\d)_b(\d+)", name)
        if mx is None or found is None:
            raise SystemExit(f"the loop has no package for {name}")
        bits, element, block = found.groups()
        kind = {"4": torch.float4_e2m1fn_x2, "6": f"fp6_{element}"}.get(bits) or getattr(torch, f"float8_{element}fn")
        floor = config.ScaleCalculationMode.FLOOR
        return lambda w: mx.MXTensor.to_mx(w, kind, int(block), floor).dequantize(torch.float32)
    quantization, helpers = (package(f"compressed_tensors.quantization{part}") for part in ("", ".utils"))
    arguments = scheme(name)

    def call(w: Tensor) -> Tensor:
        blocks = w.unflatten(-1, (-1, arguments.group_size))
        scale, zero = helpers.calculate_qparams(blocks.amin(-1), blocks.amax(-1), arguments)
        rounded: Tensor = quantization.fake_quantize(w, scale, zero, arguments)
        return rounded

    return call


def block_of(name: str) -> int:
    """Return how many weights have a scale in the format ``name``."""
    found = re.search(r"_[bg](\d+)", name)
    if found is None:
        raise SystemExit(f"the loop has no package for {name}")
    return int(found[1])


def scheme(name: str) -> Any:
    """Return compressed-tensors' arguments for the format ``name``."""
    quantization = package("compressed_tensors.quantization")
    found = re.fullmatch(r"int(\d)_g(\d+)_(sym|asym)", name)
    if quantization is None or (found is None and name != "mxfp4_e2m1_b32_even"):
        raise SystemExit(f"the loop has no package for {name}")
    if found is None:
        kinds = {"scale_dtype": torch.uint8, "zp_dtype": torch.uint8}
        return quantization.QuantizationArgs(num_bits=4, type="float", strategy="group", group_size=32, **kinds)
    bits, group, kind = found.groups()
    shape: dict[str, Any] = {"num_bits": int(bits), "group_size": int(group), "symmetric": kind == "sym"}
    return quantization.QuantizationArgs(type="int", strategy="group", scale_dtype=torch.float16, **shape)


def llm_compressor(model: Any, name: str, task: Task) -> Any:
    """Return ``model`` quantized by llm-compressor's GPTQ, calibrated for this cell."""
    from compressed_tensors.offload import remove_dispatch
    from compressed_tensors.quantization import disable_quantization
    from llmcompressor import oneshot
    from llmcompressor.modifiers.gptq import GPTQModifier

    head = [name for name, module in model.named_modules() if module is model.get_output_embeddings()]
    groups = {"all": {"targets": ["Linear"], "weights": scheme(name)}}
    # The batches as they are: no text to tokenize. What a block puts out stays where the model is.
    data = torch.utils.data.DataLoader([{"input_ids": row} for row in task.windows], batch_size=task.batch)
    with redirect_stderr(StringIO()):  # bars
        oneshot(
            model=model,
            dataset=data,
            recipe=GPTQModifier(config_groups=groups, ignore=head, actorder=None),
            num_calibration_samples=len(task.windows),
            sequential_offload_device=str(task.ids.device),
        )
    # The weights are rounded; without this, each pass would round them again.
    model.apply(disable_quantization)
    return remove_dispatch(model, onload_tensors=True)


class Clock:
    """Seconds of the parts of a cell, with all that the device was asked to do."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, dict[str, float]()
        self._last = self._now()

    def ends(self, part: str) -> None:
        """Say that ``part`` ends here, and the next one begins."""
        now = self._now()
        self.seconds[part], self._last = now - self._last, now

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()
