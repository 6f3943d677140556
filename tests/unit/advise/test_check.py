"""The protocol on the published tables: large models, advised on from small ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bitlaw.advise import check as module
from bitlaw.advise.check import FROM, KNOWN_UP_TO, WANTED, check, markdown
from bitlaw.predictor.training import shipped

PAGE = Path(__file__).resolve().parents[3] / "docs" / "advise.md"


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return check()


def test_the_recommendation_is_near_the_best(found: dict[str, Any]) -> None:
    assert found["share"] >= WANTED and found["share_all"] >= WANTED and found["share_across"] >= WANTED
    cases = {(one["evaluation"], one["model"]): one["cases"] for one in found["groups"]}
    assert {model for _, model in cases} == {"opt-30b", "opt-66b", "opt-175b", "bloom-176b"}
    assert cases["wikitext-2@2048", "opt-30b"] == 6 and sum(cases.values()) >= 40


def test_the_page_has_this_table(found: dict[str, Any]) -> None:
    assert markdown(found) in PAGE.read_text("utf-8")


def test_nothing_of_larger_models_is_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses of larger models are made up: the recommendations, and so what is predicted, stay the same."""
    seen: list[list[tuple[str, str, float]]] = []
    real = module._predicted

    def spy(known: pd.DataFrame, *rest: Any) -> Any:
        assert float(known["n_total"].max()) <= KNOWN_UP_TO < FROM
        cells = real(known, *rest)
        seen.append([(one.known.name, f"{one.format} {one.method}", one.nll) for one in cells])
        return cells

    monkeypatch.setattr(module, "_predicted", spy)
    monkeypatch.setattr(module, "EVALUATIONS", ("wikitext-2@2048",))
    monkeypatch.setattr(module, "_across", lambda *_: [])
    table = shipped()
    large = (table["n_total"].astype("float64") > KNOWN_UP_TO).fillna(False)
    assert large.sum() > 100
    for factor in (1.0, 3.0):
        changed = table.copy()
        for column in ("nll", "delta_nll", "baseline_nll"):
            changed.loc[large, column] = factor * changed.loc[large, column]
        monkeypatch.setattr(module, "shipped", lambda changed=changed: changed)
        check()
    assert seen[0] == seen[1] and seen[0]


def test_a_wrong_recommendation_is_counted() -> None:
    case = module._Case(0.02, 0.0)
    counted = module._counted([case, module._Case(0.0, 0.5), module._Case(0.01, 0.01)])
    assert counted == {"cases": 3, "best": 1, "within": 2, "worst": 0.02, "naive": 2}
