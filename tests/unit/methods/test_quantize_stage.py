"""The quantize stage on tiny models, one with ``Linear`` and one with transposed ``Conv1D`` weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from bitlaw.artifacts import read_tensors, write_tensors
from bitlaw.errors import UserError
from bitlaw.formats.base import Quantized
from bitlaw.formats.grammar import parse
from bitlaw.methods import METHODS
from bitlaw.models.linears import quantizable
from bitlaw.stage import Header, Job
from bitlaw.stages.quantize import STAGE

torch.set_num_threads(1)


def save(model: PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def llama() -> PreTrainedModel:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=64, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2)
    )


def gpt2() -> PreTrainedModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=32, n_embd=24, n_layer=1, n_head=2))


def run(folder: Path, out: Path, fmt: str, method: str, **more: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    settings = METHODS[method].Settings.model_validate(more.get("settings", {})).model_dump()
    header = Header("quantize", "0" * 32, {"format": fmt, "method": method, "settings": settings}, {}, "0")
    location = {"pretrained": str(folder), "revision": None, "trust_remote_code": False}
    STAGE.run(Job(header, more.get("inputs", {}), out, out.with_suffix(".d"), {"model": location}))
    tensors, result = read_tensors(out)
    return tensors, result


@pytest.mark.parametrize("model", [llama(), gpt2()], ids=["llama", "gpt2"])
def test_stores_every_linear_rounded(model: PreTrainedModel, tmp_path: Path) -> None:
    fmt = parse("int4_b16")
    tensors, result = run(save(model, tmp_path / "model"), tmp_path / "q.safetensors", "int4_b16", "rtn")
    linears = quantizable(model)
    assert list(result["linears"]) == sorted(linear.name for linear in linears)
    signal = noise = bits = count = 0.0
    for linear in linears:
        w, one = linear.weight().float(), result["linears"][linear.name]
        parts = {name.rpartition("/")[2]: t for name, t in tensors.items() if name.startswith(f"{linear.name}/")}
        q = fmt.dequantize(Quantized.from_tensors(fmt, tuple(one["shape"]), parts))
        assert torch.equal(q, fmt.fake_quantize(w))
        assert one["sqnr_db"] == pytest.approx(10 * math.log10(w.square().sum() / (w - q).square().sum()), abs=1e-4)
        assert one["finite"]
        signal, noise = signal + float(w.square().sum()), noise + float((w - q).square().sum())
        bits, count = bits + 8 * sum(part.nbytes for part in parts.values()), count + w.numel()
    assert result["weights"] == count
    assert result["effective_bits"] == bits / count
    assert result["sqnr_db"] == pytest.approx(10 * math.log10(signal / noise), abs=1e-4)
    assert result["finite"]


def calibration(model: PreTrainedModel, out: Path, leave_out: int = 0) -> Path:
    """Hessians of random inputs, one a width, shared by all linears of that width."""
    linears = quantizable(model)
    widths = sorted({linear.shape[1] for linear in linears})
    inputs = [torch.randn(200, width) @ torch.randn(width, width) for width in widths]
    tensors = {f"hessian.{i}": 2 * x.T @ x / len(x) for i, x in enumerate(inputs)}
    of = {linear.name: widths.index(linear.shape[1]) for linear in linears[leave_out:]}
    write_tensors(out, Header("calibrate", "1" * 32, {}, {}, "0"), tensors, {"of": of, "tokens": 200})
    return out


def test_gptq_gets_the_hessian_of_each_linear(tmp_path: Path) -> None:
    model = llama()
    folder, path = save(model, tmp_path / "model"), calibration(model, tmp_path / "c.safetensors")
    given = {"calibration": (path,)}
    tensors, result = run(folder, tmp_path / "q.safetensors", "mxint4_b32", "gptq", inputs=given)
    hessians, meta = read_tensors(path)
    for linear in quantizable(model):
        h = hessians[f"hessian.{meta['of'][linear.name]}"]
        q, info = METHODS["gptq"].quantize(linear.weight(), parse("mxint4_b32"), METHODS["gptq"].Settings(), h)
        for part, tensor in q.tensors().items():
            assert torch.equal(tensors[f"{linear.name}/{part}"], tensor)
        assert info.items() <= result["linears"][linear.name].items()


def test_a_linear_without_calibration_is_named(tmp_path: Path) -> None:
    model = llama()
    folder = save(model, tmp_path / "model")
    given = {"calibration": (calibration(model, tmp_path / "c.safetensors", leave_out=1),)}
    with pytest.raises(UserError, match=r"^model\.layers\.0\.self_attn\.q_proj: no calibration sample reached"):
        run(folder, tmp_path / "q.safetensors", "mxint4_b32", "gptq", inputs=given)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_weight_is_recorded_not_hidden_and_no_crash(tmp_path: Path, bad: float) -> None:
    model = llama()
    first, second, *_ = quantizable(model)
    nn.init.constant_(first.parameter[0, :1], bad)
    _, result = run(save(model, tmp_path / "model"), tmp_path / "q.safetensors", "int4_b16", "rtn")
    assert not result["finite"]
    assert math.isnan(result["sqnr_db"])
    assert not result["linears"][first.name]["finite"]
    assert result["linears"][second.name]["finite"]
    assert result["linears"][second.name]["sqnr_db"] > 10


def test_nothing_lost_is_an_infinite_ratio(tmp_path: Path) -> None:
    model = llama()
    for linear in quantizable(model):
        nn.init.constant_(linear.parameter, 0.25)
    _, result = run(save(model, tmp_path / "model"), tmp_path / "q.safetensors", "mxint4_row", "rtn")
    assert result["sqnr_db"] == math.inf


def test_the_code_of_an_artifact_is_that_of_its_method_and_format() -> None:
    spec = {"format": "mxint4_b32", "method": "gptq", "settings": {}}
    assert STAGE.code(spec) == ("bitlaw.methods.gptq", "bitlaw.formats.mxint")
