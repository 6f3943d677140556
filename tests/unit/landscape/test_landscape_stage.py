"""From the section of a study to artifacts and columns, on the smallest model of the zoo."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from bitlaw.artifacts import read_json, read_table
from bitlaw.cli.main import main
from bitlaw.errors import UserError
from bitlaw.evaluation.nll import nll
from bitlaw.landscape.columns import LANDSCAPE_COLUMNS, noise_sensitivity
from bitlaw.landscape.vectors import KINDS, moved
from bitlaw.models.linears import quantizable, swapped
from bitlaw.models.load import load_model
from bitlaw.models.tokens import tokens_of
from bitlaw.study.artifact import Artifact
from projects import ZOO, Project

ASKED = {"tokens": 192, "window": 32, "batch": 4, "points": 13, "directions": 2, "probes": 2, "lanczos": 2}


def project_in(root: Path, **changes: Any) -> Project:
    return Project(root, **{"methods": ["rtn"], "formats": ["int8_b64", "int3_b64"], **changes})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose study has been run."""
    project = project_in(tmp_path_factory.mktemp("landscape") / "p", landscape=ASKED)
    assert main(["run", "--root", str(project.root)]) == 0
    return project


def landscapes(project: Project) -> dict[str, Artifact]:
    return {artifact.label: artifact for artifact in project.artifacts() if artifact.stage == "landscape"}


def result(project: Project, label: str) -> Any:
    return read_json(project.root / landscapes(project)[label].path)


def test_a_model_has_profiles_and_curvature(project: Project) -> None:
    found = result(project, "gpt2-0.1m")
    assert set(found["radial"]) == set(KINDS)
    for radial in found["radial"].values():
        assert len(radial["delta_nll"]) == len(radial["seeds"]) == 2
        assert (radial["r_db"][0], radial["r_db"][-1], len(radial["r_db"])) == (-60, 0, 13)
        for profile in radial["delta_nll"]:
            assert abs(profile[0]) < 0.02 < 1 < profile[-1]
        assert 5 < radial["step"]["step_db"] < 30 and radial["step"]["step_error_db"] < 5
    assert found["curvature"]["trace"]["value"] > 0 < found["curvature"]["extremes"]["top"]
    assert found["n_tokens"] == 6 * 31 and found["n_weights"] == 98_304
    # The cost that docs/landscape.md states.
    assert found["cost"] == {"forwards": 1 + 2 * 2 * 13, "hvps": 2 + 2}


def test_its_profile_is_the_loss_of_the_perturbed_model(project: Project) -> None:
    artifact = landscapes(project)["gpt2-0.1m"]
    location = {"pretrained": str(ZOO / "gpt2-0.1m")}
    text = artifact.hints["text"]
    ids = tokens_of(location, Path(text), artifact.spec["text"]["sha256"], 192).ids
    model = load_model(location)
    linears = quantizable(model)
    weights = {linear.name: linear.weight() for linear in linears}
    found = result(project, "gpt2-0.1m")
    assert found["loss"] == pytest.approx(nll(model, ids, 32, 32, 4).nll, abs=1e-5)
    for kind, radial in found["radial"].items():
        direction = KINDS[kind](weights, radial["seeds"][1])
        for at in (6, 12):
            with swapped(linears, moved(weights, direction, 10 ** (radial["r_db"][at] / 20))):
                expected = nll(model, ids, 32, 32, 4).nll - found["loss"]
            assert radial["delta_nll"][1][at] == pytest.approx(expected, abs=1e-4)


def test_a_cell_has_its_prediction_and_its_own_profile(project: Project) -> None:
    fine, coarse = (result(project, f"gpt2-0.1m/{fmt}-rtn") for fmt in ("int8_b64", "int3_b64"))
    for found in (fine, coarse):
        assert found["cost"] == {"forwards": 2 + 13, "hvps": 1}
        quantized = next(a for a in project.artifacts() if a.label == f"gpt2-0.1m/{found['quantized']['format']}-rtn")
        assert found["sqnr_db"] == pytest.approx(_sqnr(project, quantized.label), abs=0.01)
    # The profile goes through the cell's own place.
    r_db, profile = coarse["radial"]["r_db"], coarse["radial"]["delta_nll"][0]
    above = next(i for i, r in enumerate(r_db) if r > -coarse["sqnr_db"])
    assert profile[above - 1] < coarse["delta_nll"] < profile[above]
    # Where the error is small the prediction is what is measured; where it is large it need not be.
    predicted = fine["gradient_term"] + fine["curvature_term"]
    assert predicted == pytest.approx(fine["delta_nll"], abs=2e-5)
    assert coarse["curvature_term"] > 100 * fine["curvature_term"] > 0


def _sqnr(project: Project, label: str) -> float:
    from bitlaw.artifacts import read_tensors_result

    made = next(a for a in project.artifacts() if a.stage == "quantize" and a.label == label)
    return float(read_tensors_result(project.root / made.path)["sqnr_db"])


def test_the_table_has_it(project: Project) -> None:
    table = read_table(project.root / project.plan().grid.table.path).set_index("format")
    model, cell = result(project, "gpt2-0.1m"), result(project, "gpt2-0.1m/int3_b64-rtn")
    step, trace = model["radial"]["gaussian"]["step"], model["curvature"]["trace"]
    for fmt in table.index:
        row = table.loc[fmt]
        assert (row["step_db"], row["step_error_db"]) == (step["step_db"], step["step_error_db"])
        assert (row["step_width_db"], row["hessian_trace"]) == (step["width_db"], trace["value"])
        assert row["top_eigenvalue"] == model["curvature"]["extremes"]["top"]
        assert row["noise_sensitivity"] == noise_sensitivity(trace["value"], model["norm"], 98_304)
        assert row["landscape_tokens"] == 186 and row["landscape_text_sha256"] == row["text_sha256"]
    row = table.loc["int3_b64"]
    assert row["predicted_delta_nll"] == cell["gradient_term"] + cell["curvature_term"]
    assert row["error_step_db"] == cell["radial"]["step"]["step_db"]
    names = ["error_step_db", "error_step_width_db", "gradient_term", "curvature_term", "predicted_delta_nll"]
    assert table.loc["unquantized", names].isna().all() and not table.loc["int8_b64", names[2:]].isna().any()


def test_the_page_shows_it(project: Project) -> None:
    report = project.plan().grid.report
    assert report.spec["landscapes"] == ["gpt2-0.1m"]
    assert [one.key for one in report.parents["landscapes"]] == [landscapes(project)["gpt2-0.1m"].key]
    html = (project.root / report.path).read_text("utf-8")
    assert '<section id="landscape">' in html and "signal to noise of the weights" in html


def test_a_study_without_the_section_has_empty_columns(tmp_path: Path) -> None:
    project = project_in(tmp_path / "p", formats=["int4_b64"])
    assert not landscapes(project)
    assert main(["run", "--root", str(project.root)]) == 0
    table = read_table(project.root / project.plan().grid.table.path)
    assert table[list(LANDSCAPE_COLUMNS)].isna().all(axis=None)
    assert '<section id="landscape">' not in (project.root / project.plan().grid.report.path).read_text("utf-8")


def test_noise_of_the_strength_of_a_cell_adds_what_the_trace_says() -> None:
    assert noise_sensitivity(trace=8.0, norm=3.0, n_weights=4) == 9.0


# ---- the grid


def test_each_part_is_asked_for_by_itself(tmp_path: Path) -> None:
    project = project_in(tmp_path / "p", landscape={"along": ["error"], "error_points": 0})
    assert set(landscapes(project)) == {"gpt2-0.1m/int8_b64-rtn", "gpt2-0.1m/int3_b64-rtn"}
    project.study(landscape={"along": ["curvature"]})
    (only,) = landscapes(project).values()
    assert {"probes", "lanczos", "seed"} <= set(only.spec) and not {"kinds", "points"} & set(only.spec)
    project.study(landscape={"along": ["random"]})
    (only,) = landscapes(project).values()
    assert {"kinds", "points", "seed"} <= set(only.spec) and not {"probes", "lanczos"} & set(only.spec)
    project.study(landscape={"along": []})
    assert not landscapes(project)


@pytest.mark.parametrize(
    ("change", "models", "cells"),
    [
        ({"probes": 3}, True, False),
        ({"seed": 1}, True, False),
        ({"points": 5}, True, False),
        ({"error_points": 5}, False, True),
        ({"tokens": 128}, True, True),
        ({"text": {"source": "file", "path": "other.txt"}}, True, True),
    ],
)
def test_a_setting_changes_the_keys_of_what_it_is_about(
    tmp_path: Path, change: dict[str, Any], models: bool, cells: bool
) -> None:
    project = project_in(tmp_path / "p", formats=["int4_b64"], landscape={})
    (project.root / "other.txt").write_text("Another text.\n" * 100)
    before = landscapes(project)
    evaluated = {a.key for a in project.artifacts() if a.stage == "evaluate"}
    project.study(methods=["rtn"], formats=["int4_b64"], landscape=change)
    after = landscapes(project)
    assert (before["gpt2-0.1m"].key != after["gpt2-0.1m"].key) == models
    cell = "gpt2-0.1m/int4_b64-rtn"
    assert (before[cell].key != after[cell].key) == cells
    assert evaluated == {a.key for a in project.artifacts() if a.stage == "evaluate"}


def test_only_its_own_modules_are_in_its_key() -> None:
    from bitlaw.study.artifact import code_modules
    from bitlaw.study.fingerprint import closure

    behind = closure(code_modules("landscape", {}))
    assert "bitlaw.landscape.surface" in behind and "bitlaw.evaluation.nll" not in behind
    assert not any(name.startswith(("bitlaw.study", "bitlaw.report", "bitlaw.laws")) for name in behind)
    table = closure(code_modules("table", {"rows": []}))
    assert "bitlaw.landscape.columns" in table and "bitlaw.landscape.surface" not in table


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"along": ["errors"]}, "unknown along 'errors'; did you mean 'error'"),
        ({"along": ["error", "error"]}, "'error' is there twice"),
        ({"error_points": 1}, "must be 0 for no profile or at least 2 points, not 1"),
        ({"probe": 3}, "did you mean 'probes'"),
        ({"text": {"source": "file", "path": "nowhere.txt"}}, "landscape.text"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, section: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        project_in(tmp_path / "p", landscape=section).plan()
    assert "\n" not in str(error.value) and "small.yaml" in str(error.value)


def test_a_window_that_the_model_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = project_in(tmp_path / "p", formats=[], methods=[], landscape={"window": 512, "along": ["curvature"]})
    assert main(["run", "--root", str(project.root)]) != 0
    assert "window is 512 tokens, but the model's context is 256" in capsys.readouterr().err


def test_weights_that_lose_nothing_or_all(tmp_path: Path) -> None:
    from bitlaw.landscape.surface import Surface, cut
    from bitlaw.landscape.vectors import Weights
    from bitlaw.stages import landscape as module
    from surfaces import text
    from tiny import tiny_model

    surface = Surface(tiny_model("llama").requires_grad_(False), cut(text(40), 20), 2)
    for value, sqnr in ((0.0, math.inf), (math.nan, math.nan)):
        error: Weights = {name: value + 0 * w for name, w in surface.weights.items()}
        found = module.along_error(surface, error, 3)
        assert found["sqnr_db"] == sqnr or math.isnan(sqnr)
        assert found["radial"] is None
        assert all(found[n] == value or math.isnan(value) for n in ("gradient_term", "curvature_term", "delta_nll"))
