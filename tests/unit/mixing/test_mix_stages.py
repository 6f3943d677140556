"""Mixed cells from stage to stage, on a tiny model: what is quantized, what it takes, and what it loses."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from bitlaw.artifacts import read_json, read_tensors
from bitlaw.errors import UserError
from bitlaw.formats.grammar import parse
from bitlaw.methods import METHODS
from bitlaw.methods.stored import stored_linears
from bitlaw.models.linears import quantizable, swapped
from bitlaw.models.load import load_model
from bitlaw.stage import Header, Job
from bitlaw.stages import STAGES
from tiny import WORDS

SPEC = {"window": 32, "stride": 32, "max_tokens": 300, "batch": 4, "dtype": "float32", "compile": False, "variants": 1}


class Project:
    """A folder in which stages are run by hand."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root, self.location = root, {"pretrained": str(model), "revision": None, "trust_remote_code": False}
        (root / "text.txt").write_text(WORDS * 40, "utf-8")
        self.text = {"sha256": hashlib.sha256((root / "text.txt").read_bytes()).hexdigest()}
        self.model = self.run("model", {"source": {"source": "folder", "files": {}}})

    def run(self, stage: str, spec: Mapping[str, Any], name: str = "", **inputs: Path | tuple[Path, ...]) -> Path:
        made = STAGES[stage]
        out = self.root / f"{stage}{name}{made.suffix}"
        header = Header(stage, "0" * 32, spec, {role: ["1" * 32] for role in inputs}, "2" * 32)
        given = {role: paths if isinstance(paths, tuple) else (paths,) for role, paths in inputs.items()}
        hints = {"model": self.location, "text": str(self.root / "text.txt")}
        made.run(Job(header, given, out, self.root / "payload", hints))
        return out

    def quantized(self, fmt: str, method: str = "rtn") -> Path:
        settings = METHODS[method].Settings().model_dump(mode="json")
        spec = {"format": fmt, "method": method, "settings": settings}
        return self.run("quantize", spec, f"-{fmt}-{method}", model=self.model)

    def mix(self, share: float, granularity: str = "matmul", **more: Any) -> Path:
        spec = {"granularity": granularity, "q_ratio": share, "select": "random", "settings": {"seed": 0}, "trial": 0}
        inputs = {role: path for role, path in more.items() if isinstance(path, Path)}
        spec |= {name: value for name, value in more.items() if name not in inputs}
        return self.run("mix", spec, model=self.model, **inputs)

    def evaluated(self, **inputs: Any) -> Any:
        return read_json(self.run("evaluate", {"text": self.text, **SPEC}, model=self.model, **inputs))


@pytest.fixture
def project(saved: Callable[[str], Path], tmp_path: Path) -> Project:
    return Project(tmp_path, saved("llama"))


def weights_of(path: Path, fmt: str, location: Any) -> dict[str, torch.Tensor]:
    shapes = {linear.name: linear.shape for linear in quantizable(load_model(location))}
    return {name: one.weight() for name, one in stored_linears(read_tensors(path)[0], parse(fmt), shapes).items()}


@pytest.mark.parametrize("granularity", ["matmul", "layer"])
def test_a_mix_holds_what_it_says(project: Project, granularity: str) -> None:
    mix = read_json(project.mix(0.5, granularity))
    about = {one["name"]: math.prod(one["shape"]) for one in read_json(project.model)["linears"]}
    assert mix["weights"] == sum(about.values())
    assert mix["q_ratio"] == sum(about[name] for name in mix["low"]) / mix["weights"]
    assert mix["q_ratio"] == pytest.approx(0.5, abs=0.1)
    assert mix["cost"] is None
    if granularity == "layer":
        assert len({name.split(".")[2] for name in mix["low"]}) == mix["low_units"] == 1
        assert (mix["units"], mix["ways"]) == (2, 2.0)


def test_a_trial_is_that_of_its_number_and_seed(project: Project) -> None:
    first = read_json(project.mix(0.5))
    assert read_json(project.mix(0.5)) == first
    others = [read_json(project.mix(0.5, trial=trial))["low"] for trial in range(1, 6)]
    others += [read_json(project.mix(0.5, settings={"seed": seed}))["low"] for seed in range(1, 6)]
    assert any(other != first["low"] for other in others[:5])
    assert any(other != first["low"] for other in others[5:])


@pytest.mark.parametrize("method", ["rtn", "proxy"])
def test_a_mixed_cell_takes_the_bits_that_are_packed(project: Project, method: str) -> None:
    low, high = project.quantized("int3_b64", method), project.quantized("int8_b64", method)
    mix = project.mix(0.6)
    chosen = set(read_json(mix)["low"])
    for artifacts in ((low,), (low, high)):
        result = project.evaluated(quantized=artifacts, mix=mix)["quantized"]
        bits = 0
        tensors = [read_tensors(path)[0] for path in artifacts]
        for linear in quantizable(load_model(project.location)):
            own = tensors[0] if linear.name in chosen else tensors[-1]
            if linear.name in chosen or len(artifacts) == 2:
                bits += sum(8 * part.nbytes for name, part in own.items() if name.startswith(f"{linear.name}/"))
            else:
                bits += 16 * linear.weight().numel()
        assert result["effective_bits"] == bits / result["weights"]
        assert result["high"] == ("int8_b64" if len(artifacts) == 2 else None)
        assert (result["format"], result["method"]) == ("int3_b64", method)
        if method == "rtn":
            assert 1 - result["kept"] / result["weights"] == pytest.approx(read_json(mix)["q_ratio"])


def test_a_mixed_cell_computes_with_the_weights_of_the_mix(project: Project) -> None:
    from bitlaw.evaluation.nll import nll
    from bitlaw.models.tokens import tokens_of

    low, high, mix = project.quantized("int3_b64"), project.quantized("int8_b64"), project.mix(0.5)
    chosen = set(read_json(mix)["low"])
    model = load_model(project.location)
    linears = quantizable(model)
    parts = [weights_of(path, fmt, project.location) for path, fmt in ((low, "int3_b64"), (high, "int8_b64"))]
    tokens = tokens_of(project.location, project.root / "text.txt", project.text["sha256"], 300)
    for artifacts in ((low,), (low, high)):
        mixed = {name: weight for name, weight in parts[0].items() if name in chosen}
        mixed |= {} if len(artifacts) == 1 else {n: w for n, w in parts[1].items() if n not in chosen}
        with swapped(linears, mixed):
            expected = nll(model, tokens.ids, 32, 32, 4).nll
        found = project.evaluated(quantized=artifacts, mix=mix)
        assert found["nll"] == expected
        before = {linear.name: linear.weight() for linear in linears}
        noise = sum(float((before[name] - weight).square().sum()) for name, weight in mixed.items())
        signal = sum(float(weight.square().sum()) for weight in before.values())
        assert found["quantized"]["sqnr_db"] == pytest.approx(10 * math.log10(signal / noise), abs=1e-3)
    assert project.evaluated()["quantized"] is None


def test_a_mix_by_costs_quantizes_what_costs_least(project: Project) -> None:
    low, high = project.quantized("int3_b64"), project.quantized("int8_b64")
    calibration = {"text": project.text, "samples": 3, "length": 32, "seed": 0}
    spec = {"select": "loss", "settings": {}, "calibration": calibration}
    costs, dear = (
        project.run("sensitivity", spec, name, model=project.model, quantized=path)
        for name, path in (("-low", low), ("-high", high))
    )
    by_loss = {"select": "loss", "settings": {}, "trial": None}
    mix = read_json(project.mix(0.5, costs=costs, **by_loss))
    known = read_json(costs)["costs"]
    assert mix["cost"] == pytest.approx(sum(known[name] for name in mix["low"]))
    trials = [read_json(project.mix(0.5, trial=trial)) for trial in range(20)]
    assert all(trial["q_ratio"] == mix["q_ratio"] for trial in trials)
    assert all(mix["cost"] <= sum(known[name] for name in trial["low"]) + 1e-12 for trial in trials)
    other = read_json(project.mix(0.5, costs=costs, high=dear, **by_loss))
    assert other["cost"] == pytest.approx(sum(known[name] - read_json(dear)["costs"][name] for name in other["low"]))


def test_costs_by_output_errors(project: Project) -> None:
    calibration = {"text": project.text, "samples": 3, "length": 32, "seed": 0}
    moments = project.run("calibrate", calibration, model=project.model)
    known = {"model": project.model, "quantized": project.quantized("int3_b64")}
    errors = project.run("output_error", {}, calibration=moments, **known)
    path = project.run("sensitivity", {"select": "output_error", "settings": {}}, output_error=errors, **known)
    found = read_json(path)["costs"]
    assert set(found) == {linear.name for linear in quantizable(load_model(project.location))}
    assert all(cost > 0 for cost in found.values())


def test_a_cost_that_is_no_number_is_an_error(project: Project) -> None:
    from bitlaw.artifacts import write_json

    names = [one["name"] for one in read_json(project.model)["linears"]]
    path = project.root / "costs.json"
    write_json(path, Header("sensitivity", "0" * 32, {}, {}, ""), {"costs": dict.fromkeys(names, math.nan)})
    with pytest.raises(UserError, match="is not a finite number"):
        project.mix(0.5, costs=path, select="loss", settings={}, trial=None)
