"""vLLM: packed compressed-tensors checkpoints on a GPU."""

from __future__ import annotations

from bitlaw.advise.engine import Engine, Loads

_READ = "docs/export.md, from vLLM's own sources; run only for 4-bit integers on a CPU"
# What `bitlaw export` can pack: not AWQ's, for compressed-tensors has no place for scales of inputs.
_PACKED = ("rtn", "gptq")

ENGINE = Engine(
    title="vLLM",
    loads=(
        Loads(
            (
                "int{4,8}_g{32,64,128}_sym",
                "int{4,8}_row_sym",
                "int{4,8}_b{32,64,128}",
                "int{4,8}_row",
                "mxint{4,8}_b{32,64,128}",
                "int{4,8}_g{32,64,128}_asym",
                "int{4,8}_row_asym",
            ),
            "Marlin",
            _READ,
            _PACKED,
        ),
        Loads(("mxfp4_e2m1_b32",), "Marlin for FP4, activations in bfloat16", _READ, _PACKED),
        Loads(
            ("nvfp4_b16",),
            "Marlin for FP4",
            _READ,
            _PACKED,
            rounds="linears that vLLM fuses get one matrix scale, which changes their weights",
        ),
        Loads(
            ("int{2,3,5,6}_g{32,64,128}_sym", "int{2,3,5,6}_row_sym", "int{2,3,5,6}_b{32,64,128}", "mxint{3,5,6}_b32"),
            "Humming, on CUDA and if it is installed",
            f"{_READ}; vllm-project/vllm#45185",
            _PACKED,
        ),
        Loads(("mxfp8_e4m3_b32",), "an MXFP8 kernel", _READ, _PACKED, rounds="activations are rounded to MXFP8, too"),
    ),
)
