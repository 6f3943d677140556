"""How rows become chunks: never across models, what rows share apart, each artifact once."""

from __future__ import annotations

from pathlib import Path

import pytest

from bitlaw.study.chunks import SHARED, cut
from bitlaw.study.plan import order
from projects import Project

TWO = [{"source": "zoo", "name": ["gpt2-0.1m", "llama-0.1m"]}]


def project(root: Path) -> Project:
    return Project(root / "p", models=TWO, formats=["int{3..6}_b64"], methods=["rtn", "gptq"])


def orders_of(project: Project) -> dict[str, dict[str, object]]:
    return {path: order(artifact) for path, artifact in project.plan().missing.items()}


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_chunks_hold_every_row_once(tmp_path: Path, size: int) -> None:
    orders = orders_of(project(tmp_path))
    chunks = cut(orders, size)
    rows = [path for path, one in orders.items() if one["stage"] in ("quantize", "evaluate")]
    assert sorted(path for chunk in chunks for path in chunk.paths) == sorted(rows)
    assert len({chunk.name for chunk in chunks}) == len(chunks)
    for chunk in chunks:
        assert sum("/evaluate/" in path for path in chunk.paths) <= size
        assert {path.split("/")[2] for path in chunk.paths} == {chunk.name.split("/")[0]}


def test_what_a_chunk_needs_is_in_it_before_or_waited_for(tmp_path: Path) -> None:
    orders = orders_of(project(tmp_path))
    for chunk in cut(orders, 3):
        made: set[str] = set()
        for path in chunk.paths:
            for group in orders[path]["inputs"].values():  # type: ignore[attr-defined]
                assert {parent for parent in group if parent in orders} <= made | set(chunk.waits)
            made.add(path)
        assert {orders[path]["stage"] for path in chunk.waits} <= set(SHARED)


def test_rows_that_wait_for_less_are_not_held_up(tmp_path: Path) -> None:
    orders = orders_of(project(tmp_path))
    chunks = cut(orders, 100)
    # Of each model: the loss unquantized and RTN's rows, which wait for the model, and GPTQ's, which need factors too.
    assert [chunk.name for chunk in chunks] == [f"{m}/0000{i}" for m in ("gpt2-0.1m", "llama-0.1m") for i in (1, 2)]
    for chunk in chunks:
        stages = {str(orders[path]["stage"]) for path in chunk.waits}
        assert stages == ({"model"} if chunk.name.endswith("1") else {"model", "factorize"})
        assert len(chunk.paths) == (9 if chunk.name.endswith("1") else 8)


def test_only_what_is_missing_is_cut(tmp_path: Path) -> None:
    small = project(tmp_path)
    small.pretend("model", "calibrate", "factorize", "quantize")
    chunks = cut(orders_of(small), 4)
    assert all("/evaluate/" in path for chunk in chunks for path in chunk.paths)
    assert [len(chunk.paths) for chunk in chunks] == [4, 4, 1, 4, 4, 1]
    assert all(chunk.waits == () for chunk in chunks)
    small.pretend("evaluate")
    assert cut(orders_of(small), 4) == []


def test_a_cells_landscape_is_in_its_row(tmp_path: Path) -> None:
    landscape = {"along": ["curvature", "error"], "error_points": 0}
    orders = orders_of(Project(tmp_path / "p", models=TWO, formats=["int4_b64"], methods=["rtn"], landscape=landscape))
    whole = [["evaluate"], ["evaluate", "landscape", "quantize"], ["landscape"]]
    stages = [sorted(str(orders[path]["stage"]) for path in chunk.paths) for chunk in cut(orders, 1)]
    assert sorted(stages) == sorted(2 * whole)
