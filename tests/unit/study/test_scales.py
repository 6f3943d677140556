"""Scales: the same study with some keys replaced, chosen in params.yaml or by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from bitlaw.errors import UserError
from bitlaw.study.load import load_study
from bitlaw.study.plan import Plan, present
from bitlaw.study.reach import reached, studies
from bitlaw.workflow import Workflow
from projects import Project

SCALES = {"tiny": {"formats": ["int3_b64"], "calibration": {"samples": 1}}, "other": {"seed": 3}}


def project(root: Path) -> Project:
    return Project(root / "p", scales=SCALES)


def test_a_scale_replaces_what_it_says(tmp_path: Path) -> None:
    root = project(tmp_path).root
    full, tiny = load_study(root).study, load_study(root, None, "tiny").study
    assert tiny.formats == ("int3_b64",)
    assert (tiny.calibration.samples, tiny.calibration.length) == (1, full.calibration.length)
    assert tiny.calibration.text == full.calibration.text
    assert tiny.methods == full.methods
    assert load_study(root, "small", "tiny").study == tiny
    assert load_study(root, "small", "full").study == load_study(root, "small").study == full


def test_params_choose_a_scale_and_override_it(tmp_path: Path) -> None:
    small = project(tmp_path)
    small.params("study: small\nscale: tiny\nformats: [int5_b64]\n")
    found = load_study(small.root).study
    assert (found.formats, found.calibration.samples) == (("int5_b64",), 1)
    assert load_study(small.root, None, "other").study.calibration.samples == 2
    small.params("study: small\nscale: full\n")
    assert load_study(small.root).study.formats == ("int4_b64",)


def test_keys_know_a_scale_by_what_it_changes(tmp_path: Path) -> None:
    small = project(tmp_path)
    plain = Project(tmp_path / "plain", formats=["int3_b64"], calibration={**_calibration(), "samples": 1})
    small.params("study: small\nscale: tiny\n")
    assert {one.key for one in small.artifacts()} == {one.key for one in plain.artifacts()}


def _calibration() -> dict[str, object]:
    return {"text": {"source": "file", "path": "words.txt"}, "length": 32}


@pytest.mark.parametrize(
    ("scales", "params", "message"),
    [
        (SCALES, "scale: tin", "params.yaml:2: scale: unknown scale of studies/small.yaml 'tin'; did you mean 'tiny'"),
        (SCALES, "scale: [tiny]", "params.yaml:2: scale: must be the name of a scale"),
        (
            {"tiny": {"formts": []}},
            "scale: tiny",
            "studies/small.yaml:.*: unknown key 'formts'; did you mean 'formats'",
        ),
        ({"tiny": {"formats": ["int4_b6x"]}}, "scale: tiny", "studies/small.yaml:[0-9]+: formats.0.: unknown number"),
        ({"tiny": 3}, "", "scales.tiny: must be `key: value` pairs of a study"),
        ([1], "", "scales: must be `name: keys of a study`"),
        ({"full": {}}, "", "'full' is the study as it stands; give the scale another name"),
        ({"tiny": {"scales": {}}}, "", "scales.tiny: a scale has no scales"),
    ],
)
def test_mistakes_are_one_line_with_their_place(tmp_path: Path, scales: object, params: str, message: str) -> None:
    small = Project(tmp_path / "p", scales=scales)
    small.params(f"study: small\n{params}\n")
    with pytest.raises(UserError, match=message):
        load_study(small.root)


def test_a_mistake_in_a_scale_is_found_on_its_line(tmp_path: Path) -> None:
    small = project(tmp_path)
    file = small.root / "studies" / "small.yaml"
    file.write_text(file.read_text("utf-8").replace("- int3_b64", "- intt3_b64"), "utf-8")
    line = next(i for i, text in enumerate(file.read_text("utf-8").splitlines(), 1) if "intt3" in text)
    with pytest.raises(UserError, match=f"^studies/small.yaml:{line}: formats.0.: unknown number format 'intt3_b64'"):
        load_study(small.root, None, "tiny")


def test_the_workflow_takes_a_scale(tmp_path: Path) -> None:
    small = project(tmp_path)
    orders = Workflow(small.root, {"scale": "tiny"}, main=True).orders
    assert {order["spec"]["format"] for order in orders.values() if order["stage"] == "quantize"} == {"int3_b64"}
    with pytest.raises(UserError, match="--scale: unknown scale of studies/small.yaml 'tiy'; did you mean 'tiny'"):
        Workflow(small.root, {"scale": "tiy"}, main=True)


def test_results_of_every_scale_are_reached(tmp_path: Path) -> None:
    small = project(tmp_path)
    named = studies(small.root)
    assert named == {
        "params.yaml": (),
        "small": ("small",),
        "small, scale tiny": ("small", "tiny"),
        "small, scale other": ("small", "other"),
    }
    from bitlaw.study.grid import expand

    plan = Plan(expand(load_study(small.root, "small", "tiny")), present(small.root), small.root)
    assert reached(small.root, "small", "tiny")["keys"] == sorted({one.key for one in plan.grid.artifacts})
