"""``bitlaw report``: the page of a table alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import synthetic
from bitlaw.cli.main import main
from bitlaw.reference import shipped


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = synthetic.table(families=("opt",), formats=(("int", 4, "64"), ("int", 3, "64")))
    shipped.write(tmp_path / shipped.RESULTS, rows.assign(seconds=1.0))
    points = [(name, "filter", 0, r, 10 ** (r / 10), 4.0) for name in ("x", rows["model"][0]) for r in (-20.0, 0.0)]
    columns = ["model", "kind", "direction", "r_db", "delta_nll", "height"]
    shipped.write(tmp_path / shipped.LANDSCAPE, pd.DataFrame(points, columns=columns))
    return tmp_path / shipped.RESULTS


def test_a_page_with_laws_claims_landscapes_and_figures(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--table", str(table), "--law", "kumar", "--bootstraps", "5", "--title", "One <table>"]
    assert main(["report", str(tmp_path / "a"), *words]) == 0
    assert f"wrote {tmp_path / 'a' / 'index.html'} and " in capsys.readouterr().out
    html = (tmp_path / "a" / "index.html").read_text("utf-8")
    assert "<h1>One &lt;table&gt;</h1>" in html
    for section in ("laws", "claims", "predictor", "landscape", "results"):
        assert f'<section id="{section}">' in html
    pictures = sorted(path.name for path in (tmp_path / "a" / "figures").glob("*.svg"))
    assert "landscape-opt.svg" in pictures


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--law", "kumr"), "unknown law 'kumr'; did you mean 'kumar'?"),
        (("--table", "no.parquet"), "no such table"),
        (("--table", "published"), "published results were not measured alike"),
    ],
)
def test_mistakes_are_one_line(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not (tmp_path / "out").exists()
