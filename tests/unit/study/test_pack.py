"""`bitlaw pack`: how cells were made and what they took, beside the table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import synthetic
from bitlaw import __version__
from bitlaw.artifacts import write_json, write_table, write_tensors
from bitlaw.cli.main import main
from bitlaw.reference import shipped
from bitlaw.stage import Header
from bitlaw.study import pack
from bitlaw.study.artifact import Artifact
from bitlaw.study.seconds import Seconds
from bitlaw.table import UNQUANTIZED, frame
from projects import Project

WITH = {"torch": "2.9", "transformers": "5.1", "bitlaw": "0.1", "device": "a GPU"}
SECONDS = {"model": 100.0, "calibrate": 6.0, "factorize": 4.0, "quantize": 2.0, "evaluate": 1.0, "landscape": 3.0}


def header(artifact: Artifact) -> Header:
    keys = {role: [one.key for one in group] for role, group in artifact.parents.items()}
    return Header(artifact.stage, artifact.key, artifact.spec, keys, artifact.code, WITH)


def put(root: Path, artifact: Artifact, result: Any = None) -> None:
    """Write ``artifact`` as if it had been made."""
    path = root / artifact.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        write_json(path, header(artifact), {} if result is None else result)
    else:
        write_tensors(path, header(artifact), {"a": torch.zeros(1)}, {})


def ran(root: Path, seconds: Mapping[str, float], without: tuple[str, ...] = (), **changes: Any) -> Project:
    """Return a project that looks as if its study had been run; artifacts of the stages ``without`` are not kept."""
    project = Project(root, **changes)
    grid = project.plan().grid
    radial = {"gaussian": {"r_db": [-20.0, -10.0], "delta_nll": [[0.1, 1.0], [0.2, 2.0]], "step": {"height": 4.0}}}
    with Seconds(root) as log:
        for artifact in grid.artifacts:
            if artifact.stage in SECONDS and artifact.stage not in without:
                put(root, artifact, {"radial": radial} if artifact.stage == "landscape" else None)
            if artifact.stage in seconds:
                log.add({"path": artifact.path, "stage": artifact.stage}, seconds[artifact.stage])
    rows = []
    for artifact, labels in zip(grid.table.parents["cells"], grid.table.spec["rows"], strict=True):
        baseline = labels["format"] == UNQUANTIZED
        values = (
            {} if baseline else {"format": labels["format"], "method": labels["method"], "nll": 4.5, "delta_nll": 0.5}
        )
        rows.append(synthetic.row(**values, model=labels["model"], text=labels["text"], key=artifact.key))
    path = root / grid.table.path
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(path, header(grid.table), frame(rows))
    return project


def test_what_cells_share_is_shared_out_and_nothing_is_counted_twice(tmp_path: Path) -> None:
    table = pack.results(ran(tmp_path, SECONDS).plan(), dollars_per_hour=3600.0)
    found = dict(zip(table["method"], table["seconds"], strict=True))
    assert found == {"none": 1.0, "rtn": 3.0, "gptq": 13.0}  # calibration and factors are those of one cell
    assert list(table["dollars"]) == list(table["seconds"])
    assert set(table["device"]) == {"a GPU"} and set(table["torch"]) == {"2.9"}


def test_two_texts_share_weights_and_a_model_its_landscape(tmp_path: Path) -> None:
    text = {"source": "file", "path": "words.txt"}
    texts = [{"text": text, "name": name, "window": 32, "max_tokens": 200} for name in ("a", "b")]
    project = ran(tmp_path, SECONDS, evaluation=texts, landscape={"along": ["random"]}, methods=["rtn"])
    table = pack.results(project.plan())
    assert table["seconds"].sum() == pytest.approx(4 * 1.0 + 2.0 + 3.0)
    own = table.set_index(["method", "text"])["seconds"]
    assert own["rtn", "a"] == own["rtn", "b"] == 1.0 + 2.0 / 2 + 3.0 / 4
    assert table["dollars"].isna().all()
    points = pack.profiles(project.plan())
    assert points is not None and points["delta_nll"].tolist() == [0.1, 1.0, 0.2, 2.0]


def test_weights_that_were_kept_in_memory_and_times_that_are_not_known(tmp_path: Path) -> None:
    table = pack.results(ran(tmp_path / "a", SECONDS, without=("quantize",)).plan())
    assert dict(zip(table["method"], table["seconds"], strict=True)) == {"none": 1.0, "rtn": 3.0, "gptq": 13.0}
    less = {stage: second for stage, second in SECONDS.items() if stage != "quantize"}
    table = pack.results(ran(tmp_path / "c", less).plan())
    assert dict(zip(table["method"], table["seconds"], strict=True)) == {"none": 1.0, "rtn": 1.0, "gptq": 11.0}
    old = pack.results(ran(tmp_path / "b", {"quantize": 2.0}).plan())
    assert old["seconds"].isna().all()


def test_the_command_writes_what_there_is_the_same_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = ran(tmp_path / "project", SECONDS, landscape={"along": ["random"]})
    model = project.root / next(a.payload for a in project.artifacts() if a.stage == "model")
    model.mkdir(parents=True)
    (model / pack.RECIPE).write_text('{"curve": [[1000, 5.5], [2000, 4.5]], "n_tokens": 2000}')
    for name in ("one", "two"):
        assert main(["pack", "--root", str(project.root), "--to", str(tmp_path / name)]) == 0
    said = capsys.readouterr().out
    assert "wrote 3 cells" in said and "curves.parquet" in said
    for name in (shipped.RESULTS, shipped.LANDSCAPE, shipped.CURVES):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    curve = shipped.read(tmp_path / "one" / shipped.CURVES)
    assert curve["tokens"].tolist() == [1000, 2000] and np.allclose(curve["loss"], [5.5, 4.5])
    assert set(curve["model"]) == {"gpt2-0.1m"}


@pytest.mark.parametrize(
    ("without", "price", "said"),
    [(("evaluate",), "1", "not there"), ((), "0", "a price is above zero"), ((), "-1", "a price is above zero")],
)
def test_what_cannot_be_packed_is_one_line(
    without: tuple[str, ...], price: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = ran(tmp_path / "project", SECONDS, without=without)
    to = tmp_path / "to"
    assert main(["pack", "--root", str(project.root), "--to", str(to), "--dollars-per-hour", price]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not to.exists()


def test_sources_that_know_no_version_made_what_this_version_plans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(pack.results(ran(tmp_path / "a", SECONDS).plan())["bitlaw"]) == {"0.1"}
    monkeypatch.delitem(WITH, "bitlaw")
    assert set(pack.results(ran(tmp_path / "b", SECONDS).plan())["bitlaw"]) == {__version__}


def test_a_study_without_results_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Project(tmp_path)
    assert main(["pack", "--root", str(tmp_path)]) == 2
    assert "no results yet" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[]", '{"curve": [[1]]}', '{"curve": [["a", 1]]}', "{"])
def test_a_recipe_that_is_none_is_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = ran(tmp_path / "project", SECONDS)
    model = project.root / next(a.payload for a in project.artifacts() if a.stage == "model")
    model.mkdir(parents=True)
    (model / pack.RECIPE).write_text(text)
    assert main(["pack", "--root", str(project.root), "--to", str(tmp_path / "to")]) == 2
    assert "no recipe of a training" in capsys.readouterr().err
