"""Output errors against the outputs themselves."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bitlaw.artifacts import read_json
from bitlaw.evaluation.output_error import output_error, sqnr_db
from bitlaw.methods.swap import read_weights
from bitlaw.models.calibration import moments
from bitlaw.models.linears import quantizable
from bitlaw.models.load import load_model
from bitlaw.study.make import make
from bitlaw.study.plan import order
from projects import Project
from tiny import tiny_model


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_equals_what_the_outputs_show(family: str) -> None:
    model = tiny_model(family)
    linears = quantizable(model)
    windows = torch.randint(0, 320, (6, 20), generator=torch.Generator().manual_seed(0))
    seen: dict[str, torch.Tensor] = {}
    for linear in linears:
        linear.module.register_forward_pre_hook(lambda _, args, name=linear.name: seen.update({name: args[0]}))
    of, found = moments(model, linears, windows)
    with torch.no_grad():
        model(windows)
    for linear in linears:
        w = linear.weight()
        changed = w + 0.01 * torch.randn(w.shape, generator=torch.Generator().manual_seed(1))
        signal, noise = output_error(w, changed, found[of[linear.name]].hessian)
        x = seen[linear.name].reshape(-1, w.shape[1]).double()
        outputs, errors = x @ w.T.double(), x @ (w - changed).T.double()
        assert signal == pytest.approx(float(outputs.square().sum(1).mean()), rel=1e-4)
        assert noise == pytest.approx(float(errors.square().sum(1).mean()), rel=1e-4)
        assert sqnr_db(signal, noise) == pytest.approx(10 * math.log10(signal / noise))


def test_many_rows_are_summed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from bitlaw.evaluation import output_error as module

    generator = torch.Generator().manual_seed(0)
    w, x = torch.randn(50, 8, generator=generator), torch.randn(100, 8, generator=generator)
    whole = output_error(w, w.round(), x.T @ x)
    monkeypatch.setattr(module, "ROWS", 7)
    assert output_error(w, w.round(), x.T @ x) == pytest.approx(whole, rel=1e-6)


def test_ratios_at_the_ends() -> None:
    assert sqnr_db(1.0, 0.0) == math.inf and sqnr_db(0.0, 1.0) == -math.inf
    assert math.isnan(sqnr_db(math.nan, 1.0)) and math.isnan(sqnr_db(1.0, math.nan))
    w = torch.randn(4, 8)
    assert output_error(w, w, torch.eye(8))[1] == 0.0
    assert math.isnan(output_error(w, w * torch.nan, torch.eye(8))[1])


def made(project: Project, stage: str) -> list[Path]:
    """Make all artifacts of ``stage`` and what they need; return their files."""
    found = []
    for artifact in project.artifacts():
        if artifact.stage in ("model", "calibrate", "factorize", "quantize", stage):
            make(order(artifact), project.root)
            found += [project.root / artifact.path] if artifact.stage == stage else []
    return found


def test_the_stage_knows_each_linear_and_the_model(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", output_sqnr=True, formats=["int3_b64"])
    rtn, gptq = (read_json(path) for path in made(project, "output_error"))
    names = [
        linear.name for linear in quantizable(load_model({"pretrained": str(project.root / "data/zoo/gpt2-0.1m")}))
    ]
    assert list(rtn["linears"]) == sorted(names)
    for result in (rtn, gptq):
        parts = result["linears"].values()
        assert all(part["output_sqnr_db"] == sqnr_db(part["signal"], part["noise"]) for part in parts)
        assert result["output_sqnr_db"] == sqnr_db(*(sum(part[name] for part in parts) for name in ("signal", "noise")))
    # GPTQ minimizes just this error, on just these inputs.
    assert gptq["output_sqnr_db"] > rtn["output_sqnr_db"] + 1


def test_who_asks_for_output_errors_gets_a_calibration(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", output_sqnr=True, methods=["rtn"])
    stages = [artifact.stage for artifact in project.artifacts()]
    assert [stages.count(name) for name in ("calibrate", "factorize", "output_error")] == [1, 0, 1]
    table = project.plan().grid.table
    assert ["output_error" in row for row in table.spec["rows"]] == [False, True]
    project.study(output_sqnr=False, methods=["rtn"])
    assert not {"calibrate", "output_error"} & {artifact.stage for artifact in project.artifacts()}


def test_weights_are_read_as_they_are_stored(tmp_path: Path, saved: Callable[[str], Path]) -> None:
    project = Project(tmp_path / "p", methods=["rtn"], formats=["int8_b64"])
    (path,) = made(project, "quantize")
    linears = quantizable(load_model({"pretrained": str(project.root / "data/zoo/gpt2-0.1m")}))
    weights, about = read_weights(path, linears)
    assert set(weights) == {linear.name for linear in linears} and (about["format"], about["method"]) == (
        "int8_b64",
        "rtn",
    )
    for linear in linears:
        assert torch.allclose(weights[linear.name], linear.weight(), atol=0.02 * float(linear.weight().abs().max()))
