"""What is in a checkpoint: its size, its configuration, and dense ones for what cannot be packed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bitlaw.errors import UserError
from bitlaw.export.export import export
from bitlaw.methods.stored import StoredLinear
from projects import ZOO
from tiny import tiny_model

Export = Callable[..., Any]
DENSE = {
    "nf4_b64": "float32",
    "int4_b16_centered": "float32",
    "mxfp8_e5m2_b32": "float32",  # of a float32 source
    "mxfp4_e2m1_b16": "float32",
    "dyn4_b64": "float32",
}


def parts(folder: Path, linear: str) -> dict[str, torch.Tensor]:
    tensors = load_file(folder / "model.safetensors")
    return {name: tensor for name, tensor in tensors.items() if name.startswith(f"{linear}.weight")}


@pytest.mark.parametrize(
    "name",
    [
        *("int2_b64", "int3_g32_sym", "int4_row", "int8_b128_sf32", "mxint3_b32", "mxfp6_e2m3_b32", "nvfp4_b16"),
        *("int4_g32_asym", "int5_g16_awq", "int8_g64_asym_sf32", "int3_g32_asym", "int4_row_asym"),
    ],
)
def test_the_file_is_as_large_as_the_bits_say(exported: Export, name: str) -> None:
    pytest.importorskip("compressed_tensors")
    one = exported(ZOO / "opt-0.4m", name)
    count = sum(weight.numel() for weight in one.weights.values())
    sizes = [
        tensor.nbytes
        for linear in one.weights
        for part, tensor in parts(one.folder, linear).items()
        if not part.endswith("weight_shape")
    ]
    assert 8 * sum(sizes) / count == pytest.approx(one.origin["file"]["bits"], rel=1e-9)
    assert one.origin["file"]["bits"] == pytest.approx(one.origin["effective_bits"], rel=0.01)
    others = sum(tensor.nbytes for tensor in load_file(one.folder / "model.safetensors").values()) - sum(sizes)
    # Sixteen bytes of shape and a few lines of header a linear, and where it comes from.
    header = (one.folder / "model.safetensors").stat().st_size - sum(sizes) - others
    assert header < 700 * len(one.weights) + 16384


def test_what_is_larger_than_the_format_says_so(exported: Export, tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors")
    source = tmp_path / "half"
    tiny_model("llama").bfloat16().save_pretrained(source)
    zeros = exported(source, "int4_g16_asym")  # with scales in float16
    assert zeros.origin["file"]["bits"] == pytest.approx(zeros.origin["effective_bits"] + 16 / 16)
    assert "scales are in 32 bits" in zeros.origin["note"]
    assert exported(source, "int4_g16_asym_sbf16").origin["file"]["dtype"] == "bfloat16"
    ternary = exported(ZOO / "opt-0.1m", "ternary_b64")
    assert ternary.origin["file"]["bits"] == pytest.approx(2.25) and "2 bits" in ternary.origin["note"]


def vllm_scheme(config: dict[str, Any]) -> str | None:
    """Return the scheme that vLLM's CompressedTensorsConfig chooses for each group of ``config``, in short.

    After ``_get_scheme_from_parts`` in vllm/model_executor/layers/quantization/compressed_tensors/
    compressed_tensors.py and the checks of schemes/compressed_tensors_wNa16.py.
    """
    chosen = set()
    for group in config["config_groups"].values():
        assert group["input_activations"] is None
        w, layout = group["weights"], group["format"] or config["format"]
        grouped = w["strategy"] in ("group", "channel")
        if (w["type"], w["num_bits"], w["strategy"], w["group_size"]) == ("float", 4, "tensor_group", 16):
            chosen.add("nvfp4")
        elif (w["type"], w["num_bits"], w["strategy"], w["group_size"]) == ("float", 4, "group", 32):
            chosen.add("mxfp4")
        elif (w["type"], w["num_bits"], w["strategy"], w["group_size"]) == ("float", 8, "group", 32):
            chosen.add("mxfp8")
        elif grouped and layout == "pack-quantized" and (w["symmetric"] or w["num_bits"] in (4, 8)):
            chosen.add("wNa16")
        else:
            chosen.add("none")
    return chosen.pop() if len(chosen) == 1 else "none"


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("int4_b64", "wNa16"),
        ("int8_row", "wNa16"),
        ("int3_g64_sym", "wNa16"),
        ("int4_g64_asym", "wNa16"),
        ("int3_g64_asym", "none"),
        ("int4_none", "none"),
        ("int4_g128_asym", "none"),  # rows of 64 and groups of 128
        ("mxint4_b32", "wNa16"),
        ("mxfp4_e2m1_b32", "mxfp4"),
        ("mxfp6_e2m3_b32", "none"),
        ("mxfp8_e4m3_b32", "mxfp8"),
        ("nvfp4_b16", "nvfp4"),
    ],
)
def test_the_configuration_is_one_that_vllm_takes(exported: Export, name: str, scheme: str) -> None:
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.quantization import QuantizationConfig, QuantizationScheme

    one = exported(ZOO / "neox-0.1m", name)
    config = json.loads((one.folder / "config.json").read_text())["quantization_config"]
    assert config["quant_method"] == "compressed-tensors" and config["quantization_status"] == "compressed"
    assert QuantizationConfig.model_validate(config).format == one.origin["file"]["layout"]
    for group in config["config_groups"].values():
        QuantizationScheme.model_validate(group)
    assert vllm_scheme(config) == scheme
    assert ("nothing" in one.origin["note"]) == (scheme == "none")
    assert {"lm_head", "embed_out"} <= set(config["ignore"])  # the module's name, and that in the file
    shapes = {name: tuple(weight.shape) for name, weight in one.weights.items()}
    if scheme == "wNa16":  # what CompressedTensorsWNA16.create_weights makes room for
        for linear, (rows, columns) in shapes.items():
            held = parts(one.folder, linear)
            bits = one.origin["file"]["groups"][0]["num_bits"]
            assert tuple(held[f"{linear}.weight_packed"].shape) == (rows, -(-columns * bits // 32))
            if f"{linear}.weight_zero_point" in held:
                assert held[f"{linear}.weight_zero_point"].shape[0] == -(-rows * bits // 32)


@pytest.mark.parametrize("name", DENSE)
def test_a_format_without_a_layout_is_written_dense(exported: Export, saved: Callable[[str], Path], name: str) -> None:
    from transformers import AutoModelForCausalLM

    one = exported(saved("llama"), name)
    file = one.origin["file"]
    assert not file["packed"] and file["dtype"] == DENSE[name] and "not smaller" in one.origin["note"]
    loaded: Any = AutoModelForCausalLM.from_pretrained(one.folder)
    assert str(loaded.dtype) == f"torch.{DENSE[name]}"
    for linear, weight in one.weights.items():
        assert torch.equal(loaded.get_parameter(f"{linear}.weight").float(), weight)
    assert "quantization_config" not in json.loads((one.folder / "config.json").read_text())


def test_powers_of_two_need_no_32_bits_when_dense(exported: Export) -> None:
    one = exported(ZOO / "gpt2-0.1m", "mxfp8_e5m2_b32")
    assert one.origin["file"]["bits"] == 16 and one.origin["file"]["dtype"] == "float16"


@pytest.mark.parametrize("name", ["int4_b64", "mxint4_b32"])
def test_conv1d_is_written_dense(exported: Export, name: str) -> None:
    from transformers import AutoModelForCausalLM

    one = exported(ZOO / "gpt2-0.1m", name)
    assert "Conv1D" in one.origin["file"]["reason"]
    loaded: Any = AutoModelForCausalLM.from_pretrained(one.folder)
    for linear, weight in one.weights.items():
        assert torch.equal(loaded.get_parameter(f"{linear}.weight").T.float(), weight)


def test_columns_that_a_method_keeps_make_it_dense(exported: Export, saved: Callable[[str], Path]) -> None:
    def scaled(q: Any) -> StoredLinear:
        return StoredLinear(q, input_scale=torch.linspace(1, 2, q.codes.shape[1]))

    one = exported(saved("llama"), "int4_b16", change=scaled)
    assert "scales of inputs" in one.origin["note"]


def test_dense_on_demand(exported: Export, saved: Callable[[str], Path]) -> None:
    assert "asked for" in exported(saved("llama"), "int4_b16", dense=True).origin["note"]


def test_without_compressed_tensors(
    exported: Export, saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "compressed_tensors"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "compressed_tensors", None)
    with pytest.raises(UserError, match=r"pip install 'bitlaw\[export\]'"):
        exported(saved("llama"), "int4_b16")
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]
    assert not exported(saved("llama"), "int4_b16", dense=True).origin["file"]["packed"]


def test_a_folder_with_something_in_it_is_left_alone(
    quantize: Any, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    artifact, _ = quantize(saved("llama"), "nf4_b64")
    where = {"pretrained": str(saved("llama")), "revision": None, "trust_remote_code": False}
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    for place in (full, full / "mine.txt"):
        with pytest.raises(UserError, match="something already"):
            export(artifact, where, {"model": "m"}, place)
    assert [path.name for path in full.iterdir()] == ["mine.txt"]
    empty = tmp_path / "empty"
    empty.mkdir()
    export(artifact, where, {"model": "m"}, empty)
    assert (empty / "config.json").is_file()


def test_weights_that_are_not_finite_are_refused(
    exported: Export, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    def bad(q: Any) -> StoredLinear:
        q.scales.block["scale"][0, 0] = torch.nan
        return StoredLinear(q)

    with pytest.raises(UserError, match="NaN or infinite"):
        exported(saved("llama"), "int4_b16", change=bad)
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]
