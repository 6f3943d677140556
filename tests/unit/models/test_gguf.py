"""GGUF files become ordinary folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bitlaw.errors import UserError
from bitlaw.models.gguf_folder import gguf_to_folder
from bitlaw.models.linears import quantizable
from bitlaw.models.load import load_model, load_tokenizer
from tiny import tiny_config, tiny_tokenizer

gguf = pytest.importorskip("gguf")
pytest.importorskip("accelerate", reason="transformers reads GGUF through accelerate")
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Return query or key rows in llama.cpp's order: rotary pairs side by side."""
    rows, columns = weight.shape
    return weight.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)


def write(path: Path, kind: gguf.GGMLQuantizationType) -> torch.nn.Module:
    """Write a small random Llama to ``path``, its matrices stored as ``kind``, and return the model to be read."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = tiny_config("llama")
    model = AutoModelForCausalLM.from_config(config).eval()
    tokens = json.loads(tiny_tokenizer().backend_tokenizer.to_str())["model"]
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(48)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(16)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(320)
    writer.add_tokenizer_model("gpt2")
    ordered = sorted(tokens["vocab"], key=tokens["vocab"].__getitem__)
    ordered += [f"<unused{i}>" for i in range(320 - len(ordered))]
    writer.add_token_list(ordered)
    writer.add_token_types([3] + [1] * 319)
    writer.add_token_merges([" ".join(pair) for pair in tokens["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    for name, tensor in model.state_dict().items():
        if name.startswith("model.layers."):
            _, _, layer, rest = name.removesuffix(".weight").split(".", 3)
            if rest in ("self_attn.q_proj", "self_attn.k_proj"):
                tensor = interleaved(tensor, 2 if rest.endswith("q_proj") else 1)
            target = f"blk.{layer}.{NAMES[rest]}.weight"
        else:
            target = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}[
                name.removesuffix(".weight")
            ] + ".weight"
        if tensor.ndim == 1:
            writer.add_tensor(target, tensor.numpy())
            continue
        # Q8_0 has blocks of 32 along rows; llama.cpp, too, keeps in F16 what they do not divide.
        fits = kind if tensor.shape[1] % 32 == 0 else gguf.GGMLQuantizationType.F16
        writer.add_tensor(target, gguf.quants.quantize(tensor.contiguous().numpy(), fits), raw_dtype=fits)
        # The order of the rows changes no value.
        stored = gguf.quants.quantize(model.get_parameter(name).detach().numpy(), fits)
        model.get_parameter(name).data = torch.from_numpy(gguf.quants.dequantize(stored, fits).copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


@pytest.mark.parametrize("kind", ["F16", "Q8_0"])
def test_a_llama_comes_back(kind: str, tmp_path: Path) -> None:
    original = write(tmp_path / "tiny.gguf", gguf.GGMLQuantizationType[kind])
    gguf_to_folder(tmp_path / "tiny.gguf", tmp_path / "folder")
    location = {"pretrained": str(tmp_path / "folder"), "revision": None}
    model = load_model(location)
    assert model.config.model_type == "llama"
    assert len(quantizable(model)) == 14
    for (name, a), (other, b) in zip(model.named_parameters(), original.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(a, b.half().float()), name
    text = "the model reads a text"
    assert load_tokenizer(location)(text)["input_ids"] == tiny_tokenizer()(text)["input_ids"]


def test_blocks_that_gguf_does_not_decode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = gguf.GGMLQuantizationType.Q8_0
    write(tmp_path / "tiny.gguf", kind)
    monkeypatch.delitem(gguf.quants._type_traits, kind)  # as of types that are younger than the package
    with pytest.raises(UserError, match="cannot read this GGUF file: Dequantization for Q8_0 is not yet implemented"):
        gguf_to_folder(tmp_path / "tiny.gguf", tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_file_that_transformers_cannot_read(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(str(tmp_path / "odd.gguf"), "no-such-architecture")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(UserError, match="cannot read this GGUF file"):
        gguf_to_folder(tmp_path / "odd.gguf", tmp_path / "folder")
