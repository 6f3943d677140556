"""From keys to what is missing, and the orders of its jobs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bitlaw.errors import UserError
from bitlaw.study.plan import order, present, read_orders
from projects import Project, counts


def test_what_lies_below_an_existing_artifact_is_not_missed(tmp_path: Path) -> None:
    project = Project(tmp_path / "p")
    project.pretend("evaluate")
    assert [a.stage for a in project.plan().missing.values()] == ["table", "laws", "report"]
    assert counts(project)["quantize"] == (2, 0, 0)
    project.pretend("table", "laws", "report")
    assert not project.plan().missing
    evaluated = next(a for a in project.artifacts() if a.label.endswith("-gptq") and a.stage == "evaluate")
    (project.root / project.plan().grid.table.path).unlink()
    (project.root / evaluated.path).unlink()
    missing = [(a.stage, a.label) for a in project.plan().missing.values()]
    cell = "gpt2-0.1m/int4_b64-gptq"
    assert missing == [
        ("model", "gpt2-0.1m"),
        ("calibrate", "gpt2-0.1m/words"),
        ("factorize", "gpt2-0.1m/words"),
        ("quantize", cell),
        ("evaluate", cell),
        ("table", ""),
    ]


def test_only_results_count_as_present(tmp_path: Path) -> None:
    project = Project(tmp_path / "p")
    assert present(project.root) == set()
    project.pretend("model")
    (model,) = present(project.root)
    assert model.startswith("results/model/gpt2-0.1m/") and model.endswith(".json")


def test_orders_hold_what_a_job_needs(tmp_path: Path) -> None:
    project = Project(tmp_path / "p")
    plan = project.plan()
    orders = read_orders(plan.write())
    assert list(orders) == list(plan.missing)
    for path, artifact in plan.missing.items():
        found = orders[path]
        assert found == json.loads(json.dumps(order(artifact)))
        assert (
            found["path"] == path == f"results/{artifact.stage}/{artifact.label}/".replace("//", "/") + Path(path).name
        )
        assert Path(path).stem == found["key"] == Path(found["payload"]).name
        assert {role: len(paths) for role, paths in found["inputs"].items()} == {
            role: len(found_keys) for role, found_keys in found["parents"].items()
        }
        if artifact.stage in ("model", "calibrate", "factorize", "quantize", "evaluate"):
            assert Path(found["hints"]["model"]["pretrained"]).is_dir()
        if artifact.stage in ("calibrate", "evaluate"):
            text = Path(found["hints"]["text"])
            assert text.stem == found["spec"]["text"]["sha256"]
            assert text.read_text() == (project.root / "words.txt").read_text()


def test_the_plan_file_is_the_same_for_the_same_plan(tmp_path: Path) -> None:
    project = Project(tmp_path / "p")
    first = project.plan().write()
    data = first.read_bytes()
    assert project.plan().write() == first
    assert first.read_bytes() == data
    assert first.parent == project.root / ".bitlaw" / "plans"
    project.pretend("model")
    assert project.plan().write() != first


def test_missing_parents(tmp_path: Path) -> None:
    project = Project(tmp_path / "p")
    project.pretend("model")
    plan = project.plan()
    cell = next(p for p, a in plan.missing.items() if (a.stage, a.label) == ("quantize", "gpt2-0.1m/int4_b64-gptq"))
    assert [Path(path).parts[1] for path in plan.missing_parents(cell)] == ["factorize"]


def test_a_broken_plan_file_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such plan file"):
        read_orders(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="not a plan file"):
        read_orders(tmp_path / "a.jsonl")
