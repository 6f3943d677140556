"""``bitlaw figure``: the picture of a study's table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest

import synthetic
from bitlaw.artifacts import write_table
from bitlaw.cli.main import main
from bitlaw.stage import Header
from projects import Project

if TYPE_CHECKING:
    from pathlib import Path


def with_results(root: Path, table: pd.DataFrame) -> Path:
    project = Project(root)
    path = root / project.plan().grid.table.path
    path.parent.mkdir(parents=True)
    write_table(path, Header("table", "t", {}, {}, "c"), table)
    return root


def test_a_png_and_an_svg_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = with_results(tmp_path / "project", synthetic.table(families=("opt",)))
    png, svg = tmp_path / "new" / "a.png", tmp_path / "a.svg"
    assert main(["figure", str(png), "--root", str(root)]) == 0
    assert main(["figure", str(svg), "--root", str(root)]) == 0
    assert capsys.readouterr().out == f"drew {png}\ndrew {svg}\n"
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    drawn = svg.read_text("utf-8")
    assert "What quantization costs" in drawn and "GPTQ" in drawn and "mxint" in drawn
    assert main(["figure", str(tmp_path / "b.svg"), "--root", str(root)]) == 0
    assert (tmp_path / "b.svg").read_text("utf-8") == drawn


@pytest.mark.parametrize(
    ("file", "formats", "said"),
    [
        ("a.pdf", synthetic.FORMATS, "a picture ends in .png or .svg"),
        ("a.png", (), "quantizes nothing"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    file: str,
    formats: tuple[tuple[str, int, str], ...],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = with_results(tmp_path / "project", synthetic.table(families=("opt",), formats=formats))
    assert main(["figure", str(tmp_path / file), "--root", str(root)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / file).exists()


def test_a_study_without_results_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Project(tmp_path)
    assert main(["figure", "a.png", "--root", str(tmp_path)]) == 2
    assert "no results yet" in capsys.readouterr().err


def test_total_bits_are_drawn_from_any_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = synthetic.table(families=("opt", "bloom"))
    other = table.assign(text="other", key="other" + table["key"])
    pd.concat([table, other]).to_parquet(tmp_path / "table.parquet")
    drawn = tmp_path / "a.svg"
    words = ["figure", str(drawn), "--of", "total-bits", "--table", str(tmp_path / "table.parquet")]
    assert main([*words, "--text", "other"]) == 0
    text = drawn.read_text("utf-8")
    assert "At a given size, how many bits?" in text and "on other" in text and "bloom" in text
    for wrong, said in (("--text", "no text 'x'"), ("--of", "x")):
        assert main([*words, wrong, "x"]) == 2
        error = capsys.readouterr().err
        assert said.split()[-1] in error and error.count("\n") == 1
