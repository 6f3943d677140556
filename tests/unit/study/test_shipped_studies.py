"""The studies that ship: the papers' grids, and the same on the embedded models."""

from __future__ import annotations

import re
import time

import pytest

from bitlaw.study.grid import expand
from bitlaw.study.load import load_study
from projects import REPOSITORY

PAPERS = ("kbit", "mx", "mixed")


@pytest.mark.parametrize("name", PAPERS)
def test_models_of_the_hub_stand_at_commits(name: str) -> None:
    """A branch that moves is refused when a study is read; tags other than Pythia's checkpoints are none here."""
    models = load_study(REPOSITORY, name).study.models
    assert len(models) >= 15
    for model in models:
        assert model.source == "hub"
        assert re.fullmatch("[0-9a-f]{40}|step143000", model.revision)
        assert (model.revision == "step143000") == model.repo.startswith("EleutherAI/pythia")
    assert len({model.repo for model in models}) == len(models)


def test_the_grids_of_the_papers() -> None:
    kbit, mx, mixed = (load_study(REPOSITORY, name).study for name in PAPERS)
    assert len(mx.formats) == 36
    assert [(one.name, getattr(one, "whole_block", None)) for one in mx.methods] == [("rtn", None), ("gptq", True)]
    plain = [name for name in kbit.formats if not name.endswith("_centered")]
    assert len(plain) == 4 * 6 * 6  # data types, bits 3 to 8, blocks 64 to 1024 and none
    assert len(kbit.formats) - len(plain) == 4 * 6
    assert {one.name for one in kbit.methods} == {"rtn", "proxy", "gptq"}
    trials = {mix.trials for mix in mixed.mixes if mix.select == "random"}
    shares = {
        mix.granularity: mix.q_ratio for mix in mixed.mixes if mix.select == "random" and mix.formats == ("mxint4_b32",)
    }
    assert trials == {50}
    assert shares == {"matmul": (0.5, 0.9, 0.95, 0.975, 0.99), "layer": (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)}


@pytest.mark.parametrize("name", PAPERS)
def test_the_same_grid_on_the_zoo(name: str) -> None:
    full, zoo = load_study(REPOSITORY, name).study, load_study(REPOSITORY, name, "zoo")
    assert (zoo.study.formats, zoo.study.methods, zoo.study.mixes) == (full.formats, full.methods, full.mixes)
    assert [model.source for model in zoo.study.models] == ["zoo"]
    begin = time.process_time()
    grid = expand(zoo)
    keys = {artifact.key for artifact in grid.artifacts}
    # A few seconds when nothing else runs: it is the planning of up to 26,000 cells.
    assert time.process_time() - begin < 20
    assert len(keys) == len(grid.artifacts)
    cells = sum(artifact.stage == "evaluate" for artifact in grid.artifacts)
    assert cells == {"kbit": 15 * (1 + 168 * 3), "mx": 15 * (1 + 72), "mixed": 26_145}[name]
