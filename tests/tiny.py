"""Small random models and a tokenizer."""

from __future__ import annotations

from typing import Any

WORDS = "the model reads a text and says how likely each token is; naïve café 漢字 🙂\n"


def tiny_config(family: str) -> Any:
    """Return the configuration of a two-layer model of ``family``: width 32, MLP 48, vocabulary 320, context 64."""
    from transformers import CONFIG_MAPPING

    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None, "vocab_size": 320}
    gpt = {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 64, "n_inner": 48}
    llama = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2}
    positions = {"max_position_embeddings": 64}
    fields = {
        "gpt2": gpt,
        "opt": {"num_hidden_layers": 2, "hidden_size": 32, "ffn_dim": 48, "num_attention_heads": 2, **positions},
        "bloom": {"n_layer": 2, "hidden_size": 32, "n_head": 2},
        "llama": {**llama, "num_key_value_heads": 1, **positions},
        "gpt_neox": {**llama, **positions},
        "qwen2": {**llama, "num_key_value_heads": 1, **positions},
        "gemma2": {**llama, "num_key_value_heads": 1, "head_dim": 16, **positions},
        "mpt": {"n_layers": 2, "d_model": 32, "n_heads": 2, "max_seq_len": 64},
        "mixtral": {**llama, "num_key_value_heads": 1, "num_local_experts": 2, **positions},
    }
    return CONFIG_MAPPING[family](**ids, **fields[family])


def tiny_tokenizer() -> Any:
    """Return a byte-level BPE tokenizer of at most 320 tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        [WORDS], trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, special_tokens=["<|end|>"])
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<|end|>", eos_token="<|end|>")


def tiny_model(family: str, *, spread: float = 0.2) -> Any:
    """Return a random model of ``family`` in evaluation mode, with weights and biases large enough to matter."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(family)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return model
