"""Where a model is computed, and that one which does not fit is named with what it needs and what there is."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from bitlaw.artifacts import read_header
from bitlaw.errors import UserError
from bitlaw.models import device, load
from bitlaw.study.make import make_missing
from projects import Project

GPU = torch.cuda.is_available()
gpu = pytest.mark.skipif(not GPU, reason="there is no GPU")


def test_auto_is_what_there_is() -> None:
    assert device.resolve("auto") == ("cuda" if GPU else "cpu")
    assert device.resolve("cpu") == "cpu"
    assert device.name_of("cpu") == "cpu"


@pytest.mark.skipif(GPU, reason="there is a GPU")
@pytest.mark.parametrize("asked", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there(asked: str) -> None:
    with pytest.raises(UserError, match=f"device: {asked}, but torch .* sees no GPU here"):
        device.resolve(asked)


def test_the_device_is_no_part_of_keys_but_recorded(tmp_path: Path) -> None:
    project = Project(tmp_path, device="cpu", formats=[], methods=[])
    keys = [artifact.key for artifact in project.artifacts()]
    assert not make_missing(project.plan(), {"model", "evaluate"})
    (loss,) = tmp_path.glob("results/evaluate/**/*.json")
    assert read_header(loss)["made_with"]["device"] == "cpu"
    project.study(device="auto", formats=[], methods=[])
    assert [artifact.key for artifact in project.artifacts()] == keys


def test_a_device_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="device"):
        Project(tmp_path, device="gpu").plan()


def test_free_memory_is_that_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "meminfo"
    info.write_text("MemTotal:  4000 kB\nMemAvailable:  3000 kB\n")
    monkeypatch.setattr(device, "_MEMINFO", info)
    monkeypatch.setattr(device, "_LIMIT", tmp_path / "no")
    assert device.free_bytes("cpu") == 3000 * 1024
    (tmp_path / "limit").write_text("2000000\n")
    (tmp_path / "used").write_text("500000\n")
    monkeypatch.setattr(device, "_LIMIT", tmp_path / "limit")
    monkeypatch.setattr(device, "_USED", tmp_path / "used")
    assert device.free_bytes("cpu") == 1_500_000
    (tmp_path / "limit").write_text("max\n")
    assert device.free_bytes("cpu") == 3000 * 1024
    monkeypatch.setattr(device, "_MEMINFO", tmp_path / "no")
    assert device.free_bytes("cpu") is None
    device.check_room(10**18, "cpu", "anything")  # nobody knows


def test_a_model_that_does_not_fit_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "free_bytes", lambda where: 100_000)
    monkeypatch.setattr(load, "_models", OrderedDict())
    project = Project(tmp_path, device="cpu", formats=[], methods=[])
    failed = make_missing(project.plan(), {"model", "evaluate"})
    (path,) = failed
    assert "/evaluate/" in path
    told = str(failed[path])
    assert re.search(r"does not fit: the model in float32 needs \d+\.\d MB, and the machine has 0\.1 MB free$", told)


def test_running_out_of_memory_fails_that_cell_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A format that asks for more than there is; the unquantized model and another format go on."""
    from bitlaw.formats.base import Format

    encode = Format.quantize

    def greedy(self: Format, w: torch.Tensor, *args: Any) -> Any:
        return torch.empty(2**60, dtype=torch.int8) if str(self) == "int4_b64" else encode(self, w, *args)

    monkeypatch.setattr(Format, "quantize", greedy)
    project = Project(tmp_path, device="cpu", formats=["int4_b64", "int8_b64"], methods=["rtn"])
    failed: Mapping[str, Exception] = make_missing(project.plan(), {"model", "quantize", "evaluate"})
    quantized = [path for path in failed if "/quantize/" in path]
    assert len(quantized) == 1 and "int4_b64" in quantized[0] and len(failed) == 2
    told = str(failed[quantized[0]])
    assert "out of memory (machine, process " in told and "are free now" in told and "\n" not in told
    assert len(list(tmp_path.glob("results/evaluate/**/*.json"))) == 2


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    assert device.no_memory(RuntimeError("shapes do not match")) is None
    assert device.no_memory(MemoryError()) is not None


@gpu
def test_a_gpu_without_room() -> None:
    with pytest.raises(UserError, match=r"does not fit: a test needs .* GB, and the GPU has .* GB free"):
        device.check_room(10**15, "cuda", "a test")
    try:
        torch.empty(2**50, dtype=torch.int8, device="cuda")
    except torch.OutOfMemoryError as error:
        told = device.no_memory(error)
        assert told is not None and told.message.startswith("out of memory (GPU): CUDA out of memory")
