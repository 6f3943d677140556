"""Artifacts on a remote that is a folder: names, files beside an artifact, transfers that stop in the middle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("dvc", reason="remotes need DVC")

from bitlaw.artifacts import write_json
from bitlaw.errors import DamagedArtifactError, UserError
from bitlaw.exchange import Cell, Remote, lacking, named, stored
from bitlaw.stage import Header
from bitlaw.study.plan import present
from projects import Project

STAGES = ["model", "evaluate"]


def put(root: Path, cell: Cell) -> Path:
    """Write a small artifact into the store."""
    path = root / cell.path
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, Header(cell.stage, cell.key, {}, {}, "c"), {"value": cell.key})
    return path


def losses(root: Path, count: int) -> list[Cell]:
    cells = [Cell("evaluate", f"{number:032x}", f"a-model/int{number % 3}_b64-rtn", ".json") for number in range(count)]
    for cell in cells:
        put(root, cell)
    return cells


def remote(root: Path, folder: Path) -> Remote:
    from dvc.repo import Repo

    root.mkdir(exist_ok=True)
    if not (root / ".dvc").exists():
        Repo.init(str(root), no_scm=True)
        (root / ".dvc" / "config").write_text(
            f"[core]\n    no_scm = true\n    remote = r\n['remote \"r\"']\n    url = {folder}\n"
        )
    return Remote(root, None)


def test_a_name_says_all() -> None:
    key = "0123456789abcdef" * 2
    for label in ("", "gpt2-0.1m", "gpt2-0.1m/int4_b64-rtn"):
        cell = Cell("evaluate", key, label, ".json")
        assert named("evaluate", cell.name + cell.suffix) == cell
        assert stored([cell.path]) == [cell]
    for name in (
        f"{key}~a.pkl",
        f"{key}~../a.json",
        f"{key}~.json",
        f"{key}~a.files.json",
        "a.json",
        f"{key}~/a.json",
        "",
    ):
        assert named("evaluate", name) is None, name
    table, page, text = f"results/table/{key}.parquet", f"results/report/{key}.html", f"results/text/{key}.json"
    beside = f"results/model/m/{key}/config.json"
    assert stored([table, page, text, beside, f"results/evaluate/m/.{key}.json.12.tmp", "results/x"]) == []


def test_only_what_is_needed_is_got(tmp_path: Path) -> None:
    plan = Project(tmp_path / "p").plan()

    def there(*stages: str) -> dict[tuple[str, str], Cell]:
        cells = stored([artifact.path for artifact in plan.grid.artifacts if artifact.stage in stages])
        return {(cell.stage, cell.key): cell for cell in cells}

    def got(*stages: str) -> list[str]:
        return sorted({cell.stage for cell in lacking(plan, there(*stages))})

    assert got("model", "quantize", "evaluate") == ["evaluate"]
    assert got("model", "quantize", "calibrate") == ["model", "quantize"]  # the model is evaluated unquantized too
    assert got() == []
    whole = there("evaluate")
    one = next(iter(whole))
    del whole[one]
    assert {cell.key for cell in lacking(plan, whole)} == {key for _, key in whole}


def test_a_transfer_that_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = losses(tmp_path / "a", 20)
    here = remote(tmp_path / "a", tmp_path / "remote")
    work, count = Remote._put, iter(range(100))

    def put(self: Remote, file: Path, *parts: str) -> None:
        with self._named():
            if next(count) == 5:
                raise ConnectionResetError("the network is gone")
        work(self, file, *parts)

    monkeypatch.setattr(here._fs, "jobs", 1)
    monkeypatch.setattr(Remote, "_put", put)
    with pytest.raises(UserError, match="remote 'r': the network is gone; what was transferred is kept"):
        here.send(tmp_path / "a", cells)
    arrived = here.cells(STAGES)
    assert 5 <= len(arrived) < 20
    here.send(tmp_path / "a", [cell for cell in cells if ("evaluate", cell.key) not in arrived])
    assert len(here.cells(STAGES)) == 20

    there = remote(tmp_path / "b", tmp_path / "remote")
    got, count = Remote._get, iter(range(100))

    def get(self: Remote, file: Path, *parts: str) -> None:
        with self._named():
            if next(count) == 5:
                file.write_text("half of")
                raise ConnectionResetError("the network is gone")
        got(self, file, *parts)

    monkeypatch.setattr(there._fs, "jobs", 1)
    monkeypatch.setattr(Remote, "_get", get)
    with pytest.raises(UserError, match="the network is gone"):
        there.fetch(tmp_path / "b", cells, there.cells(STAGES))
    brought = stored(present(tmp_path / "b"))
    assert 5 <= len(brought) < 20
    assert len(present(tmp_path / "b")) == len(brought)  # nothing half-written
    assert there.fetch(tmp_path / "b", cells, there.cells(STAGES)) == []
    assert stored(present(tmp_path / "b")) == sorted(cells, key=lambda cell: cell.path)


def test_weights_travel_with_their_model(tmp_path: Path) -> None:
    model = Cell("model", "a" * 32, "mine", ".json")
    folder = put(tmp_path / "a", model).with_suffix("")
    folder.mkdir()
    contents = {"config.json": b"{}", "model.safetensors": b"weights", "README.md": b"read me", "code.py": b"1"}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    here = remote(tmp_path / "a", tmp_path / "remote")
    here.send(tmp_path / "a", [model])
    there = here.cells(STAGES)
    assert there == {("model", model.key): model}
    # It arrives under the name that the model has there.
    own = Cell("model", model.key, "theirs", ".json")
    other = remote(tmp_path / "b", tmp_path / "remote")
    assert other.fetch(tmp_path / "b", [own], there) == []
    assert present(tmp_path / "b") == {
        own.path, f"results/model/theirs/{own.key}/config.json", f"results/model/theirs/{own.key}/model.safetensors"
    }  # fmt: skip
    assert (tmp_path / "b" / own.path).with_suffix("").joinpath("model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize(
    "listing", ['{"../../x.json": "0"}', '{"code.py": "0"}', '{"model.safetensors": "0"}', "[1", '{".x.json": "0"}']
)
def test_a_list_of_files_that_lies_is_refused(tmp_path: Path, listing: str) -> None:
    model = Cell("model", "a" * 32, "mine", ".json")
    folder = put(tmp_path / "a", model).with_suffix("")
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    here = remote(tmp_path / "a", tmp_path / "remote")
    here.send(tmp_path / "a", [model])
    (tmp_path / "remote" / "cells" / "model" / f"{model.name}.files.json").write_text(listing)
    other = remote(tmp_path / "b", tmp_path / "remote")
    assert other.fetch(tmp_path / "b", [model], here.cells(STAGES)) == [model]
    assert present(tmp_path / "b") == set()


def test_damage_does_not_spread(tmp_path: Path) -> None:
    (cell,) = losses(tmp_path / "a", 1)
    path = tmp_path / "a" / cell.path
    path.write_text(json.dumps({**json.loads(path.read_text()), "result": 1}))
    here = remote(tmp_path / "a", tmp_path / "remote")
    with pytest.raises(DamagedArtifactError):
        here.send(tmp_path / "a", [cell])
    assert here.cells(STAGES) == {}
