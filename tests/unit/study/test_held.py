"""Artifacts in memory instead of in files, and several processes: the same results, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from bitlaw import held
from bitlaw.artifacts import read_header, read_tensors, read_tensors_result, write_tensors
from bitlaw.cli.main import main
from bitlaw.errors import UserError
from bitlaw.stage import Header
from bitlaw.study.make import make_missing
from bitlaw.study.plan import order
from bitlaw.study.seconds import read_seconds
from bitlaw.study.workers import by_model
from projects import Project

HOLD = ("calibrate", "factorize", "quantize")
GRID = {
    "models": [{"source": "zoo", "name": ["gpt2-0.1m", "llama-0.1m"]}],
    "methods": ["rtn", "gptq", "awq"],
    "mixes": [{"q_ratio": [0.5], "granularity": "layer", "select": "random", "trials": 1}],
    "output_sqnr": True,
}
STAGES = {"model", "calibrate", "factorize", "quantize", "mix", "output_error", "evaluate"}


def files(project: Project) -> Mapping[str, bytes]:
    """Return what is under ``results`` by its path, held stages left out."""
    return {path: (project.root / "results" / path).read_bytes() for path in project.results()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """Return the files of a run that writes all of them."""
    project = Project(tmp_path_factory.mktemp("written") / "p", **GRID)
    assert not make_missing(project.plan(), STAGES)
    return files(project)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_results_are_those_of_a_run_that_writes_everything(
    tmp_path: Path, written: Mapping[str, bytes], workers: int
) -> None:
    project = Project(tmp_path / "p", **GRID)
    assert not make_missing(project.plan(), STAGES, hold=HOLD, workers=workers)
    found = files(project)
    assert found == {path: data for path, data in written.items() if path.split("/")[0] not in HOLD}
    assert len(found) < len(written)
    # Nothing is missing but what follows from the cells, so Snakemake would find the work done.
    assert {artifact.stage for artifact in project.plan().missing.values()} == {"table", "laws", "report"}
    seconds = read_seconds(project.root)
    assert {f"results/{path}" for path in written} == set(seconds)
    assert all(took > 0 for took in seconds.values())
    assert not held._held
    assert not held._expected


def test_a_run_that_was_cut_short_goes_on(tmp_path: Path, written: Mapping[str, bytes]) -> None:
    project = Project(tmp_path / "p", **GRID)
    assert not make_missing(project.plan(), STAGES, hold=HOLD)
    cells = [path for path in project.results() if path.startswith("evaluate/llama-0.1m/int4_b64-gptq/")]
    (project.root / "results" / cells[0]).unlink()
    missing = [artifact.stage for artifact in project.plan().missing.values() if artifact.stage in STAGES]
    assert sorted(missing) == ["calibrate", "evaluate", "factorize", "quantize"]
    assert not make_missing(project.plan(), STAGES, hold=HOLD)
    assert (project.root / "results" / cells[0]).read_bytes() == written[cells[0]]


@pytest.mark.parametrize("most", [0, 150_000])
def test_what_is_too_large_to_stay_as_it_is_is_held_packed(
    tmp_path: Path, written: Mapping[str, bytes], monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    project, asked = Project(tmp_path / "p", **GRID), list[bool]()
    monkeypatch.setattr(held, "MOST_LIVE", most)
    own = held.stays_live
    monkeypatch.setattr(held, "stays_live", lambda *given: asked.append(own(*given)) or asked[-1])
    assert not make_missing(project.plan(), STAGES, hold=HOLD)
    assert files(project) == {path: data for path, data in written.items() if path.split("/")[0] not in HOLD}
    assert set(asked) == ({True, False} if most else {False})
    assert not held._held


def test_what_is_live_reads_like_tensors(tmp_path: Path) -> None:
    import torch

    made = list[int]()

    def pack() -> dict[str, torch.Tensor]:
        made.append(1)
        return {"a": torch.ones(3)}

    path = tmp_path / "memory"
    held.expect(path)
    try:
        write_tensors(path, Header("quantize", "K", {}, {}, "c", {}), held.Live({"a": 3}, 3, pack), {})
        tensors, _ = read_tensors(path)
        assert isinstance(tensors, held.Live)
        assert tensors.objects == {"a": 3}
        assert not made
        assert {name: tensor.tolist() for name, tensor in tensors.items()} == {"a": [1, 1, 1]}
        assert len(tensors) == len(made) == 1
    finally:
        held.drop(path)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_fails_stops_its_children_and_no_other_model(tmp_path: Path, workers: int) -> None:
    project = Project(tmp_path / "p", **GRID)
    (project.root / "short.txt").write_text("too short to calibrate on", "utf-8")
    project.study(**GRID, calibration={"text": {"source": "file", "path": "short.txt"}, "samples": 2, "length": 32})
    errors = make_missing(project.plan(), STAGES, hold=HOLD, workers=workers)
    assert errors
    assert all(isinstance(error, UserError) for error in errors.values())
    assert sum("could not be made" not in str(error) for error in errors.values()) == 2  # a calibration of each model
    assert {path.split("/")[1] for path in errors} == {"calibrate", "factorize", "quantize", "output_error", "evaluate"}
    assert {path.split("/")[2] for path in errors} == {"gpt2-0.1m", "llama-0.1m"}
    made = [path.split("/")[0] for path in project.results()]
    assert (made.count("model"), made.count("mix"), made.count("evaluate")) == (2, 2, 6)  # rtn alone, and mixed
    assert not held._held


def test_models_are_taken_whole_and_in_order(tmp_path: Path) -> None:
    orders = [order(artifact) for artifact in Project(tmp_path / "p", **GRID).plan().missing.values()]
    models, whole = by_model(orders)
    assert [one["stage"] for one in whole] == ["table", "laws", "report"]
    assert [{one["path"].split("/")[2] for one in group} for group in models] == [{"gpt2-0.1m"}, {"llama-0.1m"}]
    for group in models:
        seen: set[str] = set()
        for one in group:
            assert {parent for parents in one["inputs"].values() for parent in parents} <= seen
            seen.add(one["path"])


def test_what_is_held_reads_like_its_file(tmp_path: Path) -> None:
    import torch

    header = Header("quantize", "K", {"format": "int4_b64"}, {}, "c", {})
    tensors, result = {"a": torch.arange(6).reshape(2, 3).T}, {"shape": (3, 2), "nan": float("inf"), "by": {1: "x"}}
    paths = [tmp_path / name for name in ("file", "memory")]
    held.expect(paths[1])
    try:
        for path in paths:
            write_tensors(path, header, tensors, result)
        assert paths[0].is_file()
        assert not paths[1].exists()
        (a, told), (b, again) = map(read_tensors, paths)
        assert torch.equal(a["a"], b["a"])
        assert told == again == read_tensors_result(paths[1])
        head = read_header(paths[0])
        head.pop("sha256")
        assert head == read_header(paths[1])
    finally:
        held.drop(paths[1])
    with pytest.raises(FileNotFoundError):
        read_tensors(paths[1])


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_interrupt_ends_all_processes_and_leaves_what_is_whole(
    tmp_path: Path, written: Mapping[str, bytes], how: signal.Signals
) -> None:
    project = Project(tmp_path / "p", **GRID)
    command = [sys.executable, "-m", "bitlaw", "run", "--until", "evaluate", "--workers", "2", "--hold", ",".join(HOLD)]
    run = subprocess.Popen(
        command,
        cwd=project.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A shell that runs these tests in the background has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not any(path.startswith("evaluate/") for path in project.results()) and time.monotonic() < deadline:
        time.sleep(0.05)
    children = _children(run.pid)
    run.send_signal(how)
    assert run.wait(60) != 0
    while any(_alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [child for child in children if _alive(child)]
    left = {path: data for path, data in files(project).items() if not Path(path).name.startswith(".")}
    assert len(left) > 0
    assert left.items() <= written.items()
    assert not make_missing(project.plan(), STAGES, hold=HOLD)
    found = {path: data for path, data in files(project).items() if not Path(path).name.startswith(".")}
    assert found == {path: data for path, data in written.items() if path.split("/")[0] not in HOLD}


def test_a_process_that_dies_is_told_and_what_is_made_stays(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", **GRID)
    command = [sys.executable, "-m", "bitlaw", "run", "--until", "evaluate", "--workers", "2"]
    run = subprocess.Popen(command, cwd=project.root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not any(path.startswith("evaluate/") for path in project.results()) and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [child for child in _children(run.pid) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    os.kill(workers[0], signal.SIGKILL)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 2
    assert said.strip().splitlines()[-1].startswith("bitlaw: --workers: a process died, most likely for want of memory")
    assert any(path.startswith("evaluate/") for path in project.results())


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in tasks.read_text("ascii").split()] if tasks.exists() else []


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hold", "quantise"], "--hold: unknown stage 'quantise'; did you mean 'quantize'?"),
        (["--hold", "evaluate"], "--hold: what evaluate makes is small and always written; to be held are"),
        (["--workers", "0"], "--workers: at least 1, not 0"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(Project(tmp_path / "p").root)
    assert main(["run", *arguments]) == 2
    assert message in capsys.readouterr().err
