"""A checkpoint, read by transformers alone, is the quantized model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bitlaw.formats.base import Quantized, Scales
from bitlaw.methods.stored import StoredLinear
from bitlaw.models.linears import quantizable, swapped
from projects import ZOO

pytest.importorskip("compressed_tensors")

Export = Callable[..., Any]
# One format of each scheme, and of each meaning of a scale that the scheme has.
LAYOUTS = {
    "int4_b16": "pack-quantized",
    "int3_b32_sf32": "pack-quantized",
    "int8_row": "pack-quantized",
    "int5_none_sbf16": "pack-quantized",
    "int6_g32_sym": "pack-quantized",
    "int4_g16_awqsym": "pack-quantized",
    "int4_g16_asym": "pack-quantized",
    "int3_row_asym": "pack-quantized",
    "int8_none_asym": "pack-quantized",
    "int4_g32_awq": "pack-quantized",
    "mxint2_b16": "pack-quantized",
    "mxint4_b32": "pack-quantized",
    "mxint8_row": "pack-quantized",
    "ternary_b16": "pack-quantized",
    "mxfp4_e2m1_b32": "mxfp4-pack-quantized",
    "mxfp6_e2m3_b32_even": "mxfp6-pack-quantized",
    "mxfp8_e4m3_b32_rceil": "mxfp8-quantized",
    "nvfp4_b16": "nvfp4-pack-quantized",
}


def check(one: Any) -> Any:
    """Compare the checkpoint with the fake-quantized source, weight by weight and in the logits; return it loaded.

    It must hold the quantized weights, rounded once to the dtype that it says it has.
    """
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    loaded: Any = AutoModelForCausalLM.from_pretrained(one.folder)
    ids = torch.arange(40)[None]
    with torch.no_grad():
        logits = loaded(ids).logits
    reference: Any = AutoModelForCausalLM.from_pretrained(one.source, dtype=loaded.dtype)
    assert str(loaded.dtype) == f"torch.{one.origin['file']['dtype']}"
    weights = {name: weight.to(loaded.dtype).float() for name, weight in one.weights.items()}
    rounding = max(float((weights[name] - weight).abs().max()) for name, weight in one.weights.items())
    assert one.origin["file"]["rounding"] == rounding
    held = {linear.name: linear.weight().float() for linear in quantizable(loaded)}
    assert held.keys() == weights.keys()
    assert max(float((held[name] - weights[name]).abs().max()) for name in held) == 0
    with torch.no_grad(), swapped(quantizable(reference), weights):
        assert torch.equal(reference(ids).logits, logits)
    return loaded


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_scheme_gives_back_the_weights(exported: Export, saved: Callable[[str], Path], name: str) -> None:
    one = exported(saved("llama"), name)
    assert one.origin["file"]["packed"] and one.origin["file"]["layout"] == LAYOUTS[name]
    check(one)


@pytest.mark.parametrize("family", ["opt", "bloom", "gpt_neox", "qwen2", "gemma2"])
@pytest.mark.parametrize("name", ["int4_b16", "int4_g16_asym", "mxint4_b32", "nvfp4_b16"])
def test_every_architecture_can_be_exported(
    exported: Export, saved: Callable[[str], Path], family: str, name: str
) -> None:
    one = exported(saved(family), name)
    assert one.origin["file"]["packed"]
    check(one)


@pytest.mark.parametrize("name", ["int4_b64", "int4_g32_asym", "mxint4_b32", "mxfp4_e2m1_b32", "nvfp4_b16"])
@pytest.mark.parametrize("family", ["bloom", "llama", "neox", "opt"])
def test_trained_models(exported: Export, family: str, name: str) -> None:
    one = exported(ZOO / f"{family}-0.1m", name)
    assert one.origin["file"]["packed"]
    check(one)


def test_a_model_in_bfloat16_stays_one_where_that_is_exact(exported: Export, tmp_path: Path) -> None:
    from tiny import tiny_model, tiny_tokenizer

    source = tmp_path / "half"
    tiny_model("llama").bfloat16().save_pretrained(source)
    tiny_tokenizer().save_pretrained(source)
    dtypes = {"mxint4_b32": "bfloat16", "mxfp8_e4m3_b32": "bfloat16", "nvfp4_b16": "bfloat16", "int4_b16": "float32"}
    for name, dtype in dtypes.items():
        one = exported(source, name)
        assert one.origin["file"]["dtype"] == dtype
        loaded = check(one)
        assert str(loaded.dtype) == f"torch.{dtype}"


def test_the_codes_are_those_of_the_method(exported: Export, saved: Callable[[str], Path]) -> None:
    generator = torch.Generator().manual_seed(0)

    def other(q: Quantized) -> StoredLinear:
        codes = torch.randint(-7, 8, q.codes.shape, generator=generator).to(q.codes.dtype)
        return StoredLinear(Quantized(q.fmt, codes, q.scales))

    check(exported(saved("llama"), "int4_b16", change=other))


def test_weights_below_the_range_of_a_scale(exported: Export, saved: Callable[[str], Path]) -> None:
    def faint(q: Quantized) -> StoredLinear:
        scale = q.scales.block["scale"].clone()
        scale[0, 0], codes = 2, q.codes.clone()  # the step 2^-127 over 2^6: only bfloat16 has it
        scale[1, 0], codes[1] = 0, 0
        return StoredLinear(Quantized(q.fmt, codes, Scales({"scale": scale})))

    one = exported(saved("llama"), "mxint8_b32", change=faint)
    assert one.origin["file"]["packed"] and one.origin["file"]["bits"] == pytest.approx(8.5, rel=0.1)
    check(one)


def test_where_it_comes_from_survives_loading_and_saving(
    exported: Export, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    from safetensors import safe_open
    from transformers import AutoTokenizer

    one = exported(saved("llama"), "int4_b16")
    said = json.loads((one.folder / "quantization.json").read_text())
    assert said == json.loads(json.dumps(one.origin))
    assert (said["format"], said["method"], said["settings"], said["key"]) == ("int4_b16", "rtn", {}, "ab" * 16)
    assert said["exported_with"]["compressed-tensors"] and said["made_with"] == {"torch": "2"}
    loaded = check(one)
    assert loaded.config.bitlaw == said
    loaded.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["bitlaw"] == said
    with safe_open(one.folder / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["bitlaw"]) == said and metadata["format"] == "pt"
    tokenizer: Any = AutoTokenizer.from_pretrained(one.folder)
    assert tokenizer.decode(tokenizer("a text")["input_ids"]) == "a text"
    assert said["note"] in (one.folder / "README.md").read_text()
