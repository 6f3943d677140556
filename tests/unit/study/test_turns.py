"""Which artifacts are made at once: those that wait for each other's stage, never past one that needs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitlaw.artifacts import read_json, write_json
from bitlaw.errors import UserError
from bitlaw.stage import Job
from bitlaw.study import make as module
from bitlaw.study.make import make_each
from bitlaw.study.turns import in_turn, parents_of


class Alone:
    """A stage that makes one artifact at a time."""

    suffix = ".json"

    def code(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        return ()

    def run(self, job: Job) -> None:
        write_json(job.out, job.header, {"of": "run"})


class Many(Alone):
    """A stage that makes up to three at once."""

    def __init__(self, run: Callable[[Sequence[Job]], None] = lambda jobs: None) -> None:
        self.each = run
        self.sizes: list[int] = []

    def together(self, spec: Mapping[str, Any], inputs: Mapping[str, Sequence[Path]]) -> int:
        return 1 if spec.get("alone") else 3

    def run(self, job: Job) -> None:
        self.run_together([job])

    def run_together(self, jobs: Sequence[Job]) -> None:
        self.sizes.append(len(jobs))
        self.each(jobs)
        for job in jobs:
            write_json(job.out, job.header, {"of": len(jobs)})


STAGES: dict[str, Any] = {"alone": Alone(), "many": Many()}


def order(path: str, stage: str, parents: Sequence[str] = (), model: str = "m", **spec: Any) -> dict[str, Any]:
    """Return an order for ``results/<path>.json``; the model is no artifact here."""
    inputs = {"model": [], "of": [f"results/{one}.json" for one in parents]}
    common = {"payload": f"results/{path}", "key": path, "code": "c0de", "parents": {}, "hints": {"model": model}}
    return {"path": f"results/{path}.json", "stage": stage, "spec": spec, "inputs": inputs, **common}


def names(orders: Sequence[Mapping[str, Any]]) -> list[str]:
    return ["".join(Path(one["path"]).stem for one in group) for group in in_turn(orders, STAGES, Path())]


def test_as_many_as_the_stage_asks_for() -> None:
    assert names([order(name, "many") for name in "abcdefg"]) == ["abc", "def", "g"]
    assert names([order(name, "alone") for name in "abc"]) == ["a", "b", "c"]
    assert names([order("a", "many", alone=True), order("b", "many")]) == ["a", "b"]


def test_others_go_on_meanwhile() -> None:
    pairs = [
        order(f"{n}{one}", one, [f"{n}alone"] if one == "many" else []) for n in "123" for one in ("alone", "many")
    ]
    assert names(pairs) == ["1alone", "2alone", "3alone", "1many2many3many"]


@pytest.mark.parametrize("other", [{"model": "n"}, {"batch": 2}])
def test_those_of_another_model_or_spec_are_not_among_them(other: dict[str, Any]) -> None:
    assert names([order(name, "many", **(other if name in "bdf" else {})) for name in "abcdefg"]) == ["ace", "bdf", "g"]


def test_one_that_is_needed_does_not_wait() -> None:
    orders = [order("a", "many"), order("b", "many"), order("c", "alone", ["b"]), order("d", "many")]
    assert names(orders) == ["ab", "c", "d"]
    # Also where the one that needs it would be among those that wait with it.
    assert names([order("a", "many"), order("b", "many", ["a"])]) == ["a", "b"]


@given(st.data())
def test_each_comes_once_and_after_its_parents(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 12))
    orders = []
    for number in range(count):
        parents = data.draw(st.lists(st.integers(0, number - 1), unique=True, max_size=3)) if number else []
        stage, spec = data.draw(st.sampled_from(["alone", "many"])), data.draw(st.integers(0, 1))
        orders.append(order(str(number), stage, [str(one) for one in parents], batch=spec))
    done: set[str] = set()
    for group in in_turn(orders, STAGES, Path()):
        assert 1 <= len(group) <= 3
        assert len({(one["stage"], one["spec"]["batch"]) for one in group}) == 1
        for one in group:
            assert done.issuperset(parents_of(one)) and one["path"] not in done
        done.update(one["path"] for one in group)
    assert done == {one["path"] for one in orders}


# Making them


Making = Callable[..., tuple[list[str], dict[str, Exception], Many]]


@pytest.fixture
def making(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Making:
    """Return a function that makes orders by a stage that first runs its argument; it returns what was made."""
    monkeypatch.setattr(module, "code_of", lambda stage, spec, strict=False: "c0de")

    def made(run: Callable[[Sequence[Job]], None], *names: str) -> tuple[list[str], dict[str, Exception], Many]:
        stage = Many(run)
        monkeypatch.setattr(module, "STAGES", {"many": stage})
        seen: list[str] = []
        orders = [order(name, "many") for name in names]
        told = make_each(orders, tmp_path, made=lambda one, seconds: seen.append(Path(one["path"]).stem))
        errors = {Path(path).stem: error for path, error in told}
        return seen, errors, stage

    return made


def test_what_is_there_is_left_out(making: Making, tmp_path: Path) -> None:
    seen, errors, stage = making(lambda jobs: None, "b")
    assert (seen, errors, stage.sizes) == (["b"], {}, [1])
    seen, errors, stage = making(lambda jobs: None, "a", "b", "c")
    assert (seen, errors, stage.sizes) == (["a", "c"], {}, [2])
    assert read_json(tmp_path / "results" / "b.json") == {"of": 1}
    assert making(lambda jobs: None, "a", "b", "c")[2].sizes == []


def test_a_mistake_in_one_stops_that_one(making: Making, tmp_path: Path) -> None:
    def run(jobs: Sequence[Job]) -> None:
        if any(job.header.key == "b" for job in jobs):
            raise UserError("wrong", place="here")

    seen, errors, stage = making(run, "a", "b", "c", "d")
    assert (seen, stage.sizes) == (["a", "c", "d"], [3, 1, 1, 1, 1])
    assert {name: str(error) for name, error in errors.items()} == {"b": "results/b.json: here: wrong"}
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["a.json", "c.json", "d.json"]


@pytest.mark.parametrize("error", [MemoryError(), ZeroDivisionError("bug")])
def test_what_is_wrong_with_all_stops_all_of_them(making: Making, tmp_path: Path, error: Exception) -> None:
    def run(jobs: Sequence[Job]) -> None:
        if len(jobs) > 1:
            raise error

    seen, errors, stage = making(run, "a", "b", "c", "d")
    assert (seen, stage.sizes, list(errors)) == (["d"], [3, 1], ["a", "b", "c"])
    if isinstance(error, MemoryError):
        assert all(isinstance(one, UserError) and "memory" in str(one) for one in errors.values())
        assert str(errors["b"]).startswith("results/b.json: ")
    else:
        assert all(one is error for one in errors.values())
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["d.json"]


def test_an_interrupt_leaves_nothing_half_written(making: Making, tmp_path: Path) -> None:
    def run(jobs: Sequence[Job]) -> None:
        write_json(jobs[0].out, jobs[0].header, {})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        making(run, "a", "b", "c")
    assert not list((tmp_path / "results").iterdir())
