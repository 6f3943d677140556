"""llama.cpp: GGUF files in formats of its own, made by its own programs."""

from __future__ import annotations

from bitlaw.advise.engine import Engine, Loads

ENGINE = Engine(
    title="llama.cpp",
    loads=(
        Loads(
            (
                *("q8_0", "q6_k", "q5_k_m", "q5_k_s", "q5_1", "q5_0", "q4_k_m", "q4_k_s", "q4_1", "q4_0"),
                *("iq4_nl", "iq4_xs", "q3_k_l", "q3_k_m", "q3_k_s", "iq3_m", "iq3_s", "iq3_xs", "iq3_xxs"),
                *("q2_k", "q2_k_s", "iq2_m", "iq2_s", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s"),
            ),
            "its own kernels, on CPUs and GPUs",
            "github.com/ggml-org/llama.cpp, README of its perplexity program",
            ("gguf",),
            makes="python convert_hf_to_gguf.py {model} --outfile model.gguf && "
            "llama-quantize model.gguf {format}.gguf {FORMAT}",
        ),
    ),
)
