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
from bitlaw.formats.grammar import parse
from bitlaw.methods import METHODS
from bitlaw.methods.factors import inputs_of
from bitlaw.methods.stored import stored_linears
from bitlaw.models.linears import quantizable
from bitlaw.stage import Header, Job
from bitlaw.stages import STAGES
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
        q = stored_linears(tensors, fmt, {other.name: other.shape for other in linears})[linear.name].weight()
        parts = {name.rpartition("/")[2]: t for name, t in tensors.items() if name.startswith(f"{linear.name}/")}
        assert torch.equal(q, fmt.fake_quantize(w))
        assert one["sqnr_db"] == pytest.approx(10 * math.log10(w.square().sum() / (w - q).square().sum()), abs=1e-4)
        assert one["finite"] and one["kept"] == 0
        signal, noise = signal + float(w.square().sum()), noise + float((w - q).square().sum())
        bits, count = bits + 8 * sum(part.nbytes for part in parts.values()), count + w.numel()
    assert result["weights"] == count
    assert result["effective_bits"] == bits / count
    assert result["sqnr_db"] == pytest.approx(10 * math.log10(signal / noise), abs=1e-4)
    assert result["finite"]
    assert result["kept"] == 0


def calibration(model: PreTrainedModel, out: Path, leave_out: int = 0) -> Path:
    """Moments of random inputs, one a width, shared by all linears of that width."""
    linears = quantizable(model)
    widths = sorted({linear.shape[1] for linear in linears})
    inputs = [torch.randn(200, width) @ torch.randn(width, width) for width in widths]
    tensors = {f"hessian.{i}": 2 * x.T @ x / len(x) for i, x in enumerate(inputs)}
    tensors |= {f"absmean.{i}": x.abs().mean(0) for i, x in enumerate(inputs)}
    of = {linear.name: widths.index(linear.shape[1]) for linear in linears[leave_out:]}
    spec = {"text": {"sha256": "ab"}, "samples": 4, "length": 50, "seed": 3}
    write_tensors(out, Header("calibrate", "1" * 32, spec, {}, "0"), tensors, {"of": of, "tokens": 200})
    return out


def factors(folder: Path, calibrated: Path, out: Path, **spec: Any) -> Path:
    """Return the artifact of the factorize stage."""
    location = {"pretrained": str(folder), "revision": None, "trust_remote_code": False}
    header = Header("factorize", "2" * 32, {"damping": 0.01, "act_order": False, **spec}, {}, "0")
    inputs = {"calibration": (calibrated,)}
    STAGES["factorize"].run(Job(header, inputs, out, out.with_suffix(".d"), {"model": location}))
    return out


@pytest.mark.parametrize("act_order", [False, True])
def test_gptq_gets_the_factor_of_each_linear(tmp_path: Path, act_order: bool) -> None:
    model = llama()
    folder, path = save(model, tmp_path / "model"), calibration(model, tmp_path / "c.safetensors")
    made = factors(folder, path, tmp_path / "f.safetensors", act_order=act_order)
    more = {"inputs": {"factors": (made,)}, "settings": {"act_order": act_order}}
    tensors, result = run(folder, tmp_path / "q.safetensors", "mxint4_b32", "gptq", **more)
    hessians, meta = read_tensors(path)
    settings = METHODS["gptq"].Settings(act_order=act_order)
    for linear in quantizable(model):
        h = hessians[f"hessian.{meta['of'][linear.name]}"]
        known = inputs_of(h, [linear], damping=0.01, act_order=act_order)[linear.name]
        q, info = METHODS["gptq"].quantize(linear.weight(), parse("mxint4_b32"), settings, known)
        for part, tensor in q.tensors().items():
            assert torch.equal(tensors[f"{linear.name}/{part}"], tensor)
        assert info.items() <= result["linears"][linear.name].items()
    assert result["calibration"] == {"text": {"sha256": "ab"}, "samples": 4, "length": 50, "seed": 3}


def test_factors_are_those_of_each_distinct_hessian(tmp_path: Path) -> None:
    model = gpt2()
    folder, path = save(model, tmp_path / "model"), calibration(model, tmp_path / "c.safetensors")
    hessians, meta = read_tensors(path)
    tensors, result = read_tensors(factors(folder, path, tmp_path / "f.safetensors", damping=0.5))
    assert result["of"] == meta["of"]
    assert len(result["factors"]) == 2 and len(tensors) == 6
    assert result["calibration"]["samples"] == 4
    for i, record in enumerate(result["factors"]):
        h = hessians[f"hessian.{i}"]
        assert record["damping"] == 0.5 and record["damping_tries"] == 1
        assert record["shift"] == pytest.approx(0.5 * float(h.diagonal().mean()), rel=1e-5)
        assert len(tensors[f"upper.{i}"]) == len(h) * (len(h) + 1) // 2
    for linear in quantizable(model):
        w, h = linear.weight().double(), hessians[f"hessian.{meta['of'][linear.name]}"].double()
        assert result["energy"][linear.name] == pytest.approx(float(torch.trace(w @ h @ w.T)), rel=1e-4)


def test_a_hessian_without_factor_names_its_linears(tmp_path: Path) -> None:
    model = gpt2()
    folder, path = save(model, tmp_path / "model"), calibration(model, tmp_path / "c.safetensors")
    tensors, result = read_tensors(path)
    tensors["hessian.1"].neg_()  # of the widest input, that of the last linear
    write_tensors(path, Header("calibrate", "1" * 32, {}, {}, "0"), tensors, result)
    with pytest.raises(UserError, match=r"^transformer\.h\.0\.mlp\.c_proj: the Hessian is not positive definite"):
        factors(folder, path, tmp_path / "f.safetensors")


def test_awq_gets_the_moments_and_proxy_keeps_columns(tmp_path: Path) -> None:
    model, fmt = llama(), parse("int4_b16")
    folder, path = save(model, tmp_path / "model"), calibration(model, tmp_path / "c.safetensors")
    shapes = {linear.name: linear.shape for linear in quantizable(model)}
    more = {"inputs": {"calibration": (path,)}, "settings": {"n_grid": 4}}
    tensors, result = run(folder, tmp_path / "a.safetensors", "int4_b16", "awq", **more)
    assert result["calibration"]["seed"] == 3
    stored = stored_linears(tensors, fmt, shapes)
    for name, one in stored.items():
        assert one.input_scale is not None
        assert result["linears"][name]["effective_bits"] == one.storage_bits() / math.prod(shapes[name])
    hessians, meta = read_tensors(path)
    lost = dict.fromkeys(["awq", "rtn"], 0.0)
    for linear in quantizable(model):
        for name, q in (("awq", stored[linear.name].weight()), ("rtn", fmt.fake_quantize(linear.weight()))):
            error = q - linear.weight()
            lost[name] += float(torch.trace(error @ hessians[f"hessian.{meta['of'][linear.name]}"] @ error.T))
    assert lost["awq"] < lost["rtn"]
    tensors, result = run(folder, tmp_path / "p.safetensors", "int4_b16", "proxy", settings={"p": 0.25})
    assert result["calibration"] is None
    stored = stored_linears(tensors, fmt, shapes)
    assert result["kept"] == sum(one.kept.numel() for one in stored.values() if one.kept is not None)
    assert result["kept"] / result["weights"] == pytest.approx(0.25, abs=0.01)
    bits = sum(8 * tensor.nbytes for tensor in tensors.values())
    assert result["effective_bits"] == bits / result["weights"]


def test_a_linear_without_calibration_is_named(tmp_path: Path) -> None:
    model = llama()
    folder = save(model, tmp_path / "model")
    path = calibration(model, tmp_path / "c.safetensors", leave_out=1)
    made = factors(folder, path, tmp_path / "f.safetensors")
    for method, given in (("gptq", {"factors": (made,)}), ("awq", {"calibration": (path,)})):
        with pytest.raises(UserError, match=r"^model\.layers\.0\.self_attn\.q_proj: no calibration sample reached"):
            run(folder, tmp_path / "q.safetensors", "mxint4_b32", method, inputs=given)


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
    reading = {**spec, "calibration": {}}
    assert STAGE.code(reading) == ("bitlaw.methods.gptq", "bitlaw.formats.mxint", "bitlaw.models.calibration")
