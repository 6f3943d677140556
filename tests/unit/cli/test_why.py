"""bitlaw why: what keys are made of, and where two begin to differ."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bitlaw.cli.main import main
from bitlaw.study.artifact import Artifact
from projects import SMALL, Project

Run = Callable[..., tuple[int, str, str]]
GPTQ = "gpt2-0.1m/int4_b64-gptq"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*argv: str) -> tuple[int, str, str]:
        code = main(["why", *argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose study has been run, with its laws, and then once more with another seed of the calibration."""
    project = Project(tmp_path_factory.mktemp("why") / "p")
    assert main(["run", "--root", str(project.root)]) == 0
    project.study(calibration={**SMALL["calibration"], "seed": 1})
    assert main(["run", "--root", str(project.root)]) == 0
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of ``made``, with the first seed again."""
    copy = object.__new__(Project)
    copy.root = tmp_path / "p"
    shutil.copytree(made.root, copy.root, symlinks=True)
    copy.study()
    monkeypatch.chdir(copy.root)
    return copy


def planned(project: Project, **changes: Any) -> Mapping[tuple[str, str], Artifact]:
    """Return the artifacts of the study with ``changes``, by stage and label; the study stays as it was."""
    before = (project.root / "studies" / "small.yaml").read_text()
    project.study(**changes)
    found = {(artifact.stage, artifact.label): artifact for artifact in project.artifacts()}
    (project.root / "studies" / "small.yaml").write_text(before)
    return found


def test_what_an_artifact_was_made_of(project: Project, run: Run) -> None:
    loss = planned(project)["evaluate", GPTQ]
    code, out, err = run(loss.path)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == loss.path
    assert lines[1].split(maxsplit=1) == ["state", "in results/"]
    assert "window = 32" in out
    assert f"model: {loss.parents['model'][0].path}" in out
    assert f"quantized: {loss.parents['quantized'][0].path}" in out
    assert f"{loss.code[:12]}, the present code of" in out and "evaluation.nll" in out
    assert "torch " in out and "(recorded)" in out
    assert "part of the key" not in out
    (beside,) = (path for path in (project.root / loss.path).parent.iterdir() if path.stem != loss.key)
    assert lines[-1].split() == ["beside", "it", str(beside.relative_to(project.root))]


def test_every_way_to_name_an_artifact(project: Project, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    report = planned(project)["report", ""]
    first = run(report.path)
    for name in (report.key, report.key[:12], str(project.root / report.path), "report/index.html"):
        assert run(name) == first, name
    monkeypatch.chdir(project.root / "results" / "report")
    assert run(f"{report.key}.html") == first


def test_every_kind_of_file_says_what_it_was_made_of(project: Project, run: Run) -> None:
    for artifact in project.artifacts():
        said = json.loads(run(artifact.key, "--json")[1])
        assert said["stage"] == artifact.stage and said["code"] == artifact.code
        assert said["spec"] == json.loads(json.dumps(artifact.spec))
        assert said["parents"] == {role: [one.key for one in group] for role, group in artifact.parents.items()}
        assert (said["exists"], said["planned"]) == (True, True)
        # A page carries no header; all else says which versions made it.
        assert (said["made_with"] is None) == (artifact.stage == "report")
        assert f"bitlaw.stages.{artifact.stage}" in said["modules"]


def test_an_artifact_that_is_only_planned(project: Project, run: Run) -> None:
    shutil.rmtree(project.root / "results")
    model = planned(project)["model", "gpt2-0.1m"]
    out = run(model.path)[1]
    assert "not in results/; of this study" in out
    assert "made with" not in out


def test_code_that_is_not_the_present_code(project: Project, run: Run) -> None:
    loss = project.root / planned(project)["evaluate", GPTQ].path
    content = json.loads(loss.read_text())
    content["header"]["code"] = "f" * 64
    loss.write_text(json.dumps(content))
    assert "ffffffffffff, not the present code" in run(loss.stem)[1]


CAUSES: dict[str, tuple[dict[str, Any], tuple[str, str], str, str]] = {
    "calibration seed": (
        {"calibration": {**SMALL["calibration"], "seed": 1}},
        ("evaluate", GPTQ),
        "calibrate seed 0 -> 1",
        "evaluate > quantized > factors > calibration",
    ),
    "the same, seen from the page": (
        {"calibration": {**SMALL["calibration"], "seed": 1}},
        ("report", ""),
        "calibrate seed 0 -> 1",
        "report > laws > table > cells > quantized > factors > calibration",
    ),
    "a setting": (
        {"methods": ["rtn", {"name": "gptq", "block_columns": 64}]},
        ("evaluate", GPTQ),
        "quantize settings.block_columns 128 -> 64",
        "evaluate > quantized",
    ),
    "a window": (
        {"evaluation": {**SMALL["evaluation"], "window": 16, "stride": 15}},
        ("evaluate", GPTQ),
        "evaluate stride 31 -> 15",
        "",
    ),
    "one format more": (
        {"formats": ["int4_b64", "int5_b64"]},
        ("table", ""),
        'table rows[3] absent -> {"calibration_text": null',
        "",
    ),
    "strict": ({"strict_env": True}, ("evaluate", GPTQ), "tokenizers absent -> ", ""),
}


@pytest.mark.parametrize("case", CAUSES)
def test_the_first_difference_is_where_it_comes_from(project: Project, run: Run, case: str) -> None:
    changes, place, said, roles = CAUSES[case]
    old, new = planned(project)[place], planned(project, **changes)[place]
    project.study(**changes)  # what it plans need not be made
    code, out, err = run(old.key, new.key)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith(f"first difference: {said}")
    assert [line.split()[0] for line in lines[1:3]] == ["in", "and"]
    assert lines[3:] == ([f"  from {roles}"] if roles else [])
    found = json.loads(run(old.key, new.key, "--json")[1])["difference"]
    assert " > ".join((place[0], *found["roles"])) == (roles or place[0])
    assert run(new.key, old.key)[1].splitlines()[1].split() == ["in", lines[2].split()[1]]


def test_the_same_artifact_has_no_difference(project: Project, run: Run) -> None:
    key = planned(project)["table", ""].key
    assert run(key, key[:10])[1].startswith("the same artifact: results/table/")
    assert json.loads(run(key, key, "--json")[1])["difference"] is None


def test_parents_that_are_gone(project: Project, run: Run) -> None:
    old = planned(project)["evaluate", GPTQ].path
    new = planned(project, calibration={**SMALL["calibration"], "seed": 1})["evaluate", GPTQ].path
    shutil.rmtree(project.root / "results" / "quantize")
    # The plans of earlier runs say what they were.
    assert run(old, new)[1].startswith("first difference: calibrate seed 0 -> 1\n")
    shutil.rmtree(project.root / ".bitlaw" / "plans")
    # What the study has needs no file; of the other one's weights nothing is known any more.
    out = run(old, new)[1]
    assert out.startswith("first difference: parent 'quantized' of evaluate ") and "a file is gone" in out
    assert "quantized: " in run(new)[1] and "(its file is gone)" in run(new)[1]


def test_other_versions_are_told_but_no_reason(project: Project, run: Run) -> None:
    old = planned(project)["evaluate", GPTQ].path
    new = planned(project, calibration={**SMALL["calibration"], "seed": 1})["evaluate", GPTQ].path
    content = json.loads((project.root / new).read_text())
    content["header"]["made_with"]["torch"] = "99.0"
    (project.root / new).write_text(json.dumps(content))
    lines = run(old, new)[1].splitlines()
    assert lines[0] == "first difference: calibrate seed 0 -> 1"
    assert lines[-1].startswith("recorded, not part of the keys: torch ") and lines[-1].endswith(" -> 99.0")


def test_mistakes_are_one_line(project: Project, run: Run) -> None:
    keys = sorted(artifact.key for artifact in project.artifacts())
    chance = random.Random(0)
    wrong = "".join(chance.choices("0123456789abcdef", k=32))
    loss = planned(project)["evaluate", GPTQ].path
    for argv, message in (
        ([wrong], f"{wrong}: no artifact in results/ or of the study has a key that begins so"),
        (["nonsense"], "nonsense: no artifact in results/ or of the study has a key that begins so"),
        ([loss.replace(Path(loss).name, "nothing.json")], "did you mean 'results/evaluate/"),
        ([], "why: the following arguments are required: ARTIFACT"),
    ):
        code, out, err = run(*argv)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err
    shared = next(a for a in "0123456789abcdef" if sum(key.startswith(a) for key in keys) > 1)
    code, out, err = run(shared)
    assert (code, out) == (2, "") and "keys that begin so" in err and "give more" in err
    (project.root / loss).write_text("{}")
    assert "damaged: it has no header" in run(loss)[2]
    weights = project.root / planned(project)["quantize", GPTQ].path
    for data in (b"", b"\xff" * 8, b"\x08\0\0\0\0\0\0\0notjson!"):
        weights.write_bytes(data)
        assert "damaged: it has no header" in run(str(weights))[2]
    table = project.root / planned(project)["table", ""].path
    os.truncate(table, 100)
    assert "damaged: it has no header" in run(str(table))[2]


def test_a_page_of_which_nothing_is_known(project: Project, run: Run) -> None:
    page = project.root / "results" / "report" / f"{'0' * 32}.html"
    page.write_text("<p>")
    code, _, err = run(page.stem)
    assert code == 2 and "a page carries no header" in err
