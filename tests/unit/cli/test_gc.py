"""bitlaw gc: what no branch reaches goes, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from bitlaw.cli.main import main
from projects import REPOSITORY, SMALL, WORDS, Project

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*argv: str) -> tuple[int, str, str]:
        code = main(["gc", *argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


class Repository(Project):
    """A project under Git, with the branch ``main``."""

    def __init__(self, root: Path, **changes: Any) -> None:
        super().__init__(root, **changes)
        (root / ".gitignore").write_text("/results/\n/report/\n/.bitlaw/\n__pycache__/\n")
        self.git("init", "--quiet", "--initial-branch", "main")
        self.git("config", "user.name", "tester")
        self.git("config", "user.email", "tester@example.invalid")
        self.commit()

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.root, check=True, capture_output=True)

    def commit(self) -> None:
        """Commit all that is there."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "A commit")

    def paths(self) -> set[str]:
        """Return the paths that the study as it stands reaches."""
        return {artifact.path for artifact in self.artifacts()}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    project = Repository(tmp_path / "p")
    monkeypatch.chdir(project.root)
    return project


def listed(run: Run, *argv: str) -> set[str]:
    code, out, err = run("--json", *argv)
    assert (code, err) == (0, "")
    return {item["path"] for item in json.loads(out)["items"]}


def names(paths: Iterable[str]) -> set[str]:
    return {path.removeprefix("results/") for path in paths}


def test_what_one_branch_alone_reaches_goes_when_the_branch_is_gone(project: Repository, run: Run) -> None:
    project.pretend()
    first = project.paths()
    project.git("checkout", "--quiet", "-b", "seed")
    project.study(calibration={**SMALL["calibration"], "seed": 1})
    project.commit()
    project.pretend()
    both = set(project.results())
    other = project.paths() - first
    assert len(other) == 7  # calibration, factors, weights, loss, table, laws, report
    project.git("checkout", "--quiet", "main")
    code, out, err = run()
    assert (code, err) == (0, "")
    assert out == "judged: the working tree, main, seed\nnothing that is not reached\n"
    project.git("branch", "--quiet", "-D", "seed")
    out = run()[1]
    assert {line.split()[-1] for line in out.splitlines()[:7]} == other
    assert out.splitlines()[-1] == "not reached: 7 files and folders, 0 B; --remove removes them"
    assert set(project.results()) == both
    assert run("--remove")[1].splitlines()[-1] == "removed 7 files and folders, 0 B"
    assert set(project.results()) == names(first)
    assert not project.plan().missing


def test_edits_that_are_not_committed_count_and_so_does_a_detached_head(project: Repository, run: Run) -> None:
    project.pretend()
    project.params("study: small\nevaluation: {window: 16, stride: 15}\n")
    project.pretend()
    assert listed(run) == set()
    committed = project.paths()
    project.git("checkout", "--quiet", "--detach")
    project.commit()
    project.params("study: small\n")
    assert listed(run) == set()
    project.git("tag", "tried")
    project.git("checkout", "--quiet", "--force", "main")
    assert listed(run) == committed - project.paths()
    assert listed(run, "--also", "tried") == set()


def test_every_study_of_a_branch_counts(project: Repository, run: Run) -> None:
    (project.root / "studies" / "other.yaml").write_text((project.root / "studies" / "small.yaml").read_text())
    project.params("study: other\n")
    project.study(formats=["mxint4_b32"])
    project.pretend()
    project.params("study: small\n")
    project.pretend()
    assert listed(run) == set()
    (project.root / "studies" / "other.yaml").unlink()
    assert listed(run)


def test_a_branch_is_asked_with_its_own_code(project: Repository, run: Run) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "src" / "bitlaw", project.root / "src" / "bitlaw", ignore=ignored)
    project.commit()
    project.pretend()
    project.git("checkout", "--quiet", "-b", "edited")
    rtn = project.root / "src" / "bitlaw" / "methods" / "rtn.py"
    rtn.write_text(rtn.read_text() + "\nEDITED = True\n")
    project.commit()
    project.git("checkout", "--quiet", "main")
    # What there is was made by the first code of RTN, which neither branch has any more.
    rtn.write_text(rtn.read_text() + "\nANOTHER = True\n")
    project.commit()
    found = listed(run)
    assert {path.split("/")[1] for path in found} == {"quantize", "evaluate", "table", "laws", "report"}
    project.git("checkout", "--quiet", "-B", "edited", "main~1")
    project.git("checkout", "--quiet", "main")
    assert listed(run) == set()
    assert run()[1].splitlines()[0] == "judged: the working tree, edited, main"


def test_files_that_git_does_not_track_are_there_for_every_branch(
    project: Repository, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "beside.txt").write_text(WORDS)
    (project.root / ".git" / "info" / "exclude").write_text("mine/\n")
    (project.root / "mine" / "deep").mkdir(parents=True)
    (project.root / "mine" / "deep" / "text.txt").write_text(WORDS + "More.")
    evaluation = {**SMALL["evaluation"], "text": {"source": "file", "path": "mine/deep/text.txt"}}
    calibration = {**SMALL["calibration"], "text": {"source": "file", "path": "../beside.txt"}}
    project.git("checkout", "--quiet", "-b", "texts")
    project.study(evaluation=evaluation, calibration=calibration)
    project.commit()
    project.pretend()
    project.git("checkout", "--quiet", "main")
    assert listed(run) == set()
    # The branch's own version of a tracked file counts, not that of the working tree.
    project.git("checkout", "--quiet", "-b", "words")
    (project.root / "words.txt").write_text(WORDS + "Others.")
    project.commit()
    project.pretend()
    project.git("checkout", "--quiet", "main")
    assert listed(run) == set()


def test_a_folder_of_which_a_branch_has_a_part_is_joined(project: Repository, run: Run) -> None:
    zoo = project.root / "data" / "zoo"
    models = zoo.resolve()
    zoo.unlink()
    shutil.copytree(models / "gpt2-0.1m", zoo / "gpt2-0.1m")
    project.study(models=[{"source": "zoo"}])
    project.commit()
    project.git("branch", "one-model")
    project.git("rm", "-r", "--quiet", "--cached", "data/zoo")
    project.git("commit", "--quiet", "--message", "No models")
    shutil.copytree(models / "opt-0.1m", zoo / "opt-0.1m")
    # Git tracks no model here; checked out, the branch would have the one that it tracks and the one beside it.
    project.pretend()
    project.params("study: small\nmodels: [{source: zoo, name: gpt2-0.1m}]\n")
    project.study()
    project.git("commit", "--quiet", "--all", "--message", "One model of the zoo")
    assert listed(run) == set()
    project.git("branch", "--quiet", "-D", "one-model")
    assert {path.split("/")[1] for path in listed(run)} >= {"model", "evaluate"}


def test_a_study_that_cannot_be_judged_stops_the_removal(project: Repository, run: Run) -> None:
    project.pretend()
    project.git("checkout", "--quiet", "-b", "broken")
    project.study(formats=["int4_b63"])
    project.commit()
    project.git("checkout", "--quiet", "main")
    project.study(seed=3)
    project.commit()
    before = project.results()
    code, out, err = run("--remove")
    assert code == 2
    assert "not judged: params.yaml: studies/small.yaml:" in out and "(broken)" in out
    assert "unknown number format 'int4_b63'" in out
    assert err.count("\n") == 1 and err.startswith("bitlaw: nothing is removed, for not every study could be judged")
    assert project.results() == before
    assert run("--remove", "--force")[0] == 0
    assert set(project.results()) < set(before)


def test_code_that_does_not_run_cannot_be_judged(project: Repository, run: Run) -> None:
    project.git("checkout", "--quiet", "-b", "old")
    (project.root / "src" / "bitlaw").mkdir(parents=True)
    (project.root / "src" / "bitlaw" / "__init__.py").touch()
    project.commit()
    project.git("checkout", "--quiet", "main")
    code, out, _ = run("--remove")
    assert code == 2 and "not judged: params.yaml: No module named 'bitlaw.study' (old)" in out


def test_a_branch_without_a_project_reaches_nothing(project: Repository, run: Run) -> None:
    project.git("checkout", "--quiet", "--orphan", "pages")
    project.git("rm", "-r", "--quiet", "--force", ".")
    (project.root / "index.html").touch()
    project.git("add", "index.html")
    project.git("commit", "--quiet", "--message", "Pages")
    project.git("checkout", "--quiet", "main")
    assert run() == (0, "judged: the working tree, main, pages\nnothing that is not reached\n", "")


def test_what_is_left_behind_and_what_is_none_of_ours(project: Repository, run: Run) -> None:
    project.pretend()
    old, key = time.time() - 25 * 3600, "0" * 32
    model = project.root / "results" / "model"
    files = {
        f"gpt2-0.1m/.{key}.json.0badcafe.tmp": True,
        f"gpt2-0.1m/.{key}.0badcafe.tmp/model.safetensors": True,
        f"gpt2-0.1m/.{key}.json.1badcafe.tmp": False,
        f"gpt2-0.1m/{key}.json.damaged": True,
        f"other/{key}.json": True,
        f"other/{key}/model.safetensors": True,
        f"other/{key}/deep/{'1' * 32}.json": True,
        "gpt2-0.1m/notes.txt": False,
        "README": False,
        f"../text/{key}.json": False,
        f"../mine/{key}.json": False,
    }
    for name in files:
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text("x" * 2048)
        if "1badcafe" not in name:
            os.utime(model / name, (old, old))
            os.utime((model / name).parent, (old, old))
    found = listed(run)
    assert found == {
        f"results/model/gpt2-0.1m/.{key}.json.0badcafe.tmp",
        f"results/model/gpt2-0.1m/.{key}.0badcafe.tmp",
        f"results/model/gpt2-0.1m/{key}.json.damaged",
        f"results/model/other/{key}.json",
        f"results/model/other/{key}",
    }
    assert "4.0 KiB  results/model/other/0000" in run()[1]
    assert run("--remove")[1].splitlines()[-1] == "removed 5 files and folders, 12.0 KiB"
    for name, goes in files.items():
        assert (model / name).exists() != goes, name
    assert not (model / "other").exists()
    assert not project.plan().missing


def test_the_payload_of_a_model_that_is_reached_stays(project: Repository, run: Run) -> None:
    project.pretend()
    model = next(artifact for artifact in project.artifacts() if artifact.stage == "model")
    (project.root / model.payload).mkdir()
    (project.root / model.payload / "model.safetensors").touch()
    (project.root / model.path).unlink()
    # Under another name of the model its key is reached as well, so that its folder can be renamed.
    shutil.copytree(project.root / "results" / "model" / "gpt2-0.1m", project.root / "results" / "model" / "another")
    assert listed(run) == set()


def test_results_of_other_libraries_stay_where_a_study_is_strict(
    project: Repository, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.study(strict_env=True)
    model = next(artifact for artifact in project.artifacts() if artifact.stage == "model")
    folder = project.root / "results" / "model" / "gpt2-0.1m"
    folder.mkdir(parents=True)
    other = model.code.replace("torch==", "torch==0.0.")
    for key, code in (("1" * 32, model.code), ("2" * 32, other), ("3" * 32, model.code.split()[0])):
        header = {"stage": "model", "key": key, "spec": {}, "parents": {}, "code": code, "made_with": {}}
        (folder / f"{key}.json").write_text(json.dumps({"header": header, "result": None}))
    (folder / f"{'4' * 32}.json").write_text("{")
    assert {path[-6:-5] for path in listed(run)} == {"1", "3", "4"}
    assert "kept: 1 made with other versions of libraries" in run()[1]
    assert {path[-6:-5] for path in listed(run, "--force")} == {"1", "2", "3", "4"}
    project.study()
    assert {path[-6:-5] for path in listed(run)} == {"1", "2", "3", "4"}


def test_nothing_is_removed_while_snakemake_runs(project: Repository, run: Run) -> None:
    project.pretend()
    project.study(formats=[])
    project.commit()
    lock = project.root / ".snakemake" / "locks" / "0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    before = project.results()
    code, _, err = run("--remove")
    assert code == 2 and err.count("\n") == 1 and "a run is going on here" in err
    assert project.results() == before


def test_without_git_the_working_tree_alone_counts(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path / "plain")
    monkeypatch.chdir(project.root)
    project.pretend()
    assert run() == (0, "judged: the working tree\nnothing that is not reached\n", "")
    assert run("--also", "v1")[2] == f"bitlaw: {project.root}: not a Git repository\n"
    project.study(formats=[])
    assert listed(run)


def test_a_project_in_a_folder_of_a_repository(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path / "top" / "below")
    monkeypatch.chdir(project.root)
    for command in ("init --quiet", "add --all", "-c user.name=t -c user.email=t@example.invalid commit -qm one"):
        subprocess.run(["git", *command.split()], cwd=project.root.parent, check=True, capture_output=True)
    project.pretend()
    project.study(formats=[])
    assert listed(run) == set()
    assert run("--also", "nothing")[2].startswith(f"bitlaw: {project.root.parent}: no commit 'nothing'")
