"""Loading: complete or refused, kept or read again, and always as stored."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bitlaw.errors import UserError
from bitlaw.models import load
from bitlaw.models.linears import count_params, quantizable
from bitlaw.models.load import load_model, load_tokenizer, skeleton
from projects import SHARED
from tiny import tiny_model

Saved = Callable[[str], Path]
STORIES = SHARED / "models" / "stories260K"
FAMILIES = ("gpt2", "opt", "bloom", "llama", "gpt_neox")


def at(folder: Path) -> dict[str, object]:
    return {"pretrained": str(folder), "revision": None, "trust_remote_code": False}


@pytest.fixture
def copied(saved: Saved, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved("gpt2"), tmp_path / "model"))


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_those_stored(saved: Saved, family: str) -> None:
    model, expected = load_model(at(saved(family))), tiny_model(family)
    assert not model.training
    assert all(not p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
    for (name, a), (other, b) in zip(model.named_parameters(), expected.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(a, b)
    tied = expected.get_input_embeddings().weight is expected.get_output_embeddings().weight
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied


@pytest.mark.parametrize("family", FAMILIES)
def test_skeleton_has_the_same_modules(saved: Saved, family: str) -> None:
    empty, model = skeleton(at(saved(family))), load_model(at(saved(family)))
    assert all(p.is_meta for p in empty.parameters())
    assert [(li.name, li.shape) for li in quantizable(empty)] == [(li.name, li.shape) for li in quantizable(model)]
    assert count_params(empty) == count_params(model)


def test_is_kept_until_files_or_weights_change(copied: Path) -> None:
    model = load_model(at(copied))
    assert load_model(at(copied)) is model
    assert load_model(at(copied), "bfloat16") is not model
    assert load_model(at(copied), "bfloat16").dtype == torch.bfloat16
    stored = model.transformer.h[0].attn.c_attn.weight.clone()
    with torch.no_grad():
        model.transformer.h[0].attn.c_attn.weight.zero_()
    again = load_model(at(copied))
    assert again is not model
    assert torch.equal(again.transformer.h[0].attn.c_attn.weight, stored)
    again.transformer.ln_f.weight = torch.nn.Parameter(torch.zeros(32))
    third = load_model(at(copied))
    assert float(third.transformer.ln_f.weight.abs().sum()) > 0
    tensors = load_file(copied / "model.safetensors")
    tensors["transformer.ln_f.bias"] += 1
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(load_model(at(copied)).transformer.ln_f.bias, tensors["transformer.ln_f.bias"])


def test_only_a_few_are_kept(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "KEPT_MODELS", 2)
    monkeypatch.setattr(load, "_models", type(load._models)())
    first = load_model(at(saved("gpt2")))
    load_model(at(saved("opt")))
    assert load_model(at(saved("gpt2"))) is first
    load_model(at(saved("llama")))
    assert len(load._models) == 2
    assert load_model(at(saved("gpt2"))) is first
    monkeypatch.setattr(load, "KEPT_BYTES", 1)
    load_model(at(saved("bloom")))
    assert len(load._models) == 1


def test_incomplete_weights_are_refused(copied: Path) -> None:
    tensors = load_file(copied / "model.safetensors")
    del tensors["transformer.h.1.mlp.c_fc.weight"]
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"incomplete: 1 missing, the first is transformer.h.1.mlp.c_fc.weight"):
        load_model(at(copied))


def test_pickle_is_never_read(copied: Path) -> None:
    torch.save(load_file(copied / "model.safetensors"), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"no \*.safetensors"):
        load_model(at(copied))


def test_what_is_no_causal_language_model(copied: Path, tmp_path: Path) -> None:
    from transformers import BertConfig, T5Config

    for config in (T5Config(), BertConfig(architectures=["BertModel"])):
        config.save_pretrained(tmp_path / config.model_type)
    with pytest.raises(UserError, match="'t5' is no causal language model"):
        skeleton(at(tmp_path / "t5"))
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(UserError, match="quantized already"):
        skeleton(at(copied))
    with pytest.raises(UserError, match="no such model folder"):
        load_model(at(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="unknown dtype 'float31'; did you mean 'float32'"):
        load_model(at(copied), "float31")


def test_tokenizer(saved: Saved, copied: Path) -> None:
    tokenizer = load_tokenizer(at(saved("gpt2")))
    assert tokenizer.decode(tokenizer("naïve 漢字 🙂")["input_ids"]) == "naïve 漢字 🙂"
    assert load_tokenizer(at(saved("gpt2"))) is tokenizer
    (copied / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="no tokenizer"):
        load_tokenizer(at(copied))


@pytest.mark.skipif(not STORIES.is_dir(), reason="needs the stories260K model")
def test_a_real_model() -> None:
    model = load_model(at(STORIES))
    assert count_params(model) == {"n_params": 227_264, "n_embedding": 32_768, "n_total": 260_032}
    assert len(quantizable(model)) == 5 * 7
    written = model.generate(torch.tensor([[1]]), max_new_tokens=16, do_sample=False)[0].tolist()
    # "Once upon a time, there was a little girl named Lily. She", as in llama2.c's documentation of the model.
    assert written == [1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421, 395, 317, 426, 338]
