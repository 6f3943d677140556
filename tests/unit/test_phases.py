"""The stages of dvc.yaml agree with the stages of the workflow, and the phases ask for the right artifacts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bitlaw.errors import UserError
from bitlaw.stages import STAGES
from bitlaw.study.plan import FINAL
from bitlaw.workflow import Workflow
from projects import REPOSITORY, Project

PHASES = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text("utf-8"))["stages"]


def folders(phase: str) -> set[str]:
    """Return the folders of results that a phase makes."""
    paths = {path for out in PHASES[phase]["outs"] if isinstance(out, dict) for path in out}
    assert all(out[path]["persist"] for out in PHASES[phase]["outs"] if isinstance(out, dict) for path in out)
    return {path.removeprefix("results/") for path in paths}


def test_every_stage_has_its_folder_in_dvc() -> None:
    assert folders("measure") == {*STAGES, "text"} - set(FINAL)
    assert folders("report") == set(FINAL)
    made = PHASES["measure"]["cmd"][0].split()
    assert {f"results/{name}" for name in folders("measure")} == set(made[2:])


def stages(workflow: Workflow) -> set[str]:
    """Return the stages of the artifacts that a run asks for."""
    return {workflow.orders[path]["stage"] for path in workflow.targets(executing=False) if path in workflow.orders}


def test_measure_leaves_out_what_follows_from_the_cells(tmp_path: Path) -> None:
    project = Project(tmp_path / "p")
    cells = {"model", "calibrate", "factorize", "quantize", "evaluate"}
    assert stages(Workflow(project.root, {"phase": "measure"}, main=True)) == cells
    assert stages(Workflow(project.root, {}, main=True)) == {"table", "laws", "report"}
    project.pretend("evaluate")
    nothing = Workflow(project.root, {"phase": "measure"}, main=True).targets(executing=False)
    assert nothing == [str(project.root / "params.yaml")]


def test_a_phase_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--config phase: unknown phase 'mesure'; did you mean 'measure'"):
        Workflow(Project(tmp_path / "p").root, {"phase": "mesure"}, main=True)
