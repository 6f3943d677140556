"""Mixes in a study: what cells they add, what these share, what a change adds, and what cannot be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bitlaw.errors import UserError
from bitlaw.study.chunks import cut
from bitlaw.study.plan import order
from projects import Project

RANDOM = {"q_ratio": [0.5, 0.9], "granularity": "matmul", "select": "random", "trials": 3}
ORDERED = {"q_ratio": [0.5], "granularity": "layer", "select": "curvature"}


def made(root: Path, *mixes: dict[str, Any], **changes: Any) -> Project:
    return Project(root / "p", mixes=list(mixes), **changes)


def count(project: Project) -> Counter[str]:
    return Counter(artifact.stage for artifact in project.artifacts())


def keys(project: Project) -> set[str]:
    return {artifact.key for artifact in project.artifacts() if artifact.stage not in ("table", "laws", "report")}


def test_what_a_mix_adds(tmp_path: Path) -> None:
    found = count(made(tmp_path, RANDOM, ORDERED, formats=["int4_b64", "int3_b64"]))
    # A random mix is one of the model; an order is one of a format and a method.
    assert found["mix"] == 2 * 3 + 4
    assert found["sensitivity"] == 4
    assert found["quantize"] == 4
    assert found["evaluate"] == 1 + 4 + 4 * (2 * 3 + 1)


def test_no_mixes_change_nothing(tmp_path: Path) -> None:
    with_mixes = made(tmp_path, RANDOM)
    plain = Project(tmp_path / "plain")
    assert keys(plain) < keys(with_mixes)


def test_more_trials_and_shares_only_add_cells(tmp_path: Path) -> None:
    project = made(tmp_path, RANDOM, ORDERED)
    before = keys(project)
    project.study(mixes=[{**RANDOM, "trials": 4, "q_ratio": [0.9, 0.5, 0.25]}, ORDERED])
    assert before < keys(project)
    project.study(mixes=[{**RANDOM, "seed": 1}, ORDERED])
    assert len(before - keys(project)) == 6 + 12  # the mixes, and their cells by two methods


def test_a_high_format_is_quantized_too(tmp_path: Path) -> None:
    project = made(tmp_path, {**ORDERED, "high": "int8_b64"}, methods=["rtn"])
    (cell,) = (one for one in project.artifacts() if "mix" in one.parents)
    assert [one.spec["format"] for one in cell.parents["quantized"]] == ["int4_b64", "int8_b64"]
    (mix,) = cell.parents["mix"]
    assert [mix.parents[role][0].parents["quantized"][0].spec["format"] for role in ("costs", "high")] == [
        "int4_b64",
        "int8_b64",
    ]
    # The format of the rest has no cell of its own.
    assert sum(one.stage == "evaluate" for one in project.artifacts()) == 3


def test_a_mix_may_have_formats_and_methods_of_its_own(tmp_path: Path) -> None:
    project = made(tmp_path, {**RANDOM, "formats": ["mxint{3,4}_b32"], "methods": [{"name": "gptq", "damping": 0.1}]})
    cells = [one for one in project.artifacts() if "mix" in one.parents]
    specs = {(one.parents["quantized"][0].spec["format"], one.parents["quantized"][0].spec["method"]) for one in cells}
    assert specs == {("mxint3_b32", "gptq"), ("mxint4_b32", "gptq")}
    assert all(one.parents["quantized"][0].spec["settings"]["damping"] == 0.1 for one in cells)


SEQUENTIAL = {"name": "gptq", "sequential": True}


@pytest.mark.parametrize(
    ("mixes", "changes", "message"),
    [
        ([{**RANDOM, "select": "randm"}], {}, "unknown selection 'randm'; did you mean 'random'"),
        ([{**RANDOM, "trails": 3}], {}, "unknown key 'trails'; did you mean 'trials'"),
        ([{**RANDOM, "granularity": "layers"}], {}, "unknown granularity 'layers'; did you mean 'layer'"),
        ([{**RANDOM, "q_ratio": [0.5, 1.0]}], {}, "must be less than 1"),
        ([{**RANDOM, "q_ratio": []}], {}, "the list is empty"),
        ([{**RANDOM, "q_ratio": [0.5, 0.5]}], {}, "0.5 is there twice"),
        ([{**RANDOM, "high": "int9_b64"}], {}, "mixes.*high: "),
        ([{**RANDOM, "high": "int{5,6}_b64"}], {}, "one format, not 2"),
        ([{**RANDOM, "high": "int4_b64"}], {}, "'int4_b64' is both the format and the high one"),
        ([{"q_ratio": [0.5], "granularity": "layer"}], {}, "the entry must say its 'select', one of curvature"),
        ([RANDOM, {**RANDOM, "q_ratio": [0.9]}], {}, r"mixes\[1\]: some of its cells are those of an entry before it"),
        ([RANDOM], {"formats": [], "methods": []}, "nothing to mix"),
        ([RANDOM], {"methods": ["rtn", SEQUENTIAL]}, "'gptq' with sequential: true fits each block"),
        ([{**RANDOM, "methods": [SEQUENTIAL]}], {}, "'gptq' with sequential: true fits each block"),
    ],
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path, mixes: list[dict[str, Any]], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        made(tmp_path, *mixes, **changes).plan()
    assert str(caught.value).startswith("studies/small.yaml:")


def test_a_sequential_method_can_stand_beside_mixes_of_others(tmp_path: Path) -> None:
    project = made(tmp_path, {**RANDOM, "methods": ["rtn"]}, methods=["rtn", SEQUENTIAL])
    assert count(project)["evaluate"] == 1 + 2 + 6


@pytest.mark.parametrize("size", [1, 4, 100])
def test_chunks_of_mixed_cells(tmp_path: Path, size: int) -> None:
    project = made(tmp_path, RANDOM, {**ORDERED, "high": "int8_b64"}, {**ORDERED, "select": "output_error"})
    orders = {path: order(artifact) for path, artifact in project.plan().missing.items()}
    chunks = cut(orders, size)
    of: dict[str, str] = {path: chunk.name for chunk in chunks for path in chunk.paths}
    assert len(of) == sum(len(chunk.paths) for chunk in chunks)
    assert {path for path, one in orders.items() if one["stage"] == "evaluate"} == set(of)
    for chunk in chunks:
        assert len(chunk.paths) <= size
        made_before: set[str] = set()
        for path in chunk.paths:
            needed = {parent for group in orders[path]["inputs"].values() for parent in group if parent in orders}
            assert needed <= made_before | set(chunk.waits)
            made_before.add(path)
        # What it waits for is never in a chunk, so that no two can wait for each other.
        assert not set(chunk.waits) & set(of)
    if size == 100:
        assert len(chunks) < 10
