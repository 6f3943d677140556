"""Making artifacts: whole or not at all, whatever happens in the middle."""

from __future__ import annotations

import errno
import json
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bitlaw.artifacts import read_header, read_json, write_json
from bitlaw.errors import UserError
from bitlaw.stage import Header, Job
from bitlaw.study import make as module
from bitlaw.study.make import made_with, make, make_each, make_missing
from projects import Project

ORDER: dict[str, Any] = {
    "path": "results/fake/a/KEY.json",
    "payload": "results/fake/a/KEY",
    "stage": "fake",
    "key": "KEY",
    "spec": {"answer": 42},
    "code": "c0de",
    "parents": {},
    "inputs": {},
    "hints": {"model": "here"},
}


class FakeStage:
    """A stage that runs a function."""

    suffix = ".json"

    def __init__(self, run: Callable[[Job], None]) -> None:
        self.run = run

    def code(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        return ()


Runner = Callable[[Callable[[Job], None]], None]


@pytest.fixture
def making(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that makes ``ORDER``, changed by its keywords, by a stage that runs its argument."""
    monkeypatch.setattr(module, "code_of", lambda stage, spec, strict=False: "c0de")

    def made(run: Callable[[Job], None], **changes: Any) -> None:
        monkeypatch.setattr(module, "STAGES", {"fake": FakeStage(run)})
        make({**ORDER, **changes}, tmp_path)

    return made


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def write(job: Job) -> None:
    write_json(job.out, job.header, job.spec["answer"])


def test_a_job_knows_what_it_is(making: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "parent.json").touch()
    seen: list[Job] = []

    def run(job: Job) -> None:
        seen.append(job)
        assert job.out.parent == tmp_path / "results/fake/a"
        assert not (tmp_path / ORDER["path"]).exists()
        write(job)

    making(run, inputs={"model": ["parent.json"]}, parents={"model": ["P"]})
    (job,) = seen
    assert job.one("model") == tmp_path / "parent.json"
    assert (job.hints, job.spec) == ({"model": "here"}, {"answer": 42})
    assert files(tmp_path) == ["parent.json", ORDER["path"]]
    assert read_json(tmp_path / ORDER["path"]) == 42
    header = read_header(tmp_path / ORDER["path"])
    del header["sha256"]
    assert Header(**header) == Header("fake", "KEY", {"answer": 42}, {"model": ["P"]}, "c0de", made_with())
    assert header["made_with"]["torch"] and header["made_with"]["python"].count(".") == 2


def test_what_exists_is_not_made_again(making: Callable[..., None], tmp_path: Path) -> None:
    making(write)
    before = (tmp_path / ORDER["path"]).stat()

    def never(job: Job) -> None:
        raise AssertionError

    making(never)
    making(never, inputs={"model": ["gone.json"]}, code="other")
    assert (tmp_path / ORDER["path"]).stat() == before


@pytest.mark.parametrize("error", [ZeroDivisionError("bug"), KeyboardInterrupt(), SystemExit(3), MemoryError()])
def test_a_stage_that_fails_leaves_nothing(making: Callable[..., None], tmp_path: Path, error: BaseException) -> None:
    def run(job: Job) -> None:
        write(job)
        job.payload.mkdir()
        (job.payload / "weights").touch()
        raise error

    with pytest.raises(UserError if isinstance(error, MemoryError) else type(error)):
        making(run)
    assert files(tmp_path) == []
    making(write)
    assert files(tmp_path) == [ORDER["path"]]


def test_a_stage_that_writes_nothing_has_failed(making: Callable[..., None], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        making(lambda job: None)
    assert files(tmp_path) == []


def test_a_killed_job_leaves_nothing_that_looks_finished(making: Callable[..., None], tmp_path: Path) -> None:
    script = f"""
import os, signal, sys
from pathlib import Path
from bitlaw.study import make as module

class Stage:
    def run(self, job):
        job.out.write_text('{{"half": ')
        job.payload.mkdir()
        (job.payload / "model.safetensors").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)

module.STAGES, module.code_of = {{"fake": Stage()}}, lambda stage, spec, strict=False: "c0de"
module.make({ORDER!r}, Path({str(tmp_path)!r}))
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-9, "")
    left = files(tmp_path)
    assert len(left) == 2
    assert all(Path(name).parts[3].startswith(".KEY") and ".tmp" in name for name in left)
    making(write)
    assert read_json(tmp_path / ORDER["path"]) == 42
    assert not (tmp_path / ORDER["payload"]).exists()


def test_the_payload_comes_before_the_artifact_and_replaces_an_old_one(
    making: Callable[..., None], tmp_path: Path
) -> None:
    payload = tmp_path / ORDER["payload"]
    payload.mkdir(parents=True)
    (payload / "stale").touch()

    def run(job: Job) -> None:
        assert job.payload != payload
        job.payload.mkdir()
        (job.payload / "weights").write_text("new")
        write(job)

    making(run)
    assert files(tmp_path) == [ORDER["path"], f"{ORDER['payload']}/weights"]
    assert (payload / "weights").read_text() == "new"


def test_a_user_error_names_the_artifact(making: Callable[..., None]) -> None:
    def run(job: Job) -> None:
        raise UserError("the text is too short")

    def inner(job: Job) -> None:
        raise UserError("not finite", place="layer.0")

    with pytest.raises(UserError, match=r"^results/fake/a/KEY.json: the text is too short$"):
        making(run)
    with pytest.raises(UserError, match=r"^results/fake/a/KEY.json: layer.0: not finite$"):
        making(inner)


def test_an_input_must_be_there(making: Callable[..., None], tmp_path: Path) -> None:
    with pytest.raises(UserError) as told:
        making(write, inputs={"model": ["parent.json"]})
    assert str(told.value) == f"{tmp_path}/parent.json: not there; it is made before results/fake/a/KEY.json"
    assert files(tmp_path) == []


def test_a_damaged_input_is_set_aside(making: Callable[..., None], tmp_path: Path) -> None:
    write_json(tmp_path / "parent.json", Header("model", "P", {}, {}, ""), {"n_params": 100})
    text = (tmp_path / "parent.json").read_text()
    (tmp_path / "parent.json").write_text(text.replace("100", "101"))

    def run(job: Job) -> None:
        read_json(job.one("model"))

    with pytest.raises(UserError, match=r"parent.json: damaged: .* set aside, run again to remake it"):
        making(run, inputs={"model": ["parent.json"]})
    assert files(tmp_path) == ["parent.json.damaged"]
    assert "101" in (tmp_path / "parent.json.damaged").read_text()


def test_other_code_than_planned_makes_nothing(tmp_path: Path) -> None:
    project = Project(tmp_path / "p")
    plan = project.plan()
    order = json.loads(plan.write().read_text().splitlines()[0])
    with pytest.raises(UserError) as told:
        make({**order, "code": "0" * 64}, project.root)
    assert str(told.value) == f"{order['path']}: the code has changed since this was planned; start the run again"
    assert project.results() == []


@pytest.mark.parametrize("mode", [0o755, 0o2775, 0o700])
def test_results_can_be_used_by_whoever_may_use_their_folder(tmp_path: Path, mode: int) -> None:
    project = Project(tmp_path / "p")
    results = project.root / "results"
    results.mkdir()
    results.chmod(mode)
    make_missing(project.plan(), {"model", "calibrate"})
    made = list(results.rglob("*"))
    assert {path.suffix for path in made} >= {".json", ".safetensors"}
    for path in made:
        assert stat.S_IMODE(path.stat().st_mode) == (mode if path.is_dir() else mode & 0o666), path


def test_several_are_made_and_one_that_fails_stops_its_children_only(
    making: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(job: Job) -> None:
        if job.spec["answer"] == 1:
            raise ZeroDivisionError("one")
        write_json(job.out, job.header, job.spec["answer"])

    making(run, path="results/fake/a/0.json")  # it is there, and left alone
    inputs = {1: [], 2: ["results/fake/a/1.json"], 3: ["results/fake/a/2.json"], 4: ["results/fake/a/0.json"]}
    orders = [
        {**ORDER, "path": f"results/fake/a/{i}.json", "spec": {"answer": i}, "inputs": {"of": inputs.get(i, [])}}
        for i in range(5)
    ]
    flushed: list[str] = []
    monkeypatch.setattr(module, "_flush", lambda path: flushed.append(path.name))
    before = (tmp_path / "results/fake/a/0.json").stat().st_mtime_ns
    failed = [(path[-6:], str(error)) for path, error in make_each(orders, tmp_path)]
    assert failed == [
        ("1.json", "one"),
        ("2.json", "results/fake/a/2.json: needs results/fake/a/1.json, which could not be made"),
        ("3.json", "results/fake/a/3.json: needs results/fake/a/2.json, which could not be made"),
    ]
    assert sorted(path.name for path in (tmp_path / "results/fake/a").iterdir()) == ["0.json", "4.json"]
    assert (tmp_path / "results/fake/a/0.json").stat().st_mtime_ns == before
    assert flushed == ["4.json"]


def test_what_the_disk_does_not_take_is_not_left(
    making: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    making(lambda job: write_json(job.out, job.header, 0), path="results/fake/a/0.json")

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_flush", full)
    ((path, error),) = make_each([{**ORDER, "path": "results/fake/a/1.json"}], tmp_path)
    assert (path, str(error)) == ("results/fake/a/1.json", "[Errno 28] No space left on device")
    assert [path.name for path in (tmp_path / "results/fake/a").iterdir()] == ["0.json"]
