"""The stages that run models: files in, one file out."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from bitlaw.artifacts import read_json, read_tensors, write_json, write_tensors
from bitlaw.errors import UserError
from bitlaw.formats.grammar import parse
from bitlaw.methods import METHODS
from bitlaw.methods.stored import stored_linears
from bitlaw.models.linears import quantizable
from bitlaw.models.load import load_model
from bitlaw.stage import Header, Job
from bitlaw.stages import STAGES
from tiny import WORDS

Saved = Callable[[str], Path]
FAMILIES = ("gpt2", "opt", "bloom", "llama", "gpt_neox")
SPEC = {"window": 32, "stride": 32, "max_tokens": 500, "batch": 4, "dtype": "float32", "compile": False, "variants": 1}


class Project:
    """A folder in which stages are run by hand."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root, self.model = root, model
        self.text = root / "text.txt"
        self.text.write_text(WORDS * 40, "utf-8")
        self.sha256 = hashlib.sha256(self.text.read_bytes()).hexdigest()

    def run(self, stage: str, spec: Mapping[str, Any], name: str = "", **inputs: Path) -> Path:
        made = STAGES[stage]
        out = self.root / f"{stage}{name}{made.suffix}"
        header = Header(stage, "0" * 32, spec, {role: ["1" * 32] for role in inputs}, "2" * 32)
        location = {"pretrained": str(self.model), "revision": None, "trust_remote_code": False}
        hints = {"model": location, "text": str(self.text)}
        made.run(Job(header, {role: (path,) for role, path in inputs.items()}, out, self.root / "payload", hints))
        return out

    def described(self) -> Path:
        return self.run("model", {"source": {"source": "folder", "files": {}}})

    def evaluated(self, name: str = "", *, spec: Mapping[str, Any] = SPEC, **inputs: Path) -> Any:
        full = {"text": {"sha256": self.sha256}, **spec}
        return read_json(self.run("evaluate", full, name, **inputs))

    def quantized(self, fmt: str) -> Path:
        """Write what the quantize stage would, rounded to the nearest."""
        number, tensors = parse(fmt), {}
        for linear in quantizable(load_model({"pretrained": str(self.model)})):
            parts = number.quantize(linear.weight()).tensors()
            tensors |= {f"{linear.name}/{part}": tensor for part, tensor in parts.items()}
        spec = {"format": fmt, "method": "rtn", "settings": {"a": 1}}
        result = {"effective_bits": 4.5, "sqnr_db": 20.0, "weights": 7, "kept": 0, "linears": {"x": {}}}
        write_tensors(self.root / "q.safetensors", Header("quantize", "3" * 32, spec, {}, ""), tensors, result)
        return self.root / "q.safetensors"


@pytest.fixture
def project(saved: Saved, tmp_path: Path) -> Callable[[str], Project]:
    return lambda family: Project(tmp_path, saved(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_model(project: Callable[[str], Project], family: str) -> None:
    result = read_json(project(family).described())
    assert result["family"] == family
    assert result["architecture"].endswith(("ForCausalLM", "LMHeadModel"))
    assert result["n_params"] + result["n_embedding"] == result["n_total"]
    assert (result["vocab_size"], result["dtype"], result["n_tokens"]) == (320, "float32", None)
    assert result["context"] == (None if family == "bloom" else 64)
    assert len(result["tokenizer_sha256"]) == 64
    shapes = {linear["name"]: tuple(linear["shape"]) for linear in result["linears"]}
    model = load_model({"pretrained": str(project(family).model)})
    assert shapes == {linear.name: linear.shape for linear in quantizable(model)}
    assert {linear["transposed"] for linear in result["linears"]} == {family == "gpt2"}


def test_model_reads_the_recipe_and_the_tokenizer(saved: Saved, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved("gpt2"), tmp_path / "model"))
    project = Project(tmp_path, folder)
    before = read_json(project.described())
    (folder / "recipe.json").write_text(json.dumps({"n_tokens": 123}))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["merges"].pop()
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    after = read_json(project.described())
    assert after["n_tokens"] == 123
    assert after["tokenizer_sha256"] != before["tokenizer_sha256"]
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="no such model folder"):
        project.described()


def test_only_models_made_here_depend_on_the_code_that_makes_them() -> None:
    code = STAGES["model"].code
    assert code({"source": {"source": "folder"}}) == code({"source": {"source": "hub"}}) == ()
    assert code({"source": {"source": "train"}}) == ("bitlaw.models.train",)
    assert code({"source": {"source": "gguf"}}) == ("bitlaw.models.gguf_folder",)


def test_calibrate(project: Callable[[str], Project]) -> None:
    here = project("llama")
    spec = {"text": {"sha256": here.sha256}, "samples": 4, "length": 16, "seed": 0}
    model = here.described()
    tensors, result = read_tensors(here.run("calibrate", spec, model=model))
    assert result["tokens"] == 64
    assert len(result["of"]) == 14
    for linear in read_json(model)["linears"]:
        hessian = tensors[f"hessian.{result['of'][linear['name']]}"]
        assert hessian.shape == (linear["shape"][1], linear["shape"][1])
        assert hessian.dtype == torch.float32
        assert float(torch.linalg.eigvalsh(hessian.double()).min()) > -1e-3
        absmean = tensors[f"absmean.{result['of'][linear['name']]}"]
        # The mean of sizes is at most the root of the mean square, which is half of the diagonal.
        assert bool((absmean <= (hessian.diagonal() / 2).sqrt() * (1 + 1e-5)).all()) and float(absmean.min()) > 0
    again, _ = read_tensors(here.run("calibrate", spec, "again", model=model))
    other, _ = read_tensors(here.run("calibrate", {**spec, "seed": 1}, "other", model=model))
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)
    assert not any(torch.equal(other[name], tensors[name]) for name in tensors)
    for fields, message in (
        ({"length": 65}, "length is 65 tokens, but the model's context is 64"),
        ({"text": {"sha256": "0" * 64}}, "the text has changed"),
    ):
        with pytest.raises(UserError, match=message):
            here.run("calibrate", {**spec, **fields}, model=model)
    here.text.write_text("the model")
    sha256 = hashlib.sha256(here.text.read_bytes()).hexdigest()
    with pytest.raises(UserError, match="tokens; it takes 16 for one window"):
        here.run("calibrate", {**spec, "text": {"sha256": sha256}}, model=model)


def test_quantize_on_the_text_itself(project: Callable[[str], Project]) -> None:
    here = project("llama")
    model = here.described()
    protocol = {"text": {"sha256": here.sha256}, "samples": 4, "length": 16, "seed": 0}
    settings = METHODS["gptq"].Settings(sequential=True).model_dump()
    spec = {"format": "int3_b16", "method": "gptq", "settings": settings, "calibration": protocol}
    made = here.run("quantize", spec, model=model)
    tensors, result = read_tensors(made)
    assert result["calibration"] == protocol
    assert all(linear["damping_tries"] == 1 for linear in result["linears"].values())
    again, _ = read_tensors(here.run("quantize", spec, "again", model=model))
    other, _ = read_tensors(here.run("quantize", {**spec, "calibration": {**protocol, "seed": 1}}, "o", model=model))
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)
    assert not all(torch.equal(other[name], tensors[name]) for name in tensors)
    assert here.evaluated(model=model, quantized=made)["quantized"]["calibration"] == protocol
    with pytest.raises(UserError, match="length is 65 tokens, but the model's context is 64"):
        here.run("quantize", {**spec, "calibration": {**protocol, "length": 65}}, "x", model=model)


def test_evaluate_weights_with_scales_and_kept_columns(project: Callable[[str], Project]) -> None:
    here = project("gpt2")
    model = here.described()
    protocol = {"text": {"sha256": here.sha256}, "samples": 4, "length": 16, "seed": 0}
    calibrated = here.run("calibrate", protocol, model=model)
    for method, settings, inputs in (("awq", {"n_grid": 3}, {"calibration": calibrated}), ("proxy", {"p": 0.1}, {})):
        full = METHODS[method].Settings(**settings).model_dump()
        spec = {"format": "int3_b16", "method": method, "settings": full}
        made = here.run("quantize", spec, method, model=model, **inputs)
        result = here.evaluated(method, model=model, quantized=made)
        tensors, _ = read_tensors(made)
        changed = load_model({"pretrained": str(here.model)})
        linears = quantizable(changed)
        stored = stored_linears(tensors, parse("int3_b16"), {linear.name: linear.shape for linear in linears})
        with torch.no_grad():
            for linear in linears:
                linear.parameter.copy_(stored[linear.name].weight().T)
        other = Project(here.root, here.root / method)
        changed.save_pretrained(other.model)
        for file in here.model.glob("token*"):
            shutil.copy(file, other.model)
        assert other.evaluated(f"{method}2", model=model)["part_nll"] == result["part_nll"]


@pytest.mark.parametrize("family", FAMILIES)
def test_evaluate_the_baseline(project: Callable[[str], Project], family: str) -> None:
    here = project(family)
    model = here.described()
    result = here.evaluated(model=model)
    assert result["quantized"] is None
    assert result["model"] == {name: value for name, value in read_json(model).items() if name != "linears"}
    assert len(result["part_nll"]) == len(result["part_tokens"]) == math.ceil(500 / 32)
    assert result["n_tokens"] == sum(result["part_tokens"]) == 500 - 16
    assert result["nll"] == pytest.approx(sum(result["part_nll"]) / result["n_tokens"])
    nats = result["bits_per_byte"] * result["n_bytes"] * math.log(2)
    assert nats == pytest.approx(sum(result["part_nll"]))
    assert result["finite"] is True


def test_bytes_are_those_of_the_scored_tokens(project: Callable[[str], Project]) -> None:
    from bitlaw.models.load import load_tokenizer

    here = project("gpt2")
    model = here.described()
    tokenizer = load_tokenizer({"pretrained": str(here.model)})
    names = tokenizer.convert_ids_to_tokens(tokenizer(here.text.read_text("utf-8"))["input_ids"])
    lengths = [len(name) for name in names]  # a byte-level token's name has one character a byte
    whole = here.evaluated(spec={**SPEC, "stride": 31, "max_tokens": None}, model=model)
    assert whole["n_tokens"] == len(names) - 1
    assert whole["n_bytes"] == here.text.stat().st_size - lengths[0]
    result = here.evaluated(spec={**SPEC, "max_tokens": None, "window": 64, "stride": 64}, model=model)
    # No window of this text begins inside a character.
    assert result["n_bytes"] == sum(length for i, length in enumerate(lengths) if i % 64)


@pytest.mark.parametrize("family", FAMILIES)
def test_evaluate_quantized_weights(project: Callable[[str], Project], family: str) -> None:
    here = project(family)
    model = here.described()
    baseline = here.evaluated("0", model=model)
    fine = here.evaluated("8", model=model, quantized=here.quantized("int8_b16"))
    coarse = here.evaluated("2", model=model, quantized=here.quantized("int2_row"))
    fine_gap, coarse_gap = (
        sum(abs(a - b) for a, b in zip(result["part_nll"], baseline["part_nll"], strict=True))
        for result in (fine, coarse)
    )
    assert 0 < 10 * fine_gap < coarse_gap
    assert coarse["quantized"] == {
        "effective_bits": 4.5,
        "sqnr_db": 20.0,
        "weights": 7,
        "kept": 0,
        "format": "int2_row",
        "method": "rtn",
        "settings": {"a": 1},
    }
    assert here.evaluated("again", model=model) == baseline


def test_quantized_evaluation_is_that_of_the_quantized_model(project: Callable[[str], Project]) -> None:
    here = project("gpt2")
    model = here.described()
    result = here.evaluated(model=model, quantized=here.quantized("int3_b16"))
    number = parse("int3_b16")
    changed = load_model({"pretrained": str(here.model)})
    with torch.no_grad():
        for linear in quantizable(changed):
            linear.parameter.copy_(number.fake_quantize(linear.weight().clone()).T)
    changed.save_pretrained(here.root / "changed")
    for file in here.model.glob("token*"):
        shutil.copy(file, here.root / "changed")
    other = Project(here.root, here.root / "changed")
    assert other.evaluated("other", model=model)["part_nll"] == result["part_nll"]


def test_a_broken_model_is_recorded(project: Callable[[str], Project]) -> None:
    here = project("llama")
    path = here.quantized("int4_b16")
    tensors, result = read_tensors(path)
    name = next(name for name in tensors if tensors[name].dtype == torch.float16)
    tensors[name].fill_(math.nan)
    spec = {"format": "int4_b16", "method": "rtn", "settings": {}}
    write_tensors(path, Header("quantize", "3" * 32, spec, {}, ""), tensors, result)
    model = here.described()
    broken = here.evaluated(model=model, quantized=path)
    assert broken["finite"] is False
    assert math.isnan(broken["nll"]) and math.isnan(broken["bits_per_byte"])
    assert here.evaluated("after", model=model)["finite"] is True


def test_what_does_not_fit_is_refused(project: Callable[[str], Project]) -> None:
    here = project("gpt2")
    model = here.described()
    with pytest.raises(UserError, match="window is 65 tokens, but the model's context is 64"):
        here.evaluated(spec={**SPEC, "window": 65}, model=model)
    about = read_json(model)
    write_json(here.root / "small.json", Header("model", "0" * 32, {}, {}, ""), {**about, "vocab_size": 10})
    with pytest.raises(UserError, match="belongs to another model"):
        here.evaluated(model=here.root / "small.json")
