"""The stages predictor and claims: in the graph if the study asks for them, and on the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import synthetic
from bitlaw.artifacts import read_json, write_table
from bitlaw.report.page import page
from bitlaw.stage import Header, Job
from bitlaw.stages import STAGES
from projects import Project


def made(tmp_path: Path, stage: str, table: pd.DataFrame) -> dict[str, Any]:
    """Return what ``stage`` writes for ``table``."""
    head = Header("table", "0" * 32, {}, {}, "")
    write_table(tmp_path / "table.parquet", head, table)
    header = Header(stage, "1" * 32, {"seed": 0}, {"table": ["0" * 32]}, "")
    STAGES[stage].run(Job(header, {"table": (tmp_path / "table.parquet",)}, tmp_path / "out.json", tmp_path / "more"))
    found: dict[str, Any] = read_json(tmp_path / "out.json")
    return found


def test_they_are_made_if_the_study_asks(tmp_path: Path) -> None:
    without, asked = Project(tmp_path / "a"), Project(tmp_path / "b", predictor=True, claims=True)
    assert not {"predictor", "claims"} & {artifact.stage for artifact in without.artifacts()}
    grid = asked.plan().grid
    assert grid.predictor is not None and grid.claims is not None
    assert list(grid.final) == ["table", "laws", "predictor", "claims", "report"]
    assert {grid.predictor.path, grid.claims.path} <= set(asked.plan().missing)
    assert set(grid.report.parents) == {"table", "laws", "predictor", "claims"}
    asked.pretend("table")
    missing = {artifact.stage for artifact in asked.plan().missing.values()}
    assert missing == {"laws", "predictor", "claims", "report"}


@pytest.mark.parametrize("rows", [225, 3])
def test_what_they_write_is_shown(tmp_path: Path, rows: int) -> None:
    table = synthetic.table(noise=0.05).head(rows)
    more = {stage: made(tmp_path, stage, table) for stage in ("predictor", "claims")}
    text = page(
        synthetic.table(noise=0.05),
        synthetic.laws(synthetic.table(noise=0.05), bootstraps=2),
        title="t",
        study="s",
        keys={},
        more=more,
    )
    assert '<section id="predictor">' in text and '<section id="claims">' in text
    if rows == 3:
        assert "too few" in more["predictor"]["evaluations"][0]["refused"]["table"]
        assert more["claims"]["refused"] is not None and not more["claims"]["claims"]
        assert "No prediction" in text and "Not tested" in text
    else:
        assert "Predicted and measured, family left out" in text and "Smaller blocks help" in text
        assert made(tmp_path, "claims", table) == more["claims"]
