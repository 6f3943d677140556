"""A whole study on the smallest model, for real: from the weights to the page, twice."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bitlaw.artifacts import read_json, read_table
from bitlaw.cli.main import main
from projects import SMALL, ZOO, Project


def bitlaw(*argv: str, root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "bitlaw", *argv],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose study has been run; tests put back what they change."""
    project = Project(tmp_path_factory.mktemp("run") / "p")
    assert main(["run", "--root", str(project.root)]) == 0
    return project


def stamps(project: Project) -> Mapping[str, int]:
    return {name: (project.root / "results" / name).stat().st_mtime_ns for name in project.results()}


def test_everything_is_made(project: Project) -> None:
    made = [Path(name).parts[0] for name in project.results()]
    assert sorted(made) == sorted(
        ["model", "calibrate", "factorize", *["quantize"] * 2, *["evaluate"] * 3, "table", "laws", "report"]
    )
    assert not project.plan().missing
    grid = project.plan().grid
    for artifact, view in ((grid.table, "table.parquet"), (grid.laws, "laws.json"), (grid.report, "index.html")):
        assert (project.root / artifact.path).read_bytes() == (project.root / "report" / view).read_bytes()
    table = read_table(project.root / grid.table.path).set_index(["format", "method"])
    assert len(table) == 3
    assert table.loc[("unquantized", "none"), "delta_nll"] == 0
    assert (table["delta_nll"].drop(("unquantized", "none")).abs() > 1e-4).all()
    assert table.loc[("int4_b64", "gptq"), "calibration_text"] == "words"
    assert set(table["eval_tokens"]) == {199}


def test_a_second_run_makes_nothing(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    before = stamps(project)
    assert main(["run", "--root", str(project.root)]) == 0
    out = capsys.readouterr().out
    assert out == f"made 0 artifacts; see {project.root / 'report/index.html'}\n"
    assert stamps(project) == before


def test_another_run_in_another_folder_gives_the_same_table(project: Project, tmp_path: Path) -> None:
    other = Project(tmp_path / "another folder")
    (other.root / "data" / "zoo").unlink()
    shutil.copytree(ZOO / "gpt2-0.1m", other.root / "data" / "zoo" / "gpt2-0.1m")
    done = bitlaw("run", "--missing", root=other.root)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"made 11 artifacts; see {other.root / 'report/index.html'}\n"
    assert other.results() == project.results()
    for view in ("table.parquet", "laws.json", "index.html"):
        assert (other.root / "report" / view).read_bytes() == (project.root / "report" / view).read_bytes(), view


def test_only_what_is_missing_is_made(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    before = stamps(project)
    grid = project.plan().grid
    (project.root / grid.table.path).unlink()
    (project.root / grid.report.path).unlink()
    assert main(["run", "--root", str(project.root)]) == 0
    assert capsys.readouterr().out.startswith("made 2 artifacts")
    after = stamps(project)
    assert {Path(name).parts[0] for name in after if after[name] != before[name]} == {"table", "report"}


def test_one_more_format_makes_its_cells_and_going_back_nothing(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.study(formats=["int4_b64", "mxint4_b32"], methods=["rtn"])
    assert main(["run", "--root", str(project.root)]) == 0
    # quantize, evaluate, and the table, the laws and the report of this grid
    assert capsys.readouterr().out.startswith("made 5 artifacts")
    project.study()
    assert main(["run", "--root", str(project.root)]) == 0
    assert capsys.readouterr().out.startswith("made 0 artifacts")


def test_a_damaged_artifact_is_reported_and_made_again(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    artifacts = {(a.stage, a.label): project.root / a.path for a in project.artifacts()}
    label = "gpt2-0.1m/int4_b64-gptq"
    damaged, after = artifacts["quantize", label], artifacts["evaluate", label]
    table = (project.root / project.plan().grid.table.path).read_bytes()
    good, loss = damaged.read_bytes(), read_json(after)
    damaged.write_bytes(good[:-10] + bytes([good[-10] ^ 1]) + good[-9:])
    after.unlink()
    (project.root / project.plan().grid.table.path).unlink()
    assert main(["run", "--root", str(project.root)]) == 1
    err = capsys.readouterr().err
    assert f"    {damaged}: damaged: " in err
    assert "set aside, run again to remake it\n" in err
    assert damaged.with_name(f"{damaged.name}.damaged").is_file()
    assert main(["run", "--root", str(project.root)]) == 0
    assert capsys.readouterr().out.startswith("made 3 artifacts")
    assert damaged.read_bytes() == good
    assert read_json(after) == loss
    assert (project.root / project.plan().grid.table.path).read_bytes() == table
    damaged.with_name(f"{damaged.name}.damaged").unlink()


def test_a_run_up_to_a_stage(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    root, grid = ["--root", str(project.root)], project.plan().grid
    for artifact in (grid.table, grid.laws, grid.report):
        (project.root / artifact.path).unlink()
    assert main(["run", "--until", "evaluate", *root]) == 0
    assert capsys.readouterr().out == "made 0 artifacts\n"
    assert main(["run", "--until", "table", *root]) == 0
    assert capsys.readouterr().out == "made 1 artifacts\n"
    assert [a.stage for a in project.plan().missing.values()] == ["laws", "report"]
    assert main(["run", "--until", "evalute", *root]) == 2
    assert capsys.readouterr().err == "bitlaw: --until: unknown stage 'evalute'; did you mean 'evaluate'?\n"
    assert main(["run", *root]) == 0


def test_one_artifact_of_a_plan(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    report = project.plan().grid.report.path
    (project.root / report).unlink()
    plan = project.plan().write()
    root = ["--root", str(project.root)]
    assert main(["make", report, "--plan", str(plan), *root]) == 0
    assert not project.plan().missing
    assert main(["make", f"{report[:-5]}.htm", "--plan", str(plan), *root]) == 2
    assert f"unknown artifact '{report[:-5]}.htm'; did you mean '{report}'?" in capsys.readouterr().err


def test_summary_says_what_came_out(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "--root", str(project.root)]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) >= 2
    assert out.splitlines()[-1] == f"report: {project.root / 'report/index.html'}"


@pytest.mark.parametrize(
    ("changes", "words", "message"),
    [
        ({}, "a", r"evaluate/gpt2-0.1m/unquantized/\w+.json\n    .*token"),
        ({"formats": ["int4_b64"]}, "A few words only.", r"calibrate/gpt2-0.1m/words/\w+.safetensors\n    .*32"),
        (
            {"evaluation": {**SMALL["evaluation"], "window": 512, "max_tokens": 1000}},
            "word " * 2000,
            "window is 512 tokens, but the model's context is 256",
        ),
    ],
)
def test_texts_that_do_not_fit_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], words: str, message: str
) -> None:
    project = Project(tmp_path / "p")
    evaluation = {"text": {"source": "file", "path": "words.txt"}, "window": 32, "stride": 31}
    project.study(**{"formats": [], "evaluation": evaluation, **changes})
    (project.root / "words.txt").write_text(words)
    assert main(["run", "--root", str(project.root)]) == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert re.search(message, err), err
    assert not (project.root / "report").exists()
    assert {Path(name).parts[0] for name in project.results()} <= {"model", "evaluate", "quantize"}


def test_a_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    model = {"source": "hub", "repo": "EleutherAI/pythia-70m", "revision": "e93a9faa9c77e5d09219f6c868bfc7a1bd65593c"}
    project = Project(tmp_path / "p", models=[model])
    assert len(project.plan().missing) == 11  # planning asks no network
    code = "import sys, time; time.sleep = lambda s: None\nfrom bitlaw.cli.main import main\nsys.exit(main(['run']))"
    done = subprocess.run(
        [sys.executable, "-c", code],  # the hub's library would wait 23 s between its attempts
        cwd=project.root,
        env={**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "made 0 artifacts\n")
    head, path, line, *_ = done.stderr.splitlines()
    assert head == "bitlaw: 1 artifact failed:"
    assert path.startswith("  results/model/pythia-70m/")
    assert "EleutherAI/pythia-70m@e93a9faa9c77e5d09219f6c868bfc7a1bd65593c: the model is not on this machine" in line
    assert "hf download EleutherAI/pythia-70m --revision e93a9faa9c77e5d09219f6c868bfc7a1bd65593c" in line
    assert project.results() == []
