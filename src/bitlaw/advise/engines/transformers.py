"""transformers: bitsandbytes keeps NF4 in memory; compressed-tensors unpacks to 16 bits at first use."""

from __future__ import annotations

from bitlaw.advise.engine import Engine, Loads

_UNPACKED = "transformers 5.23, quantizer_compressed_tensors.py: unpacked while loading, or by the first forward pass"

ENGINE = Engine(
    title="transformers",
    loads=(
        Loads(
            ("nf4_b64",),
            "bitsandbytes, on a GPU: BitsAndBytesConfig(load_in_4bit=True), rounded while loading",
            "huggingface.co/docs/transformers/quantization/bitsandbytes",
            ("rtn",),
            makes="AutoModelForCausalLM.from_pretrained('{model}', quantization_config="
            "BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type='nf4'))",
        ),
        Loads(
            (
                "int{2..8}_g{32,64,128}_sym",
                "int{2..8}_g{32,64,128}_asym",
                "int{2..8}_row_sym",
                "int{2..8}_row_asym",
                "int{2..8}_b{32,64,128}",
                "mxint{2..8}_b32",
                "mxfp4_e2m1_b32",
                "mxfp6_e2m3_b32",
                "mxfp8_e4m3_b32",
                "nvfp4_b16",
            ),
            "compressed-tensors: small on disk, 16 bits a weight in memory",
            _UNPACKED,
            ("rtn", "gptq"),
            memory=16.0,
        ),
    ),
)
