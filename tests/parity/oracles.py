"""What other packages make of a matrix: one function a reference, ``(w, ...) -> float32`` of the same shape.

Each takes the weights to the package's codes and back, with the settings under which it means the same format as
bitlaw. A package that is not installed skips the test that asks for it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor


def package(name: str) -> Any:
    """Import a module of another package, or skip the test and say which package is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)  # several warn that there is no GPU
        try:
            return pytest.importorskip(name, reason=f"{name.partition('.')[0]} is not installed", exc_type=ImportError)
        finally:
            logging.disable(logging.NOTSET)


LEAST_STEP = 2.0**-149
"""float32's smallest positive number. auto-round and torchao raise smaller steps to a setting, for the sake of float16;
zero would turn an all-zero block into NaN."""

# auto-round (Intel)

AUTO_ROUND_MX = {
    "mxfp4_e2m1": "mx_fp4e2m1",
    "mxfp6_e2m3": "mx_fp6e2m3",
    "mxfp6_e3m2": "mx_fp6e3m2",
    "mxfp8_e4m3": "mx_fp8e4m3",
    "mxfp8_e5m2": "mx_fp8e5m2",
    "mxint2": "mx_int2",
    "mxint4": "mx_int4",
    "mxint8": "mx_int8",
}


def auto_round_mx(w: Tensor, element: str, block: int, rule: str = "floor") -> Tensor:
    mxfp = package("auto_round.data_type.mxfp")
    quantize = {"floor": mxfp.quant_mx, "rceil": mxfp.quant_mx_rceil}[rule]
    return quantize(w, data_type=AUTO_ROUND_MX[element], group_size=block)[0]


def auto_round_asym(w: Tensor, bits: int, block: int) -> Tensor:
    integers = package("auto_round.data_type.int")
    return integers.quant_tensor_asym(w, bits, block, scale_dtype=torch.float32, q_scale_thresh=LEAST_STEP)[0]


def auto_round_sym(w: Tensor, bits: int, block: int) -> Tensor:
    integers = package("auto_round.data_type.int")
    return integers.quant_tensor_sym_gptq(w, bits, block, scale_dtype=torch.float32, q_scale_thresh=LEAST_STEP)[0]


# torchao (PyTorch)

TORCHAO_MX = {
    "mxfp4_e2m1": torch.float4_e2m1fn_x2,
    "mxfp6_e2m3": "fp6_e2m3",
    "mxfp6_e3m2": "fp6_e3m2",
    "mxfp8_e4m3": torch.float8_e4m3fn,
    "mxfp8_e5m2": torch.float8_e5m2,
}


def torchao_mx(w: Tensor, element: str, block: int, rule: str = "floor") -> Tensor:
    mx = package("torchao.prototype.mx_formats.mx_tensor")
    mode = package("torchao.prototype.mx_formats.config").ScaleCalculationMode[rule.upper()]
    return mx.MXTensor.to_mx(w, TORCHAO_MX[element], block, mode).dequantize(torch.float32)


def torchao_nvfp4(w: Tensor) -> Tensor:
    nvfp4 = package("torchao.prototype.mx_formats.nvfp4_tensor")
    scale = nvfp4.per_tensor_amax_to_scale(w.abs().amax())
    return nvfp4.NVFP4Tensor.to_nvfp4(w, per_tensor_scale=scale).dequantize(torch.float32)


def torchao_asym(w: Tensor, bits: int, block: int) -> Tensor:
    primitives = package("torchao.quantization.quant_primitives")
    size, ends = (1, block), (0, 2**bits - 1)
    kind = primitives.MappingType.ASYMMETRIC
    scale, zero = primitives.choose_qparams_affine(
        w, kind, size, torch.uint8, *ends, eps=LEAST_STEP, scale_dtype=torch.float32
    )
    codes = primitives.quantize_affine(w, size, scale, zero, torch.uint8, *ends)
    return primitives.dequantize_affine(codes, size, scale, zero, torch.uint8, *ends)


def torchao_sym(w: Tensor, bits: int, block: int) -> Tensor:
    """Return the narrow range: ``-(2^(bits-1) - 1)..2^(bits-1) - 1``."""
    primitives = package("torchao.quantization.quant_primitives")
    size, top = (1, block), 2 ** (bits - 1) - 1
    kind = primitives.MappingType.SYMMETRIC
    scale, zero = primitives.choose_qparams_affine(
        w, kind, size, torch.int8, -top, top, eps=LEAST_STEP, scale_dtype=torch.float32
    )
    codes = primitives.quantize_affine(w, size, scale, zero, torch.int8, -top, top)
    return primitives.dequantize_affine(codes, size, scale, zero, torch.int8, -top, top)


# compressed-tensors (vLLM)


def compressed_int(w: Tensor, bits: int, block: int, *, symmetric: bool) -> Tensor:
    quantization = package("compressed_tensors.quantization")
    args = quantization.QuantizationArgs(
        num_bits=bits, type="int", strategy="group", group_size=block, symmetric=symmetric
    )
    return _compressed(w, block, args)


def compressed_mx(w: Tensor, bits: int, block: int = 32) -> Tensor:
    """Return E2M1 for 4 bits, E2M3 for 6 and E4M3 for 8; always with the rule "even"."""
    quantization = package("compressed_tensors.quantization")
    helpers = package("compressed_tensors.quantization.utils.mxfp_utils")
    args = quantization.QuantizationArgs(
        num_bits=bits,
        type="float",
        strategy="group",
        group_size=block,
        scale_dtype=torch.uint8,
        zp_dtype=torch.uint8,
    )
    if block == 32 and not helpers.should_generate_mx_scales(args):
        pytest.skip(f"this compressed-tensors has no MXFP{bits}")
    return _compressed(w, block, args)


def _compressed(w: Tensor, block: int, args: Any) -> Tensor:
    quantization = package("compressed_tensors.quantization")
    helpers = package("compressed_tensors.quantization.utils")
    blocks = w.unflatten(-1, (-1, block))
    scale, zero = helpers.calculate_qparams(blocks.amin(-1), blocks.amax(-1), args)
    return quantization.fake_quantize(w, scale, zero, args)


# bitsandbytes. Its blocks run over the flattened matrix, so the columns given must be a multiple of the block.


def bitsandbytes_4bit(w: Tensor, kind: str, block: int) -> Tensor:
    functional = package("bitsandbytes.functional")
    codes, state = functional.quantize_4bit(w, blocksize=block, quant_type=kind)
    return functional.dequantize_4bit(codes, state)


def bitsandbytes_4bit_values(kind: str) -> Tensor:
    """Return the 16 values, rising, as its decoder has them."""
    functional = package("bitsandbytes.functional")
    return functional.get_4bit_type(kind, device="cpu").float().unique()


def bitsandbytes_values(element: str) -> Tensor:
    """Return the distinct values, rising, of ``dyn4`` (all bits but the sign may be exponent) or ``fp4_e2m1``."""
    functional = package("bitsandbytes.functional")
    bits = int(element.removeprefix("dyn").removeprefix("fp")[0])
    if element.startswith("dyn"):
        table = functional.create_dynamic_map(True, bits - 1, bits)
    else:
        exponent_bits, mantissa_bits = int(element[-3]), int(element[-1])
        table = functional.create_fp8_map(True, exponent_bits, mantissa_bits, bits)
    # Tables of fewer than 8 bits are filled up with zeros to 256 entries.
    assert len(table) == 256
    return table.unique()


def bitsandbytes_blockwise(w: Tensor, values: Tensor, block: int) -> Tensor:
    """Return the nearest of ``values`` in each block scaled to [-1, 1].

    For float32 weights its CPU kernel is approximate. For float64 weights the same operator takes a plain PyTorch path
    (in float32, by the least distance), which is the one compared.
    """
    package("bitsandbytes")
    codes, absmax = torch.ops.bitsandbytes.quantize_blockwise.default(w.double(), _table(values), block)
    return (_table(values)[codes.long()].view(-1, block) * absmax.view(-1, 1)).view_as(w)


def bitsandbytes_blockwise_kernel(w: Tensor, values: Tensor, block: int) -> Tensor:
    """Return what its CPU kernel for float32 makes of it."""
    functional = package("bitsandbytes.functional")
    codes, state = functional.quantize_blockwise(w, code=_table(values), blocksize=block)
    return functional.dequantize_blockwise(codes, state)


def _table(values: Tensor) -> Tensor:
    return torch.cat([values, values.new_zeros(256 - len(values))]).sort().values


# gguf (llama.cpp)


def gguf_mxfp4(w: Tensor) -> Tensor:
    quants = package("gguf.quants")
    kind = package("gguf").GGMLQuantizationType.MXFP4
    return torch.from_numpy(quants.dequantize(quants.quantize(w.numpy(), kind), kind))


# AutoAWQ. Its package needs CUDA kernels; this is written anew from what its pseudo_quantize_tensor computes
# (casper-hansen/AutoAWQ, release 0.2.9), and gives the same weights.


def awq_pseudo_quantize(w: Tensor, bits: int, block: int, *, zero_point: bool) -> Tensor:
    groups = w.reshape(-1, block)
    if zero_point:
        low, width = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True) - groups.amin(1, keepdim=True)
        step = width.clamp(min=1e-5) / (2**bits - 1)
        zero = (-(low / step).round()).clamp(0, 2**bits - 1)
        code = ((groups / step).round() + zero).clamp(0, 2**bits - 1)
    else:
        half = 2 ** (bits - 1)
        step = groups.abs().amax(1, keepdim=True).clamp(min=1e-5) / (half - 1)
        zero = torch.zeros_like(step)
        code = (groups / step).round().clamp(-half, half - 1)
    return ((code - zero) * step).reshape(w.shape)


# llm-compressor (vLLM)


def llm_compressor_gptq(
    w: Tensor, hessian: Tensor, bits: int, block: int, *, symmetric: bool, act_order: bool
) -> Tensor:
    """Return GPTQ with scales from the weights as given, in the order of the columns or of H's diagonal."""
    quantization = package("compressed_tensors.quantization")
    helpers = package("compressed_tensors.quantization.utils")
    gptq = package("llmcompressor.modifiers.gptq.gptq_quantize")
    args = quantization.QuantizationArgs(
        num_bits=bits,
        type="int",
        strategy="group",
        group_size=block,
        symmetric=symmetric,
        actorder="weight" if act_order else None,
    )
    # llm-compressor takes scales from all weights; the authors and bitlaw from those whose input is not always zero.
    blocks = (w * (hessian.diagonal() != 0)).unflatten(-1, (-1, block))
    scale, zero = helpers.calculate_qparams(blocks.amin(-1), blocks.amax(-1), args)
    batch = [part.unsqueeze(0).clone() for part in (w, hessian, scale, zero)]
    quantized, _, fell_back = gptq.quantize_weight(*batch, None, args, blocksize=128, percdamp=0.01)
    assert not fell_back.any()
    return quantized[0]


# The authors of GPTQ (IST-DASLab)

AUTHORS = "BITLAW_IST_GPTQ"


def authors_program(
    w: Tensor, hessian: Tensor, bits: int, *, symmetric: bool, group: int, act_order: bool, static: bool
) -> Tensor:
    """Return what the authors' program makes of ``w``: commit 2d65066, in the folder that ``$BITLAW_IST_GPTQ`` names.

    It waits for a GPU, which there need not be, and prints times.
    """
    if not (folder := os.environ.get(AUTHORS)):
        pytest.skip(f"${AUTHORS} names no checkout of IST-DASLab/gptq")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        patch.syspath_prepend(folder)
        patch.setattr(torch.cuda, "synchronize", lambda: None)
        program, quantizers = importlib.import_module("gptq"), importlib.import_module("quant")
        layer = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
        layer.weight.copy_(w)
        run = program.GPTQ(layer)
        run.H = hessian.clone()
        run.quantizer = quantizers.Quantizer()
        run.quantizer.configure(bits, perchannel=True, sym=symmetric, mse=False)
        run.fasterquant(percdamp=0.01, groupsize=group, actorder=act_order, static_groups=static)
    return layer.weight.detach()
