"""Matrices worked on together: the same weights and sums as one by one, whatever is stacked with what."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from bitlaw.formats.grammar import parse
from bitlaw.methods import METHODS, stacks
from bitlaw.methods.awq_search import Search
from bitlaw.methods.squares import SquareSums
from bitlaw.methods.work import Work
from bitlaw.models.linears import quantizable
from bitlaw.models.load import load_model
from bitlaw.study.make import make_missing
from projects import ZOO, Project

FORMATS = ("int3_b32", "mxfp4_e2m1_b32", "int4_g128_asym", "fp4_e2m1_b64", "quantile4_b64", "int4_none", "nvfp4_b16")


@pytest.fixture
def stacked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stack as on a GPU; return how many matrices each stack held."""
    seen: list[int] = []
    own = stacks.stacks

    def counted(matrices: list[torch.Tensor]) -> list[list[int]]:
        found = list(own(matrices))
        seen.extend(map(len, found))
        return found

    monkeypatch.setattr(stacks, "together", lambda matrix: matrix.numel() <= stacks.MOST)
    monkeypatch.setattr(stacks, "stacks", counted)
    return seen


def test_what_lies_together_has_one_width_and_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [(4, 8), (2, 8), (4, 16), (30, 8), (1, 8), (5, 16)]
    matrices = [torch.zeros(shape) for shape in shapes] + [torch.zeros(4, 8).half()]
    assert list(stacks.stacks(matrices)) == [[i] for i in range(7)]  # on a CPU
    monkeypatch.setattr(stacks, "together", lambda matrix: matrix.numel() <= stacks.MOST)
    assert sorted(stacks.stacks(matrices)) == [[0, 1, 3, 4], [2, 5], [6]]
    monkeypatch.setattr(stacks, "MOST", 50)
    assert sorted(stacks.stacks(matrices)) == [[0, 1], [2], [3], [4], [5], [6]]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("model", ["gpt2-0.1m", "llama-0.1m"])
def test_rounding_together_changes_no_bit(stacked: list[int], name: str, model: str) -> None:
    loaded = load_model({"pretrained": str(ZOO / model)})
    work, fmt, rtn = Work(loaded, quantizable(loaded)), parse(name), METHODS["rtn"]
    found = {linear.name: stored for linear, stored, _ in rtn.quantize_model(work, fmt, rtn.Settings())}
    assert (max(stacked, default=1) > 1) == fmt.by_rows
    assert found.keys() == {linear.name for linear in work.linears}
    for linear in work.linears:
        expected = fmt.quantize(linear.weight())
        assert torch.equal(found[linear.name].weight(), fmt.dequantize(expected))
        assert torch.equal(found[linear.name].quantized.codes, expected.codes)
        # Codes that were made are what is decoded.
        assert torch.equal(found[linear.name].quantized.weight(), fmt.dequantize(expected))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", FORMATS)
def test_a_gpu_rounds_together_what_a_cpu_rounds_one_by_one(name: str) -> None:
    fmt, rtn, sums = parse(name), METHODS["rtn"], SquareSums()
    loaded = load_model({"pretrained": str(ZOO / "llama-0.1m"), "device": "cuda"})
    work = Work(loaded, quantizable(loaded))
    for linear, stored, _ in rtn.quantize_model(work, fmt, rtn.Settings()):
        expected = fmt.dequantize(fmt.quantize(linear.weight().cpu()))
        assert torch.equal(stored.weight().cpu(), expected)
        assert torch.equal(stored.quantized.codes.cpu(), fmt.quantize(linear.weight().cpu()).codes)
        sums.add(linear.name, linear.weight(), stored.weight())
    found = sums.found()
    for linear in work.linears:
        assert found[linear.name].signal == pytest.approx(float(linear.weight().double().square().sum()), rel=1e-12)


def test_sums_are_those_of_each_matrix(stacked: list[int]) -> None:
    draw = torch.Generator().manual_seed(0)
    exact = {f"{i}": torch.randn(shape, generator=draw) for i, shape in enumerate([(4, 8), (300, 8), (4, 16), (7, 8)])}
    rounded = {name: w + 0.1 * torch.randn(w.shape, generator=draw) for name, w in exact.items()}
    rounded["3"][2, 5] = math.inf
    exact["2"] *= 1e30  # its square is beyond float32
    sums = SquareSums()
    for name, w in exact.items():
        sums.add(name, w, rounded[name])
    found = sums.found()
    assert sorted(stacked) == [1, 3]
    for name, w in exact.items():
        double, change = w.double(), w.double() - rounded[name].double()
        assert found[name].signal == pytest.approx(float(double.square().sum()), rel=1e-14)
        assert found[name].noise == pytest.approx(float(change.square().sum()), rel=1e-14)
        assert found[name].finite == (name != "3")
    assert SquareSums().found() == {}


def test_a_study_does_not_depend_on_stacks(tmp_path: Path, stacked: list[int]) -> None:
    grid: Mapping[str, object] = {
        "models": [{"source": "zoo", "name": "llama-0.1m"}],
        "formats": list(FORMATS[:5]),
        "methods": ["rtn", "gptq", "awq"],
        "output_sqnr": True,
        "mixes": [{"q_ratio": [0.5], "granularity": "layer", "select": "random", "trials": 2}],
    }
    until = {"model", "calibrate", "factorize", "quantize", "mix", "output_error", "evaluate"}

    def cells(name: str) -> dict[str, bytes]:
        project = Project(tmp_path / name, **grid)
        assert not make_missing(project.plan(), until, hold=("calibrate", "factorize", "quantize"))
        return {path: (project.root / "results" / path).read_bytes() for path in project.results()}

    together = cells("together")
    assert max(stacked) > 1
    stacks.together = lambda matrix: False  # the fixture gives it back
    stacked.clear()
    assert cells("apart") == together
    assert set(stacked) == {1}


class Operators(TorchDispatchMode):
    """Counts the operators that do something: on a GPU each is a launch."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["mxfp4_e2m1_b32", "int4_g128_asym"])
def test_a_deeper_model_takes_no_more_launches(stacked: list[int], name: str) -> None:
    fmt = parse(name)

    def launches(blocks: int) -> int:
        config = LlamaConfig(
            vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=blocks, num_attention_heads=2
        )
        loaded = LlamaForCausalLM(config).eval()
        rtn, sums, operators = METHODS["rtn"], SquareSums(), Operators()
        with torch.no_grad(), operators:
            for linear, stored, _ in rtn.quantize_model(Work(loaded, quantizable(loaded)), fmt, rtn.Settings()):
                sums.add(linear.name, linear.weight(), stored.weight())
            sums._flush()
        return operators.count

    assert 0 < launches(9) == launches(2) < 50
    assert max(stacked) == 9 * 6


@pytest.mark.parametrize("name", FORMATS[:5])
@pytest.mark.parametrize("most", [2**24, 3000])
def test_awq_finds_the_same_together(stacked: list[int], monkeypatch: pytest.MonkeyPatch, name: str, most: int) -> None:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(500, 40, generator=draw) * torch.linspace(0.1, 4, 40)
    w, fmt = torch.randn(16, 40, generator=draw), parse(name)
    w[3, 7] = 30.0  # a range to shrink
    monkeypatch.setattr(stacks, "MOST", most)
    search = Search(2 / 500 * x.T @ x, x.abs().mean(0), fmt, n_grid=20, max_shrink=0.5)
    assert search._at_once(w) == (most // w.numel() if fmt.by_rows else 1)
    together = list(search.run([w, w.flip(0)], clip=True))
    monkeypatch.setattr(stacks, "together", lambda matrix: False)
    assert search._at_once(w) == 1
    for (one, told), (other, said) in zip(together, search.run([w, w.flip(0)], clip=True), strict=True):
        assert torch.equal(one.weight(), other.weight())
        assert told == pytest.approx(said, rel=1e-6)
        assert (told["clipped"] > 0) == (name != "mxfp4_e2m1_b32")  # a power of two as a scale leaves nothing to shrink
